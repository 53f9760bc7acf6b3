"""A workflow that a job hands on begins once when the job is done, whatever is lost on the way, and else never."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from headrace import (
    CURRENT,
    RESULT,
    Backoff,
    Batch,
    Context,
    Dag,
    Encryption,
    EnqueueRequest,
    Event,
    Headrace,
    InvalidArguments,
    InvalidJob,
    InvalidSetting,
    JobCancelled,
    Reject,
    ResultTimeout,
    Workflow,
    chain,
    chord,
    group,
)
from headrace import operations as op
from headrace.keys import keys_of
from headrace.scripts import script
from headrace.supervisor.forward import know_forwarding
from headrace.workflows.handing import START, begun
from headrace.workflows.keys import REMEMBERED_MS, begun_of, workflow_keys
from headrace.workflows.workflow import status_of
from tests.integration.consumer import handing_tasks
from tests.support.consuming import QUICK, Site, a_store, lent
from tests.support.proxy import Fault, Proxy
from tests.support.wait import WAIT_S, await_until

SECRET = "4111-secret-1111"


class Tasks:
    """The tasks of these tests, and what they did."""

    def __init__(self, app: Headrace) -> None:
        self.added: list[tuple[int, int]] = []
        self.totals: list[list[int]] = []

        @app.task
        async def add(a: int, b: int = 1) -> int:
            self.added.append((a, b))
            return a + b

        @app.task
        def total(numbers: list[int]) -> int:
            self.totals.append(numbers)
            return sum(numbers)

        self.add, self.total = add, total
        know_forwarding(app)


@pytest.fixture
def tasks(site: Site) -> Tasks:
    return Tasks(site.app)


def workflows(site: Site) -> list[bytes]:
    """Return the keys of workflows."""
    keys: list[bytes] = site.redis.keys("*:workflow*")
    return keys


def starters(site: Site) -> list[dict[str, Any]]:
    """Return the starters that wait in the queue."""
    waiting = [json.loads(job) for job in site.redis.zrange(site.k.priority, 0, -1)]
    return [job for job in waiting if job["task"] == START]


async def handed_on_by(site: Site, steps: Any, **options: Any) -> Workflow:
    """Let a job hand a workflow on, and the consumer end before that begins."""
    ids: list[str] = []

    @site.app.task(name=f"hands_on_{len(site.app.tasks)}")
    async def hands_on(ctx: Context = CURRENT) -> None:
        ids.append(ctx.enqueue(steps, **options))

    await hands_on.aenqueue()
    async with site.consumer(max_jobs=1) as running:
        await running.ended()
    return site.app.workflow(ids[0])


def flows(tasks: Tasks) -> dict[str, tuple[Any, Any]]:
    """Return one workflow of each kind, and what it returns."""
    dag = Dag()
    one, two = dag.add(tasks.add.call(1)), dag.add(tasks.add.call(2))
    three = dag.add(tasks.total.call(RESULT), after=[one, two])
    dag.add(tasks.add.call(three.result, one.result))
    inner = chain(tasks.add.call(1), tasks.add.call(RESULT))
    return {
        "chain": (chain(tasks.add.call(1), tasks.add.call(RESULT, 10)), 12),
        "group": (group(tasks.add.call(n) for n in range(3)), [1, 2, 3]),
        "chord": (chord((tasks.add.call(n) for n in range(3)), tasks.total.call(RESULT)), 6),
        "dag": (dag, 7),
        "nested": (chain(group(inner, tasks.add.call(5)), tasks.total.call(RESULT)), 9),
    }


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("which", ["chain", "group", "chord", "dag", "nested"])
async def test_it_begins_when_the_job_is_done(
    site: Site, tasks: Tasks, which: str, kind: str
) -> None:
    steps, result = flows(tasks)[which]
    ids: list[str] = []

    def hands_on(ctx: Context = CURRENT) -> None:
        ids.append(ctx.enqueue(steps))
        assert not workflows(site) and not tasks.added

    async def hands_on_async(ctx: Context = CURRENT) -> None:
        hands_on(ctx)

    task = site.app.task(name="hands_on")(hands_on if kind == "sync" else hands_on_async)
    async with site.consumer():
        await task.aenqueue()
        await await_until(lambda: ids)
        flow = site.app.workflow(ids[0])
        assert await flow.aresult(WAIT_S) == result
        await site.drained()
    assert (await flow.astatus()).state == "done"
    members = len(steps.nodes)
    assert site.counters() == {"enqueued": 2 + members, "done": 2 + members}


async def test_a_large_group_begins_in_pages_and_within_its_window(
    site: Site, tasks: Tasks
) -> None:
    flow = await handed_on_by(site, group(tasks.add.call(n) for n in range(2_500)), window=30)
    (starter,) = starters(site)
    assert starter["args"][:3] == [flow.id, "queue", 2_500]
    async with site.consumer(max_jobs=1) as running:
        await running.ended()
    assert (await flow.astatus()).running == 30
    async with site.consumer():
        assert await flow.aresult(WAIT_S) == list(range(1, 2_501))
        await site.drained()
    assert len(tasks.added) == 2_500


async def test_its_options_hold(site: Site, tasks: Tasks) -> None:
    @site.app.task(max_attempts=1)
    async def broken() -> int:
        raise OSError

    steps = group(broken.call(), tasks.add.call(1))
    flow = await handed_on_by(site, steps, on_failure="continue", ttl=3)
    async with site.consumer():
        await site.drained()
    assert (await flow.aresult(WAIT_S))[1] == 2
    k = workflow_keys(site.k, flow.id)
    assert site.redis.hget(k.hash, "policy") == b"continue"
    assert 0 < int(site.redis.pttl(k.hash)) <= 3_000


@pytest.mark.parametrize("ends", ["retry", "dead", "release"])
async def test_who_is_not_done_starts_none(site: Site, tasks: Tasks, ends: str) -> None:
    begun_to_run = asyncio.Event()

    @site.app.task(max_attempts=2 if ends == "retry" else 1, backoff=Backoff(base_s=600))
    async def fails(ctx: Context = CURRENT) -> None:
        ctx.enqueue(chain(tasks.add.call(1), tasks.add.call(RESULT)))
        begun_to_run.set()
        if ends == "release":
            await asyncio.sleep(600)
        raise OSError

    async with site.consumer(grace_s=0.01) as running:
        await fails.aenqueue()
        await begun_to_run.wait()
        if ends == "release":
            running.stop()
            await running.ended()
        else:
            await await_until(lambda: site.counters().get(ends))
    assert not workflows(site) and not starters(site) and not tasks.added
    assert site.counters()["enqueued"] == 1


async def test_a_job_that_is_tried_again_starts_one(site: Site, tasks: Tasks) -> None:
    @site.app.task(backoff=Backoff(base_s=0))
    def second_time(ctx: Context = CURRENT) -> None:
        ctx.enqueue(chain(tasks.add.call(ctx.attempt), tasks.add.call(RESULT)))
        if ctx.attempt == 1:
            raise OSError

    async with site.consumer():
        await second_time.aenqueue()
        await await_until(lambda: len(tasks.added) == 2)
        await site.drained()
    assert tasks.added == [(2, 1), (3, 1)]


@pytest.mark.parametrize("fault", ["cut", "swallow"])
@pytest.mark.parametrize("which", ["workflows/commit", "workflows/fill", "workflows/start"])
async def test_an_answer_that_is_lost_starts_none_twice(
    site: Site, proxy: Proxy, app: Headrace, fault: Fault, which: str
) -> None:
    tasks = Tasks(app)
    for name in ("commit", "fill", "start"):
        site.redis.script_load(script(f"workflows/{name}").source)

    @app.task
    async def hands_on(ctx: Context = CURRENT) -> None:
        ctx.enqueue(chord((tasks.add.call(n) for n in range(5)), tasks.total.call(RESULT)))

    async with site.consumer(app, lease=QUICK):
        proxy.fail_next(fault, script(which).sha.encode())
        await hands_on.aenqueue()
        await await_until(lambda: tasks.totals)
        await site.drained()
        await await_until(lambda: proxy.failures == 1)
    assert tasks.totals == [[1, 2, 3, 4, 5]]
    assert sorted(tasks.added) == [(n, 1) for n in range(5)]


@pytest.mark.parametrize("far", ["nothing", "a page", "all", "over", "forgotten"])
async def test_a_starter_that_runs_twice_starts_it_once(site: Site, tasks: Tasks, far: str) -> None:
    """As if its first run had come so far, and its consumer had been lost before the ack."""
    steps = group(tasks.add.call(n) for n in range(1_500))
    flow = await handed_on_by(site, steps, window=20, ttl=60)
    (starter,) = starters(site)
    first = begun(starter["args"][3])
    async with a_store(site.url) as store:
        if far == "a page":
            assert await store.run(next(first)) == 1_000  # type: ignore[arg-type]
        elif far != "nothing":
            await store.follow(first)
    if far in ("over", "forgotten"):
        raw = site.redis.zrange(site.k.priority, 0, -1)[0]
        site.redis.zrem(site.k.priority, raw)
        async with site.consumer(check=False):
            assert len(await flow.aresult(WAIT_S)) == 1_500
            await site.drained()
        site.redis.zadd(site.k.priority, {raw: -100})
    if far == "forgotten":  # its time is over
        site.redis.delete(*workflows(site), site.k.result(flow.id))
    async with site.consumer():
        if far != "forgotten":
            assert len(await flow.aresult(WAIT_S)) == 1_500
        await site.drained()
    assert sorted(tasks.added) == [(n, 1) for n in range(1_500)]
    assert not site.redis.exists(workflow_keys(site.k, flow.id).rest)
    assert 0 < int(site.redis.pttl(begun_of(site.k, flow.id))) <= 7 * 86_400_000


async def test_two_runs_of_a_starter_at_the_same_time_start_it_once(
    site: Site, tasks: Tasks
) -> None:
    """Whose lease has run out is still at it while another one runs: step by step, in any order."""
    for seed in range(10):
        tasks.added.clear()
        flow = await handed_on_by(site, group(tasks.add.call(n) for n in range(2_200)), window=9)
        (starter,) = starters(site)
        chance, runs = random.Random(seed), [begun(starter["args"][3]) for _ in range(2)]
        asked = [(run, next(run)) for run in runs]
        async with a_store(site.url) as store:
            while asked:
                run, step = asked.pop(chance.randrange(len(asked)))
                many = isinstance(step, list)
                answer = await (store.run_all(step) if many else store.run(step))  # type: ignore[arg-type]
                try:
                    asked.append((run, run.send(answer)))
                except StopIteration:
                    continue
        status = await flow.astatus()
        assert (status.state, status.total, status.running) == ("running", 2_200, 9)
        assert site.redis.llen(workflow_keys(site.k, flow.id).rest) == 2_200 - 9
        await flow.acancel()
        site.redis.zremrangebyrank(site.k.priority, 0, -1)
        site.redis.delete(site.k.stats)


async def test_a_starter_that_was_dead_starts_it_when_it_is_redriven(
    site: Site, tasks: Tasks
) -> None:
    flow = await handed_on_by(site, chain(tasks.add.call(1), tasks.add.call(RESULT)))
    (raw,) = site.redis.zrange(site.k.priority, 0, -1)
    async with a_store(site.url) as store:
        await store.run(op.claim(site.k, 1, lease_ms=1, consumer="lost", first=1))
        await await_until(lambda: site.redis.zrangebyscore(site.k.leases, 0, site.now_ms()))
        await store.run(op.reclaim(site.k, grace_ms=0, gap_ms=10**9, max_crashes=0))
        assert site.letters()[0]["error"]["reason"] == "crashed"
        (letter,) = site.raw_letters()
        assert (await flow.astatus()).state == "waiting"
        await store.run(op.redrive(site.k, [(letter, raw)]))
    async with site.consumer():
        await site.drained()
        assert await flow.aresult(WAIT_S) == 3


async def test_a_starter_that_carries_no_workflow_is_a_dead_letter(
    site: Site, tasks: Tasks
) -> None:
    site.push({"task": START, "args": ["x", "queue", 1, "bm8="]})
    async with site.consumer():
        (letter,) = await site.died()
    assert letter["error"]["reason"] == "rejected"
    assert "it carries no workflow" in letter["error"]["message"]


async def test_a_bound_of_waiting_jobs_does_not_refuse_it(site: Site, tasks: Tasks) -> None:
    site.app._sending["max_pending"] = 2
    flow = await handed_on_by(site, group(tasks.add.call(n) for n in range(10)))
    async with site.consumer():
        await site.drained()
    assert await flow.aresult(WAIT_S) == list(range(1, 11))


async def test_a_member_of_a_workflow_hands_one_on(site: Site, tasks: Tasks) -> None:
    ids: list[str] = []

    @site.app.task
    async def member(n: int, ctx: Context = CURRENT) -> int:
        ids.append(ctx.enqueue(chain(tasks.add.call(n), tasks.add.call(RESULT))))
        ctx.enqueue(tasks.add.call(0, 0))
        return n

    outer = await chain(member.call(5), tasks.add.call(RESULT, 100)).aenqueue()
    async with site.consumer():
        assert await outer.aresult(WAIT_S) == 105
        assert await site.app.workflow(ids[0]).aresult(WAIT_S) == 7
        await site.drained()
    assert sorted(tasks.added) == [(0, 0), (5, 1), (5, 100), (6, 1)]


async def test_its_home_is_the_queue_of_its_first_job(site: Site, tasks: Tasks) -> None:
    steps = chain(tasks.add.options(queue="third").call(1), tasks.add.call(RESULT))
    flow = await handed_on_by(site, steps)
    (starter,) = starters(site)
    assert (starter["id"], starter["args"][1]) == (f"{flow.id}-start", "third")
    at_home = site.app.workflow(flow.id, queue="third")
    async with site.consumer(queues="queue,third", check=False):
        await await_until(lambda: len(tasks.added) == 2)
        assert await at_home.aresult(WAIT_S) == 3
        await site.drained()


@pytest.mark.parametrize("home", ["queue", "third"])
async def test_one_that_waits_to_begin_is_seen_and_cancelled(
    site: Site, tasks: Tasks, home: str
) -> None:
    first = tasks.add.options(queue=home).call(1)
    handed_on = await handed_on_by(site, chain(first, tasks.add.call(RESULT)))
    flow = site.app.workflow(handed_on.id, queue=home)
    assert await flow.astatus() == ("waiting", 2, 0, 0, ())
    with pytest.raises(ResultTimeout):
        await flow.aresult(0)
    mark = begun_of(keys_of(home), flow.id)
    site.redis.pexpire(mark, 60_000)  # nearly a week has gone by
    assert await flow.acancel()
    assert site.redis.pttl(mark) > REMEMBERED_MS - 60_000
    assert await flow.acancel()  # as of any that is cancelled
    assert await flow.astatus() == ("cancelled", 2, 0, 0, ())
    with pytest.raises(JobCancelled):
        await flow.aresult(WAIT_S)
    async with site.consumer():
        await site.drained()
    assert not tasks.added and (await flow.astatus()).state == "cancelled"
    assert all(site.redis.pttl(key) > 0 for key in site.redis.scan_iter(f"*{flow.id}*"))


def carrying(**others: Any) -> str:
    """Pack what a starter carries, some of it wrong."""
    right = {"id": "w", "queues": ["queue"], "places": ["queue"], "rest": [b"r"], "waiting": []}
    fields = right | {"edges": [], "last": 0, "on_failure": "stop", "ttl_ms": 1, "window": 1}
    packed = msgspec.msgpack.encode([*(fields | others).values()])
    return b64encode(zlib.compress(packed)).decode()


@pytest.mark.parametrize(
    "carried",
    [
        *("", "eJ", "no base64!", None, 7, b64encode(zlib.compress(b"no plan")).decode()),
        *(carrying(queues=[]), carrying(places=[]), carrying(rest=[]), carrying(queues=["a:b"])),
    ],
)
def test_what_carries_no_workflow_is_rejected_and_not_tried_for_hours(carried: Any) -> None:
    with pytest.raises(Reject, match="it carries no workflow"):
        next(begun(carried))


def test_whether_it_waits_is_asked_before_how_far_it_is_for_it_may_begin_between() -> None:
    asked = next(status_of(keys_of("queue"), "w"))
    assert isinstance(asked, list)
    assert [one.name for one in asked] == ["GET", "HMGET"]


async def test_its_starter_is_a_job_that_can_be_cancelled(site: Site, tasks: Tasks) -> None:
    flow = await handed_on_by(site, chain(tasks.add.call(1), tasks.add.call(RESULT)))
    assert await site.app.job(f"{flow.id}-start").acancel()
    async with site.consumer():
        await site.drained()
    assert not tasks.added and not workflows(site)


async def test_one_that_has_begun_is_cancelled_as_any(site: Site, tasks: Tasks) -> None:
    flow = await handed_on_by(site, group(tasks.add.call(n) for n in range(10)), window=2)
    async with site.consumer(max_jobs=1) as running:
        await running.ended()
    assert (await flow.astatus()).running == 2
    assert await flow.acancel()
    async with site.consumer():
        await site.drained()
    assert (await flow.astatus()).state == "cancelled"
    assert not tasks.added


async def test_a_suspect_hands_one_on_from_its_own_process(site: Site) -> None:
    know_forwarding(handing_tasks.app)
    job = handing_tasks.hands_a_workflow_on.call(7).job
    async with lent(site, handing_tasks.app):
        site.push(job.replace(b',"task"', b',"delivery":2,"crashes":2,"task"', 1))
        async with site.consumer():
            await site.drained()
    (one,) = site.redis.lrange("other", 0, -1)
    assert (json.loads(one)["task"], json.loads(one)["args"]) == ("note", [7])


async def test_each_job_of_a_batch_hands_on_what_follows_from_it(site: Site, tasks: Tasks) -> None:
    @site.app.batch_task(size=3, within=600, backoff=Backoff(base_s=600))
    async def many(batch: Batch[int]) -> None:
        for item in batch:
            item.ctx.enqueue(chain(tasks.add.call(item.value), tasks.add.call(RESULT)))
            if item.value == 1:
                item.fail(ValueError("not this one"))

    await site.app.aenqueue_many(many.call(10 * n + 1) for n in range(3))
    async with site.consumer():
        await await_until(lambda: len(tasks.added) == 4)
        await await_until(lambda: site.counters().get("retry"))
    assert sorted(tasks.added) == [(11, 1), (12, 1), (21, 1), (22, 1)]


async def test_nothing_that_is_encrypted_can_be_read_on_the_way(site: Site) -> None:
    site.app.encryption = Encryption([Encryption.generate_key()])
    seen: list[str] = []

    @site.app.task(encrypted=True)
    async def pay(card: str) -> str:
        seen.append(card)
        return card[:4]

    know_forwarding(site.app)
    flow = await handed_on_by(site, chain(pay.call(SECRET), pay.call(RESULT)))
    (starter,) = starters(site)
    packed = zlib.decompress(b64decode(starter["args"][3]))
    assert b"$encrypted" in packed and SECRET.encode() not in packed
    async with site.consumer():
        await await_until(lambda: len(seen) == 2)
        assert await flow.aresult(WAIT_S) == "4111"
        await site.drained()
    assert seen == [SECRET, "4111"]


class TestHooks:
    async def test_they_stand_around_the_hand_off_of_all_members(
        self, site: Site, tasks: Tasks
    ) -> None:
        seen: list[tuple[str, str]] = []
        headers: list[dict[str, str]] = []
        told: list[tuple[str, str, bool]] = []

        @site.app.around_enqueue
        def around(request: EnqueueRequest) -> Iterator[None]:
            request.headers["by"] = f"a hook of {request.task}"
            yield
            seen.append((request.task, request.job_id))

        @site.app.on("enqueued")
        def hear(event: Event) -> None:
            told.append((event.job_id, event.queue, bool(site.counters().get("done"))))

        @site.app.task
        async def link(n: int, ctx: Context = CURRENT) -> int:
            headers.append(ctx.headers)
            return n

        flow = await handed_on_by(site, chain(link.call(1), link.call(RESULT)))
        members = [f"{flow.id}-00000{n}" for n in range(2)]
        assert sorted(seen[1:]) == [("link", member) for member in members]
        assert told[1:] == [(member, "queue", True) for member in members]
        async with site.consumer():
            await site.drained()
        assert headers == [{"by": "a hook of link"}] * 2

    async def test_an_async_one_cannot_stand_there(self, site: Site, tasks: Tasks) -> None:
        said: list[str] = []

        @site.app.around_enqueue
        async def around(request: EnqueueRequest) -> AsyncIterator[None]:
            yield

        @site.app.task
        async def hands_on(ctx: Context = CURRENT) -> None:
            with pytest.raises(InvalidSetting, match="is async") as refused:
                ctx.enqueue(chain(tasks.add.call(1), tasks.add.call(RESULT)))
            said.append(str(refused.value))

        await hands_on.aenqueue()
        async with site.consumer():
            await site.drained()
        assert said and not tasks.added

    async def test_of_a_run_that_fails_nothing_is_told(self, site: Site, tasks: Tasks) -> None:
        told: list[str] = []

        @site.app.on("enqueued")
        def hear(event: Event) -> None:
            told.append(event.task)

        @site.app.task(max_attempts=1)
        async def fails(ctx: Context = CURRENT) -> None:
            ctx.enqueue(chain(tasks.add.call(1), tasks.add.call(RESULT)))
            raise OSError

        await fails.aenqueue()
        async with site.consumer():
            await site.died()
        assert told == ["fails"]


async def test_what_cannot_be_handed_on_is_refused_in_the_task(site: Site, tasks: Tasks) -> None:
    add, said = tasks.add, list[str]()

    @site.app.task
    def hands_on(ctx: Context = CURRENT) -> None:
        two = chain(add.call(1), add.call(RESULT))
        with pytest.raises(InvalidArguments, match="takes calls, .* and workflows"):
            ctx.enqueue([add.call(1), add.call(2)])
        with pytest.raises(InvalidArguments, match="ttl= is of workflows"):
            ctx.enqueue(add.call(1), ttl=5)
        with pytest.raises(InvalidJob, match="waits for none"):
            ctx.enqueue(chain(add.call(RESULT), add.call(1)))
        with pytest.raises(InvalidJob, match="has no key="):
            ctx.enqueue(chain(add.options(key="k").call(1), add.call(RESULT)))
        with pytest.raises(InvalidJob, match="give it a datetime"):
            ctx.enqueue(chain(add.options(expires=30).call(1), add.call(RESULT)))
        with pytest.raises(InvalidJob, match="none of the calls"):
            ctx.enqueue(Dag())
        wrong: dict[str, Any]
        for wrong in ({"on_failure": "go on"}, {"ttl": 0}, {"window": 0}):
            with pytest.raises(InvalidSetting, match=next(iter(wrong))):
                ctx.enqueue(two, **wrong)
        with pytest.raises(TypeError, match="windows"):
            ctx.enqueue(two, windows=3)  # type: ignore[call-arg]
        noise = [site.app.call("add", random.randbytes(300_000).hex()) for _ in range(4)]
        with pytest.raises(InvalidJob, match="hand on where its data are") as refused:
            ctx.enqueue(group(noise))
        said.append(str(refused.value))
        with pytest.raises(InvalidJob, match="cannot be handed on; the limit is 16,777,216"):
            ctx.enqueue(group(site.app.call("add", "x" * 1_000_000) for _ in range(17)))
        ctx.enqueue(group(noise[:1]))
        with pytest.raises(InvalidJob, match="at most 1,000 jobs"):
            ctx.enqueue(group(noise[:2]))

    async with site.consumer(max_jobs=1) as running:
        await hands_on.aenqueue()
        await running.ended()
    assert said and len(starters(site)) == 1


async def test_after_its_end_a_job_hands_none_on(site: Site, tasks: Tasks) -> None:
    left: list[Context] = []

    @site.app.task
    async def ends(ctx: Context = CURRENT) -> None:
        left.append(ctx)

    steps = chain(tasks.add.call(1), tasks.add.call(RESULT))
    async with site.consumer():
        await ends.aenqueue()
        await site.drained()
    with pytest.raises(InvalidJob, match="the job has ended"):
        left[0].enqueue(steps)
    with pytest.raises(InvalidJob, match="no job runs here"):
        CURRENT.enqueue(steps)
