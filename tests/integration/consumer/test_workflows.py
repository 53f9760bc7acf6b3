"""Workflows: what follows a job begins when that is done, once, whatever fails in between."""

from __future__ import annotations

import asyncio
import random
from datetime import date
from typing import Any

import pytest

from headrace import (
    CURRENT,
    RESULT,
    Backoff,
    Context,
    Dag,
    Headrace,
    InvalidArguments,
    InvalidJob,
    InvalidSetting,
    JobCancelled,
    JobFailed,
    QueueFull,
    ResultTimeout,
    Workflow,
    chain,
    chord,
    group,
)
from headrace.doctor import dead_letters
from headrace.keys import WORKFLOWS, keys_of
from headrace.scripts import script
from headrace.store import AsyncStore, Store
from headrace.workflows.duty import Workflows
from headrace.workflows.keys import unfinished_of, workflow_keys
from headrace.workflows.starting import MAX_RESULTS
from tests.integration.transitions.driver import Driver
from tests.support.consuming import QUICK, Site
from tests.support.proxy import Fault, Proxy
from tests.support.wait import WAIT_S, await_until


class Tasks:
    """The tasks of these tests, and what they did."""

    def __init__(self, app: Headrace) -> None:
        self.runs: list[tuple[str, Any]] = []

        @app.task
        async def add(a: int, b: int = 1) -> int:
            self.runs.append(("add", (a, b)))
            return a + b

        @app.task
        def total(numbers: list[Any]) -> Any:
            self.runs.append(("total", numbers))
            return sum(n for n in numbers if isinstance(n, int))

        @app.task(max_attempts=1)
        async def broken(n: int) -> int:
            self.runs.append(("broken", n))
            if self.mended:
                return n
            raise ConnectionError(f"no {n}")

        @app.task
        async def after(*args: Any) -> None:
            self.runs.append(("after", args))

        self.add, self.total, self.broken, self.after = add, total, broken, after
        self.mended = False

    def of(self, name: str) -> list[Any]:
        return [what for whose, what in self.runs if whose == name]


@pytest.fixture
def tasks(site: Site) -> Tasks:
    return Tasks(site.app)


async def over(site: Site, flow: Workflow, state: str = "done") -> None:
    async def is_over() -> bool:
        return (await flow.astatus()).state == state

    await await_until(is_over, what=f"the workflow is {state}")
    if state == "done":
        assert site.redis.zcard(unfinished_of(keys_of(flow.queue))) == 0


def lose(site: Site, job_id: str) -> None:
    """Let a consumer lose a job that it runs: another had it, and that one is gone."""
    _, job = site.state().claims[job_id]
    site.redis.hset(site.k.claims, job_id, b"gone:1 " + job)
    site.redis.zadd(site.k.leases, {job_id: 1}, xx=True)


async def redrive(store: AsyncStore, site: Site) -> int:
    return await store.follow(dead_letters.redrive(site.k, lambda _: True, lambda _: None))


async def test_each_step_of_a_chain_gets_the_result_of_the_one_before(
    site: Site, tasks: Tasks
) -> None:
    flow = await chain(
        tasks.add.call(1, 2), tasks.add.call(RESULT, 10), tasks.add.call(5, b=RESULT)
    ).aenqueue()
    async with site.consumer():
        assert await flow.aresult(WAIT_S) == 18
        await over(site, flow)
    assert tasks.of("add") == [(1, 2), (3, 10), (5, 13)]


async def test_a_step_need_not_take_what_the_one_before_gives(site: Site, tasks: Tasks) -> None:
    flow = await chain(tasks.add.call(1), tasks.after.call("x")).aenqueue()
    async with site.consumer():
        assert await flow.aresult(WAIT_S) is None
    assert tasks.of("after") == [("x",)]


async def test_a_chord_calls_back_once_with_all_results_in_order(site: Site, tasks: Tasks) -> None:
    flow = (
        await group(tasks.add.call(n, n) for n in range(50))
        .then(tasks.total.call(RESULT))
        .aenqueue()
    )
    async with site.consumer(concurrency=8):
        assert await flow.aresult(WAIT_S) == sum(2 * n for n in range(50))
        await over(site, flow)
    assert tasks.of("total") == [[2 * n for n in range(50)]]
    assert site.counters() == {"enqueued": 51, "done": 51}


async def test_a_group_returns_the_results_of_all(site: Site, tasks: Tasks) -> None:
    flow = await group(
        tasks.add.call(1, 1), chain(tasks.add.call(2), tasks.add.call(RESULT))
    ).aenqueue()
    async with site.consumer():
        assert await flow.aresult(WAIT_S) == [2, 4]


async def test_groups_may_follow_groups(site: Site, tasks: Tasks) -> None:
    first = group(tasks.add.call(n) for n in range(3))
    second = group(tasks.total.call(RESULT), tasks.after.call("beside"))
    flow = await chain(first, second, tasks.after.call(RESULT, "last")).aenqueue()
    async with site.consumer():
        await flow.aresult(WAIT_S)
    assert tasks.of("total") == [[1, 2, 3]]
    assert tasks.of("after") == [("beside",), ([6, None], "last")]


async def test_in_a_graph_each_step_says_for_whom_it_waits(site: Site, tasks: Tasks) -> None:
    dag = Dag()
    one, two = dag.add(tasks.add.call(1)), dag.add(tasks.add.call(10))
    both = dag.add(tasks.add.call(two.result, one.result))
    dag.add(tasks.after.call(both.result, RESULT), after=[one, both])
    flow = await dag.aenqueue()
    async with site.consumer():
        await flow.aresult(WAIT_S)
    assert tasks.of("after") == [(13, [2, 13])]


async def test_members_go_to_the_queues_of_their_tasks(site: Site, tasks: Tasks) -> None:
    there = tasks.add.options(queue="other", priority=3)
    steps = group(tasks.add.call(1), there.call(2)).then(
        tasks.total.options(queue="third").call(RESULT)
    )
    flow = await steps.aenqueue()
    async with site.consumer(queues=f"{site.k.queue},other,third"):
        assert await flow.aresult(WAIT_S) == 5
    assert flow.queue == site.k.queue
    assert site.redis.smembers(WORKFLOWS) == {b"queue", b"other", b"third"}


async def test_what_is_filled_in_is_converted(site: Site) -> None:
    seen: list[date] = []

    @site.app.task
    def day(n: int) -> date:
        return date(2026, 1, n)

    @site.app.task
    def note(day: date) -> date:
        seen.append(day)
        return day

    flow = await chain(day.call(7), note.call(RESULT)).aenqueue()
    async with site.consumer():
        assert await flow.aresult(WAIT_S) == date(2026, 1, 7)
    assert seen == [date(2026, 1, 7)]


async def test_a_large_group_has_few_keys_and_a_window(site: Site, tasks: Tasks) -> None:
    flow = (
        await group(tasks.add.call(n) for n in range(2_500))
        .then(tasks.after.call())
        .aenqueue(window=7)
    )
    assert site.redis.llen(site.k.pending) == 7
    assert site.redis.dbsize() < 15
    async with site.consumer(concurrency=50):
        await flow.aresult(WAIT_S)
    assert sorted(a for a, _ in tasks.of("add")) == list(range(2_500))
    assert tasks.of("after") == [()]
    await over(site, flow)


async def test_a_dead_member_stops_what_waits_for_it_until_it_is_redriven(
    site: Site, store: AsyncStore, tasks: Tasks
) -> None:
    flow = (
        await group(tasks.add.call(1), tasks.broken.call(2))
        .then(tasks.total.call(RESULT))
        .aenqueue()
    )
    async with site.consumer():
        with pytest.raises(JobFailed, match="max_attempts"):
            await flow.aresult(WAIT_S)
        await site.drained()
        status = await flow.astatus()
        assert (status.state, status.total, status.ended) == ("failed", 3, 1)
        (member,) = status.failed
        assert (member.n, member.queue, member.reason) == (1, site.k.queue, "max_attempts")
        assert member.job_id == site.letters()[0]["id"]
        tasks.mended = True
        assert await redrive(store, site) == 1
        await over(site, flow)
        assert await flow.aresult(WAIT_S) == 4
    assert (await flow.astatus()).failed == ()
    assert tasks.of("total") == [[2, 2]]


async def test_dead_members_leave_their_room_in_the_window_to_others(
    site: Site, store: AsyncStore, tasks: Tasks
) -> None:
    members = [tasks.broken.call(1), tasks.broken.call(2), tasks.add.call(3), tasks.add.call(4)]
    flow = await group(members).aenqueue(window=1)
    async with site.consumer():
        await await_until(lambda: len(tasks.of("add")) == 2)
        await site.drained()  # the second has begun, and is to be settled
        status = await flow.astatus()
        assert (status.state, status.running, len(status.failed)) == ("failed", 0, 2)
        tasks.mended = True
        await redrive(store, site)
        await over(site, flow)
        assert await flow.aresult(WAIT_S) == [1, 2, 4, 5]
    assert (await flow.astatus()).running == 0


async def test_if_wished_it_goes_on_with_errors_in_place_of_results(
    site: Site, store: AsyncStore, tasks: Tasks
) -> None:
    steps = chord([tasks.add.call(1), tasks.broken.call(2)], tasks.total.call(RESULT))
    flow = await steps.aenqueue(on_failure="continue")
    async with site.consumer():
        assert await flow.aresult(WAIT_S) == 2
        ((good, bad),) = tasks.of("total")
        assert (
            good == 2
            and bad["error"]["reason"] == "max_attempts"
            and "no 2" in bad["error"]["message"]
        )
        assert [one.n for one in (await flow.astatus()).failed] == [1]
        tasks.mended = True
        await redrive(store, site)  # what was counted is not counted again
        await site.drained()
    assert len(tasks.of("total")) == 1


async def crashed(site: Site, member: str) -> None:
    """Make a dead letter of a waiting job, as the leader does of one whose consumers were lost."""
    store = Store(site.url)
    driver = Driver(store, site.redis, site.k.queue)
    held = driver.claim(1)
    assert member.encode() in held[0]
    site.leases_run_out()
    assert driver.reclaim(max_crashes=1).died == 1
    store.close()


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
async def test_a_member_that_crashes_too_often_is_seen(
    site: Site, store: AsyncStore, tasks: Tasks, on_failure: Any
) -> None:
    steps = group([tasks.add.call(1)]).then(tasks.after.call(RESULT))
    flow = await steps.aenqueue(on_failure=on_failure)
    await crashed(site, flow.id)
    assert (await flow.astatus()).state == "running"
    duty = Workflows(store)
    for _ in range(2):
        duty.begin()  # another leader finds it again
        await duty.turn(await store.run(duty.look()))
    status = await flow.astatus()
    assert [(one.n, one.reason) for one in status.failed] == [(0, "crashed")]
    async with site.consumer():
        if on_failure == "stop":
            assert status.state == "failed"
            await redrive(store, site)
        await over(site, flow)
    ((first,),) = tasks.of("after")
    assert first == [2] if on_failure == "stop" else first[0]["error"]["reason"] == "crashed"


async def test_when_all_are_over_nobody_looks_any_more(
    site: Site, store: AsyncStore, tasks: Tasks
) -> None:
    flow = await chain(tasks.add.call(1), tasks.add.options(queue="other").call(RESULT)).aenqueue()
    duty = Workflows(store)
    await duty.turn(await store.run(duty.look()))
    seen: list[str] = await store.run(duty.look())
    assert sorted(seen) == ["other", site.k.queue]
    async with site.consumer(queues=f"{site.k.queue},other"):
        await flow.aresult(WAIT_S)
    await duty.turn(await store.run(duty.look()))
    assert await store.run(duty.look()) == []


async def test_a_redriven_member_is_not_taken_for_dead(
    site: Site, store: AsyncStore, tasks: Tasks
) -> None:
    flow = await chain(tasks.add.call(1), tasks.after.call(RESULT)).aenqueue()
    await crashed(site, flow.id)
    duty = Workflows(store)
    await redrive(store, site)
    await duty.turn(await store.run(duty.look()))
    assert (await flow.astatus()).state == "running"


async def test_a_member_that_is_cancelled_while_it_waits_is_seen(
    site: Site, store: AsyncStore, tasks: Tasks
) -> None:
    flow = (
        await group([tasks.add.call(1)])
        .then(tasks.after.call(RESULT))
        .aenqueue(on_failure="continue")
    )
    assert await site.app.job(f"{flow.id}-000000").acancel()
    duty = Workflows(store)
    await duty.turn(await store.run(duty.look()))
    async with site.consumer():
        await flow.aresult(WAIT_S)
    (((error,),),) = tasks.of("after")
    assert error["error"]["reason"] == "cancelled"


async def test_cancelled_it_ends_as_a_whole(site: Site, tasks: Tasks) -> None:
    begun = asyncio.Event()

    @site.app.task
    async def long() -> None:
        begun.set()
        await asyncio.sleep(600)

    waits = [tasks.add.options(delay=600).call(2), tasks.add.options(priority=-1).call(3)]
    steps = group(long.call(), *waits, tasks.add.call(4)).then(tasks.after.call())
    flow = await steps.aenqueue(window=3)
    other = await tasks.add.options(delay=600).aenqueue(5)
    async with site.consumer(concurrency=1, lease=QUICK):
        await begun.wait()
        assert await flow.acancel()
        await await_until(lambda: site.counters().get("cancel") == 3)
        with pytest.raises(JobCancelled):
            await flow.aresult(WAIT_S)
    assert (await flow.astatus()).state == "cancelled"
    assert await flow.acancel()
    assert tasks.runs == []
    assert site.redis.zcard(site.k.delayed) == 1 and await other.astatus() == "delayed"


async def test_what_is_over_expires(site: Site, tasks: Tasks) -> None:
    flow = await group(tasks.add.call(n) for n in range(3)).aenqueue(ttl=60)
    async with site.consumer():
        await flow.aresult(WAIT_S)
    found = site.redis.keys(f"*{flow.id}*")
    assert found and all(0 < site.redis.pttl(key) <= 60_000 for key in found)
    site.redis.delete(*found)
    assert (await flow.astatus()).state == "unknown"
    assert not await flow.acancel()


@pytest.mark.parametrize("fault", ["cut", "swallow"])
@pytest.mark.parametrize("which", ["workflows/commit", "workflows/fill", "workflows/start"])
async def test_an_answer_that_is_lost_lets_nothing_happen_twice(
    site: Site, proxy: Proxy, app: Headrace, fault: Fault, which: str
) -> None:
    tasks = Tasks(app)
    for name in ("commit", "fill", "start"):
        site.redis.script_load(script(f"workflows/{name}").source)
    proxy.fail_next(fault, script(which).sha.encode())
    steps = group(tasks.add.call(n) for n in range(5)).then(tasks.total.call(RESULT))
    try:
        flow = await steps.aenqueue()
    except Exception:  # it may have begun, or not; tried again it is another one
        assert which != "workflows/commit"
        flow = await steps.aenqueue()
    async with site.consumer(app):
        assert await flow.aresult(WAIT_S) == 15
        await site.drained()
    assert proxy.failures == 1
    started = 2 if (which, fault) == ("workflows/start", "swallow") else 1
    assert tasks.of("total") == [[1, 2, 3, 4, 5]] * started


async def test_a_chain_loses_and_doubles_no_link_when_consumers_are_lost(site: Site) -> None:
    """Each time the job has run, and its consumer has lost it before the ack."""
    ran: list[tuple[int, int]] = []

    @site.app.task
    async def link(n: int, ctx: Context = CURRENT) -> int:
        ran.append((n, ctx.delivery))
        if ctx.delivery == 0:
            lose(site, ctx.job_id)
        return n + 1

    flow = await chain(link.call(0), *(link.call(RESULT) for _ in range(4))).aenqueue()
    async with site.consumer(lease=QUICK, concurrency=20):
        assert await flow.aresult(WAIT_S) == 5
        await site.drained()
    assert ran == [(n, delivery) for n in range(5) for delivery in range(2)]
    assert site.counters()["lost"] >= 5


async def test_a_chord_fires_once_although_members_are_lost_and_fail_at_random(
    site: Site, tasks: Tasks
) -> None:
    chance = random.Random(7)

    @site.app.task(backoff=Backoff(base_s=0), max_attempts=50)
    async def shaky(n: int, ctx: Context = CURRENT) -> int:
        if chance.random() < 0.2 and ctx.delivery < 3:  # five losses are a job's end
            lose(site, ctx.job_id)
        await asyncio.sleep(chance.random() / 50)
        if chance.random() < 0.2:
            raise OSError
        return n

    async with site.consumer(lease=QUICK, concurrency=5), site.consumer(lease=QUICK):
        for _ in range(3):
            steps = group(shaky.call(n) for n in range(30)).then(tasks.total.call(RESULT))
            assert await (await steps.aenqueue()).aresult(WAIT_S) == sum(range(30))
        await site.drained()
    assert tasks.of("total") == [list(range(30))] * 3
    assert site.counters()["lost"] > 0


def test_what_can_be_no_workflow_is_refused(site: Site, tasks: Tasks) -> None:
    call = tasks.add.call(1)
    with pytest.raises(InvalidArguments, match="a step is a call"):
        chain(tasks.add, call)  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="at least one step"):
        group([])
    with pytest.raises(InvalidArguments, match="at least one step"):
        chain()
    with pytest.raises(InvalidJob, match="waits for none"):
        chain(tasks.add.call(RESULT), call).enqueue()
    with pytest.raises(InvalidJob, match="no key="):
        chain(tasks.add.options(key="k").call(1)).enqueue()
    with pytest.raises(InvalidJob, match="give it a datetime"):
        chain(tasks.add.options(expires=30).call(1)).enqueue()
    with pytest.raises(InvalidJob, match="wait for others"):
        chain(*[call] * 1_002).enqueue()
    many = group(call for _ in range(MAX_RESULTS + 1))
    with pytest.raises(InvalidJob, match="leave RESULT out"):
        many.then(tasks.total.call(RESULT)).enqueue()
    step = Dag().add(call)
    with pytest.raises(InvalidJob, match="another Dag"):
        Dag().add(tasks.add.call(step.result))
    for options in ({"on_failure": "ignore"}, {"window": 0}, {"ttl": -1}):
        with pytest.raises(InvalidSetting):
            chain(call).enqueue(**options)
    assert site.redis.dbsize() == 0


def test_a_queue_that_is_full_refuses_a_workflow(site: Site) -> None:
    app = site.another_app(max_pending=2)
    add = app.task(name="add")(lambda *_: None)
    group(add.call(1), add.call(2)).enqueue()
    with pytest.raises(QueueFull):
        chain(add.call(1)).enqueue()
    app.close()


def test_who_waits_for_too_long_is_told(site: Site, tasks: Tasks) -> None:
    flow = chain(tasks.add.call(1)).enqueue()
    with pytest.raises(ResultTimeout):
        flow.result(timeout=0.01)
    found = site.app.workflow(flow.id)
    assert found.status().state == "running" and found.cancel()
    assert site.redis.exists(workflow_keys(site.k, flow.id).hash)
    site.app.close()
