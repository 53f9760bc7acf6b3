"""Consumers and producers on a cluster: they find their queues, and go on when nodes die and slots move."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import (
    CURRENT,
    RESULT,
    Context,
    Headrace,
    InvalidJob,
    JobFailed,
    chain,
    chord,
    group,
)
from headrace import operations as op
from headrace.doctor import dead_letters
from headrace.handoff import envelope_around
from headrace.keys import keys_of
from headrace.policy import LeasePolicy
from headrace.retry import Backoff
from headrace.schedules import Schedules, define, keep_declared, requests
from headrace.schedules.step import step
from headrace.schedules.timing import Every
from headrace.store import AsyncStore, Store
from headrace.supervisor.forward import know_forwarding
from headrace.workflows.duty import Workflows
from tests.support.clusters import Cluster, running_cluster
from tests.support.consuming import consuming
from tests.support.processes import clean_environment
from tests.support.producing import Stream
from tests.support.wait import WAIT_S, await_until, bound

ALL = "emails,reports,images,billing"
QUICK = LeasePolicy(lease_s=2.0, bare_lease_s=2.0)


def settled(cluster: Cluster, queue: str) -> dict[str, int]:
    store = Store(cluster.url)
    try:
        return store.run(op.snapshot(keys_of(queue))).counters
    finally:
        store.close()


async def test_jobs_of_queues_on_all_nodes_run(cluster: Cluster) -> None:
    app, ran = Headrace(cluster.url), Counter[str]()

    @app.task(result_ttl=60)
    async def double(queue: str, n: int) -> int:
        ran[queue] += 1
        return 2 * n

    async with consuming(app, ALL):
        jobs = [
            await double.options(queue=queue).aenqueue(queue, n)
            for queue in ALL.split(",")
            for n in range(20)
        ]
        assert [await job.aresult(timeout=WAIT_S) for job in jobs] == [2 * n for n in range(20)] * 4
    assert ran == dict.fromkeys(ALL.split(","), 20)
    assert settled(cluster, "billing") == {"enqueued": 20, "done": 20}
    await app.aclose()


async def test_priorities_delays_retries_and_dead_letters_are_as_on_one_server(
    cluster: Cluster,
) -> None:
    app, order = Headrace(cluster.url, queue="emails"), list[str]()

    @app.task(max_attempts=2, backoff=Backoff(base_s=0))
    async def note(name: str) -> None:
        order.append(name)
        if name == "bad":
            raise OSError

    await note.options(delay=0.3).aenqueue("later")
    await note.aenqueue("plain")
    await note.options(priority=5).aenqueue("first")
    async with consuming(app, "emails", concurrency=1):
        await await_until(lambda: "later" in order, "what was delayed has run")
        await note.aenqueue("bad")
        await await_until(lambda: settled(cluster, "emails").get("dead"), "it is dead")
        # An idle consumer waits without polling, and hears of priorities, too.
        await note.options(priority=5).aenqueue("last")
        await await_until(lambda: order[-1] == "last", "it has run")
    assert order == ["first", "plain", "later", "bad", "bad", "last"]
    await app.aclose()


async def test_a_running_job_hears_that_it_is_cancelled(cluster: Cluster) -> None:
    app, begun, ended = Headrace(cluster.url, queue="reports"), asyncio.Event(), list[str]()

    @app.task
    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("yes")

    async with consuming(app, "reports"):
        job = await wait.aenqueue()
        await begun.wait()
        assert await job.acancel()
        await await_until(lambda: ended, "it has heard")
    await app.aclose()


async def test_limits_and_unique_keys_hold(cluster: Cluster) -> None:
    app, running, most = Headrace(cluster.url, queue="images"), 0, 0

    @app.task(concurrency_limit=2)
    async def limited(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async with consuming(app, "images"):
        first = await limited.options(key="one").aenqueue(0)
        assert (await limited.options(key="one").aenqueue(0)).id == first.id
        await app.aenqueue_many(limited.call(n) for n in range(20))
        await await_until(lambda: settled(cluster, "images").get("done") == 21, "all have run")
    assert most == 2
    await app.aclose()


async def test_a_job_hands_on_into_its_own_queue(cluster: Cluster) -> None:
    app, ran = Headrace(cluster.url, queue="emails"), list[int]()

    @app.task
    async def note(n: int, ctx: Context = CURRENT) -> None:
        ran.append(n)
        if n < 3:
            ctx.enqueue(note.call(n + 1))

    async with consuming(app, "emails"):
        await note.aenqueue(1)
        await await_until(lambda: ran == [1, 2, 3], "each has handed on")
    await app.aclose()


async def test_a_job_hands_on_into_queues_on_other_nodes(cluster: Cluster) -> None:
    app, ran, ids = Headrace(cluster.url, queue="emails"), dict[str, int](), list[str]()
    others = [queue for queue in ALL.split(",") if queue != "emails"]
    assert any(cluster.primary_of(queue) is not cluster.primary_of("emails") for queue in others)

    @app.task
    async def note(n: int, ctx: Context = CURRENT) -> None:
        ran[ctx.job_id] = n
        for at, queue in enumerate(others) if not n else ():
            ids.append(ctx.enqueue(note.options(queue=queue, delay=0.1 * at).call(at + 1)))
            ctx.enqueue(note.options(queue=queue, key="k").call(10))

    know_forwarding(app)
    async with consuming(app, ALL):
        first = await note.aenqueue(0)
        await await_until(lambda: len(ran) == 1 + 2 * len(others), "all have run")
    assert ran == {first.id: 0} | {job_id: n for n, job_id in enumerate(ids, 1)} | {
        job_id: 10 for job_id in ran if ran[job_id] == 10
    }
    for queue in others:
        assert settled(cluster, queue) == {"enqueued": 2, "done": 2}
    envelopes = 2 * len(others)
    assert settled(cluster, "emails") == {"enqueued": 1 + envelopes, "done": 1 + envelopes}
    await app.aclose()


async def test_a_job_that_is_handed_on_to_another_node_by_two_runs_comes_once(
    cluster: Cluster,
) -> None:
    app, ran = Headrace(cluster.url, queue="emails"), list[int]()

    @app.task(queue="images")
    async def note(n: int) -> None:
        ran.append(n)

    know_forwarding(app)
    call = note.call(1)
    before, after = envelope_around("images", "", "", 0, call.job_id)
    store = AsyncStore(cluster.url)
    for number in range(2):  # as if the first run of it had been lost before it was acked
        twin = (before + call.job + after).replace(b"-forward", b"-%d" % number)
        await store.run(op.enqueue(keys_of("emails"), [twin]))
    async with consuming(app, "emails,images"):
        await await_until(lambda: settled(cluster, "emails").get("done") == 2, "both have run")
        await await_until(lambda: settled(cluster, "images").get("done") == 1, "it has run")
    assert ran == [1]
    assert settled(cluster, "images") == {"enqueued": 1, "done": 1}
    await store.close()
    await app.aclose()


async def test_what_is_too_large_to_be_forwarded_is_refused_in_the_task(cluster: Cluster) -> None:
    app, said = Headrace(cluster.url, queue="emails"), list[str]()

    @app.task
    async def note(text: str = "", ctx: Context = CURRENT) -> None:
        try:
            ctx.enqueue(note.options(queue="images").call("x" * ((1 << 20) - 100)))
        except InvalidJob as error:
            said.append(str(error))

    async with consuming(app, "emails"):
        await note.aenqueue()
        await await_until(lambda: said, "it has heard")
    assert "hand on where its data are" in said[0]
    await app.aclose()


async def test_workflows_run_whatever_nodes_their_members_are_on(cluster: Cluster) -> None:
    app = Headrace(cluster.url, queue="emails")
    queues = ALL.split(",")

    @app.task
    async def add(a: int, b: int) -> int:
        return a + b

    @app.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    know_forwarding(app)
    spread = [add.options(queue=queues[n % 4]).call(n, 1) for n in range(20)]
    async with consuming(app, ALL):
        for home in ("emails", "images"):
            flow = await chain(
                add.options(queue=home).call(0, 0),
                group(spread),
                total.options(queue="billing").call(RESULT),
                add.options(queue="reports").call(RESULT, 1000),
            ).aenqueue()
            assert await flow.aresult(timeout=WAIT_S) == sum(range(20)) + 20 + 1000
        only_here = await chord([add.call(n, 1) for n in range(10)], total.call(RESULT)).aenqueue()
        assert await only_here.aresult(timeout=WAIT_S) == 55
    await app.aclose()


async def test_a_member_that_dies_on_another_node_is_seen_and_a_redrive_of_it_goes_on(
    cluster: Cluster,
) -> None:
    app, works = Headrace(cluster.url, queue="emails"), list[int]()

    @app.task(max_attempts=1, queue="images")
    async def weak(n: int) -> int:
        if not works:
            raise OSError("not yet")
        return n

    @app.task
    async def plus(n: int) -> int:
        return n + 1

    know_forwarding(app)
    async with consuming(app, ALL, duties=(Workflows,)):
        flow = await chain(plus.call(1), weak.call(RESULT), plus.call(RESULT)).aenqueue()
        with pytest.raises(JobFailed, match="a member of workflow"):
            await flow.aresult(timeout=WAIT_S)
        status = await flow.astatus()
        assert [(one.queue, one.reason) for one in status.failed] == [("images", "max_attempts")]
        works.append(1)
        store = AsyncStore(cluster.url)
        redriven = dead_letters.redrive(keys_of("images"), lambda _: True, lambda _: None)
        assert await store.follow(redriven) == 1

        async def is_done() -> bool:
            return (await flow.astatus()).state == "done"

        await await_until(is_done, "it has gone on")
        assert await flow.aresult(timeout=WAIT_S) == 3
        await store.close()
    await app.aclose()


async def test_a_member_whose_consumers_are_lost_on_another_node_is_seen(cluster: Cluster) -> None:
    app = Headrace(cluster.url, queue="emails")

    @app.task(queue="images")
    async def poison() -> None: ...

    @app.task
    async def note() -> None: ...

    know_forwarding(app)
    store = AsyncStore(cluster.url)
    images = keys_of("images")
    async with consuming(app, "emails", duties=(Workflows,), lease=QUICK):
        flow = await chain(note.call(), poison.call()).aenqueue()

        async def came() -> bool:
            return (await store.run(op.snapshot(images))).pending == 1

        await await_until(came, "it was forwarded")
        await store.run(op.claim(images, 1, lease_ms=1, consumer="lost", first=1))

        async def is_dead() -> bool:
            await store.run(op.reclaim(images, grace_ms=0, gap_ms=10**9, max_crashes=0))
            return (await store.run(op.snapshot(images))).dead == 1

        await await_until(is_dead, "it is dead")

        async def is_seen() -> bool:
            return (await flow.astatus()).state == "failed"

        await await_until(is_seen, "its workflow knows")
        assert await flow.acancel()
    await store.close()
    await app.aclose()


async def test_a_schedule_ticks_whatever_node_its_queue_is_on(cluster: Cluster) -> None:
    app, ran = Headrace(cluster.url), Counter[str]()

    async def note(queue: str) -> None:
        ran[queue] += 1

    for queue in ALL.split(","):
        app.task(name=queue, queue=queue)(note).every(0.2, missed="all", args=(queue,))
    known = asyncio.create_task(keep_declared(app.producer().astore(), app.declared_schedules()))
    async with consuming(app, ALL, duties=(Schedules,)):
        await await_until(lambda: all(ran[queue] >= 5 for queue in ALL.split(",")), "all tick")
    known.cancel()
    await app.aclose()


async def test_a_tick_fires_once_though_the_leader_dies_before_it_has_noted_that(
    cluster: Cluster,
) -> None:
    store = AsyncStore(cluster.url)
    definition = define(Headrace(cluster.url, queue="images").call("tick"), Every(1_000))
    now_ms: float = await store.run(op.time_ms())
    name, raw, due_ms = b"s", definition.encoded(), int(now_ms) - 500
    await store.run(
        requests.put("s", raw, instead_of=b"", next_ms=due_ms, keeps=False, declared=False)
    )
    one = step(definition, due_ms, due_ms + 500)
    assert [await store.run(requests.fire(name, definition, one)) for _ in range(2)] == [1, 0]
    assert (await store.run(op.snapshot(keys_of("images")))).pending == 1
    ticks = [requests.tick(name, definition, raw, one, fired=True) for _ in range(2)]
    assert [await store.run(tick) for tick in ticks] == ["ok", "stale"]
    await store.close()


def test_the_command_line_works_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    environment = clean_environment(HEADRACE_URL=cluster.url)

    def headrace(*words: str, codes: tuple[int, ...] = (0,)) -> str:
        command = (sys.executable, "-m", "headrace", *words)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode in codes, done.stdout + done.stderr
        return done.stdout

    headrace("produce", "echo", "hi", "-q", "emails")
    headrace("produce", "echo", "ho", "-q", "images")
    headrace("consume", "headrace.demo.tasks", "--burst", "-Q", "emails,images")
    said = headrace("info")
    assert "emails" in said
    assert "images" in said
    assert settled(cluster, "emails") == {"enqueued": 1, "done": 1}
    headrace("audit", "emails")
    assert "this user may give every command" in headrace("doctor", codes=(0, 1))


async def test_while_a_node_is_away_the_leader_goes_on_with_the_queues_of_the_others(
    tmp_path: Path,
) -> None:
    with running_cluster(tmp_path, timeout_ms=600_000) as cluster:  # nobody replaces it
        cluster.move_slot("headrace", cluster.primary_of("emails"))
        here = cluster.primary_of("emails")
        away = next(queue for queue in ALL.split(",") if cluster.primary_of(queue) is not here)
        app, ran = Headrace(cluster.url), list[str]()

        @app.task
        async def note(name: str) -> None:
            ran.append(name)

        for queue in (away, "emails"):  # so that both have something to maintain
            await note.options(queue=queue, delay=3600).aenqueue("never")
        store = AsyncStore(cluster.url)
        await note.options(queue="emails").aenqueue("held")
        claim = op.claim(keys_of("emails"), 1, lease_ms=1_000, consumer="lost", first=1)
        assert (await store.run(claim)).jobs

        async def is_led() -> bool:
            leader = await store.run(op.leader())
            return leader != ""

        async with consuming(app, "emails", lease=QUICK):
            await await_until(is_led, "it leads")
            cluster.primary_of(away).kill()
            await note.options(queue="emails", delay=0.5).aenqueue("delayed")
            await await_until(lambda: {"held", "delayed"} <= {*ran}, "both have run")
        await store.close()
        await app.aclose()


async def test_while_a_node_is_away_a_consumer_takes_from_its_other_queues(
    tmp_path: Path,
) -> None:
    with running_cluster(tmp_path, timeout_ms=600_000) as cluster:  # nobody replaces it
        here = cluster.primary_of("emails")
        cluster.move_slot("headrace", here)
        away = next(queue for queue in ALL.split(",") if cluster.primary_of(queue) is not here)
        app, ran = Headrace(cluster.url, queue="emails"), set[int]()

        @app.task
        async def note(n: int) -> None:
            ran.add(n)

        async with consuming(app, f"{away},emails", lease=QUICK):
            await note.options(queue=away).aenqueue(0)
            await await_until(lambda: ran == {0})
            cluster.primary_of(away).kill()
            await app.aenqueue_many(note.call(n) for n in range(1, 500))
            await await_until(
                lambda: len(ran) == 500, "those of the other node run", within_s=bound(10)
            )
        await app.aclose()


async def test_slots_move_to_and_fro_under_load_and_nothing_is_lost(cluster: Cluster) -> None:
    app, ran = Headrace(cluster.url), Counter[tuple[str, int]]()

    @app.task
    async def note(queue: str, n: int) -> None:
        ran[queue, n] += 1

    async with consuming(app, ALL, lease=QUICK):
        stream = Stream(cluster.url, ALL)
        for n in range(20):
            await stream.more(5)
            queue = ALL.split(",")[n % 4]
            home = cluster.primary_of(queue)
            others = [node for node in cluster.primaries() if node is not home]
            await asyncio.to_thread(cluster.move_slot, queue, others[n % 2])
        await stream.more(50)
        await stream.end()
        await await_until(lambda: ran.keys() >= stream.acknowledged, "all ran")
    assert not stream.errors
    await app.aclose()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("mortal")) as cluster:
        yield cluster


@pytest.mark.parametrize("how", ["asked", "killed"])
async def test_a_failover_loses_nothing_that_a_replica_has_confirmed(
    mortal: Cluster, how: str
) -> None:
    app, ran = Headrace(mortal.url), Counter[tuple[str, int]]()

    @app.task
    async def note(queue: str, n: int) -> None:
        ran[queue, n] += 1

    async with consuming(app, ALL, lease=QUICK):
        stream = Stream(mortal.url, ALL, confirm_replicas=1, confirm_timeout=1.0)
        await stream.more(50)
        old = mortal.primary_of("emails")
        if how == "asked":
            await asyncio.to_thread(mortal.fail_over, "emails")
        else:
            old.kill()
            await asyncio.to_thread(mortal.await_primary, "emails", other_than=old)
            await asyncio.to_thread(old.restart)
        await stream.more(50)
        await stream.end()
        await await_until(lambda: ran.keys() >= stream.acknowledged, "all ran")
    assert mortal.primary_of("emails") is not old
    await app.aclose()
