"""A divided queue at work: its consumers share it, and it is one queue to whoever looks."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack

import pytest

from headrace import CURRENT, RESULT, Context, Headrace, Workflow, chain
from headrace import operations as op
from headrace.forgetting import forget
from headrace.keys import keys_of
from headrace.lanes import operations as lanes
from headrace.operations import Snapshot
from headrace.partitions import changing, requests
from headrace.partitions.names import name_of, names_of
from headrace.partitions.requests import Count
from headrace.partitions.view import joined, look
from headrace.supervisor import sharing as module
from headrace.supervisor.forward import know_forwarding
from tests.support.clusters import also_on_a_cluster, url_of
from tests.support.consuming import Running, sharing
from tests.support.invariants import ends
from tests.support.wait import WAIT_S, await_until

PARTS = names_of("emails", 4)

pytestmark = also_on_a_cluster


@pytest.fixture(name="url")
def _url(request: pytest.FixtureRequest, url: str) -> str:
    return url_of(request, url)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.05)
    monkeypatch.setattr(module, "_EVERY_UNDIVIDED_S", 0.05)
    monkeypatch.setattr(module, "_LIST_EVERY_S", 0.05)


def divided(url: str, partitions: int = 4, **options: object) -> Headrace:
    app = Headrace(url, queue="emails")
    app.partition_queue("emails", partitions, **options)  # type: ignore[arg-type]
    return app


async def counts(app: Headrace) -> Snapshot:
    """Count the whole queue."""
    store = app.producer().astore()
    parts = await store.follow(look(["emails"]))
    answers = await store.run_all(op.snapshots([keys_of(name) for name in parts["emails"]]))
    [whole] = joined([one for some in op.unfailed(answers) for one in some], parts)
    return whole


async def shares_are(app: Headrace, members: int) -> None:
    """Wait until so many consumers share the queue."""
    store = app.producer().astore()

    async def seen() -> bool:
        there = await store.run(requests.members("emails"))
        return len(there) == members

    await await_until(seen, f"{members} consumers share it")


class Gauge:
    """Counts the jobs that run: how many do at once, at most, and how many have run."""

    def __init__(self) -> None:
        self.now = self.most = self.ran = 0

    async def work(self, seconds: float = 0.0) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(seconds)
        self.now, self.ran = self.now - 1, self.ran + 1


def homes(running: Running) -> list[str]:
    """Return the queues of a consumer in the order in which it takes from them."""
    return [k.queue for k in running.consumer._batcher._queues]


async def test_jobs_of_all_partitions_run_and_give_their_results(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = divided(url)

    @app.task(result_ttl=60)
    async def double(n: int) -> int:
        return 2 * n

    async with sharing(app, "emails"):
        assert "no task of this application uses it" not in caplog.text
        jobs = await app.aenqueue_many(double.call(n) for n in range(1_000))
        assert {job.queue for job in jobs} == set(PARTS)
        assert [await job.aresult(WAIT_S) for job in jobs[::50]] == list(range(0, 2_000, 100))
        # An id is enough to find a job, for whoever knows the queue.
        found = app.job(jobs[-1].id)
        assert found.queue == jobs[-1].queue
        assert await found.aresult(WAIT_S) == 1_998
    whole = await counts(app)
    assert ends(whole.counters) == {"enqueued": 1_000, "done": 1_000}
    assert whole.foreign == 0
    await app.aclose()


async def test_jobs_of_one_key_begin_in_order(url: str) -> None:
    app, order = divided(url, by="user"), defaultdict[str, list[int]](list)

    @app.task
    async def note(user: str, n: int) -> None:
        order[user].append(n)

    for n in range(40):
        await app.aenqueue_many(note.call(f"user-{user}", n) for user in range(20))
    async with sharing(app, "emails", concurrency=1):
        await await_until(lambda: sum(map(len, order.values())) == 800)
    assert all(seen == list(range(40)) for seen in order.values())
    await app.aclose()


async def test_no_job_waits_beside_an_idle_consumer(url: str) -> None:
    app, held, ran = divided(url), asyncio.Event(), Counter[str]()

    @app.task
    async def hold() -> None:
        ran["held"] += 1
        await held.wait()

    @app.task
    async def quick() -> None:
        ran["quick"] += 1

    async with sharing(app, "emails", concurrency=1) as busy:
        await hold.aenqueue()
        await await_until(lambda: ran["held"] == 1)
        async with sharing(app, "emails"):
            await shares_are(app, 2)
            for name in PARTS:  # also where the busy one is at home
                await quick.options(queue=name).aenqueue()
            await await_until(lambda: ran["quick"] == len(PARTS))
            assert set(homes(busy)) == set(PARTS)
            held.set()
    await app.aclose()


async def test_consumers_divide_the_partitions_anew_when_one_comes_or_goes(url: str) -> None:
    app = divided(url)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(sharing(app, "emails"))
        await await_until(lambda: homes(first) == PARTS)
        async with sharing(app, "emails") as second:
            await await_until(lambda: homes(first)[:2] == ["emails", "emails@2"])
            await await_until(lambda: homes(second)[:2] == ["emails@1", "emails@3"])
            assert set(homes(first)) == set(homes(second)) == set(PARTS)
        await await_until(lambda: homes(first) == PARTS)
        await shares_are(app, 1)
    await shares_are(app, 0)
    await app.aclose()


async def test_more_partitions_while_it_is_used(url: str) -> None:
    app, ran = divided(url, 2), Counter[int]()

    @app.task
    async def note(n: int) -> None:
        ran[n] += 1

    async def enqueue() -> int:
        count = 0
        while not grown.is_set() or count % 1_000:
            await note.aenqueue(count)
            count += 1
        return count

    grown = asyncio.Event()
    async with sharing(app, "emails") as one:
        producing = asyncio.create_task(enqueue())
        store = app.producer().astore()
        await await_until(lambda: len(ran) > 100)
        assert await store.follow(changing.begin("emails", 8)) == changing.HEARD_S
        await await_until(lambda: set(homes(one)) == set(names_of("emails", 8)))
        assert not {queue for queue in names_of("emails", 8)[2:] if await held(app, queue)}
        await store.follow(changing.fill("emails", 8))
        await await_until(lambda: filled(app) == 8)
        await await_until_held(app, "emails@7")
        grown.set()
        count = await producing
        await await_until(lambda: len(ran) == count)
    assert ran == dict.fromkeys(range(count), 1)
    assert ends((await counts(app)).counters) == {"enqueued": count, "done": count}
    await app.aclose()


async def held(app: Headrace, queue: str) -> dict[str, int]:
    """Return what has happened in one partition."""
    return (await app.producer().astore().run(op.snapshot(keys_of(queue)))).counters


async def await_until_held(app: Headrace, queue: str) -> None:
    async def seen() -> bool:
        return bool(await held(app, queue))

    await await_until(seen, f"{queue} is used")


def filled(app: Headrace) -> int:
    return app.partitions._counts["emails"].filled


async def test_fewer_partitions_are_emptied_and_then_forgotten(url: str) -> None:
    app, ran = divided(url), Counter[int]()

    @app.task
    async def note(n: int) -> None:
        ran[n] += 1

    store = app.producer().astore()
    await app.aenqueue_many(note.call(n) for n in range(400))
    assert await store.follow(changing.begin("emails", 2)) == 0
    assert (await store.run(requests.counts(["emails"])))["emails"] == Count(2, 4)
    assert await store.follow(changing.retire("emails")) == (200, ())
    async with sharing(app, "emails"):  # it was not there before: it takes from those, too
        await await_until(lambda: len(ran) == 400)

        async def retired() -> bool:
            left, empty = await store.follow(changing.retire("emails"))
            await store.follow(forget(empty, 0))
            return not left

        await await_until(retired)
    assert (await store.run(requests.counts(["emails"])))["emails"] == Count(2, 2)
    assert {*await store.run(op.queues())} == {"emails", "emails@1"}
    assert ran == dict.fromkeys(range(400), 1)
    await app.aclose()


async def test_a_job_that_comes_late_into_a_partition_that_is_no_more_runs(url: str) -> None:
    app, ran = divided(url, 2), list[str]()

    @app.task
    async def note(name: str) -> None:
        ran.append(name)

    await note.options(queue="emails@9").aenqueue("before")
    async with sharing(app, "emails"):
        await await_until(lambda: ran == ["before"])
        await note.options(queue="emails@8").aenqueue("meanwhile")
        await await_until(lambda: ran == ["before", "meanwhile"])
    await app.aclose()


async def test_a_queue_that_is_divided_while_it_is_consumed_is_consumed_whole(url: str) -> None:
    plain, app, ran = Headrace(url, queue="emails"), divided(url, 3), list[int]()

    @plain.task
    async def note(n: int) -> None:
        ran.append(n)

    async with sharing(plain, "emails") as one:  # of a program that has not heard of partitions
        await plain.aenqueue("note", 0)
        await await_until(lambda: ran == [0])
        await app.aenqueue_many(app.call("note", n) for n in range(1, 301))
        await await_until(lambda: len(ran) == 301)
        assert homes(one) == names_of("emails", 3)
    await plain.aclose()
    await app.aclose()


async def test_new_partitions_of_a_paused_queue_are_paused(url: str) -> None:
    app = divided(url, 2)
    store = app.producer().astore()
    for name in names_of("emails", 2):
        await store.run(op.pause(keys_of(name), paused=True))
    await app.aenqueue("note")
    await store.follow(changing.begin("emails", 4))
    await store.follow(changing.fill("emails", 4))
    for number in range(4):
        assert await store.run(op.is_paused(keys_of(name_of("emails", number))))
    await app.aclose()


async def test_what_redis_says_counts_more_than_what_an_application_declares(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = divided(url, 3), divided(url, 5)
    await first.aenqueue("note")
    await second.aenqueue("note")
    assert filled(second) == 3
    async with sharing(second, "emails", burst=True):
        pass
    assert "declares 5: headrace partition emails 5" in caplog.text
    await first.aclose()
    await second.aclose()


async def test_a_unique_key_holds_over_all_partitions(url: str) -> None:
    app = divided(url, 4)
    jobs = [
        await app.aenqueue_many(
            [app.call_with("note", (n,), {}, {"key": f"k{n % 10}"}) for n in range(100)]
        )
    ]
    assert len({job.id for job in jobs[0]}) == 10
    assert (await counts(app)).waiting == 10
    await app.aclose()


async def test_a_consumer_by_weight_takes_from_its_own_partitions_most(url: str) -> None:
    app = divided(url, 2)
    async with sharing(app, "emails:3,images:1") as first, sharing(app, "emails:3,images:1"):
        await shares_are(app, 2)

        def weights() -> dict[str, float]:
            batcher = first.consumer._batcher
            return {k.queue: w for k, w in zip(batcher._queues, batcher._weights, strict=True)}

        await await_until(lambda: weights().get("emails", 0) > 2.9)
        assert weights()["images"] == 1
        assert weights()["emails"] + weights()["emails@1"] == pytest.approx(3)
    await app.aclose()


async def test_a_limit_holds_over_all_partitions_and_consumers(url: str) -> None:
    app, gauges = divided(url), defaultdict[str, Gauge](Gauge)

    @app.task(concurrency_limit=2)
    async def report(n: int) -> None:
        await gauges["report"].work()

    @app.task(concurrency_limit=1, limit_by="user")
    async def send(user: str, n: int) -> None:
        await gauges[user].work()

    # Also what comes to a consumer without a permit: it was delayed.
    await app.aenqueue_many(report.options(delay=n % 2 * 0.01).call(n) for n in range(60))
    users = [f"user-{n}" for n in range(20)]
    await app.aenqueue_many(send.call(user, n) for n in range(10) for user in users)
    async with sharing(app, "emails"), sharing(app, "emails"):
        await await_until(lambda: sum(gauge.ran for gauge in gauges.values()) == 260)
    ran = {key: gauge.ran for key, gauge in gauges.items()}
    assert ran == {"report": 60} | dict.fromkeys(users, 10)
    assert gauges["report"].most <= 2
    assert {gauges[user].most for user in users} == {1}
    await app.aclose()


async def test_a_limit_holds_in_a_partition_that_is_new(url: str) -> None:
    app, other, gauge = divided(url, 1), Headrace(url), Gauge()

    @app.task(concurrency_limit=1)
    async def report() -> None:
        await gauge.work()

    async with sharing(app, "emails") as one:
        store = app.producer().astore()
        await store.follow(changing.begin("emails", 2))
        await await_until(lambda: set(homes(one)) == {"emails", "emails@1"})
        # By somebody who does not declare the limit: he has not heard of it.
        await other.aenqueue_many(
            report.options(queue="emails@1").call()._replace(lane="") for _ in range(30)
        )
        await await_until(lambda: gauge.ran == 30)
    assert gauge.most == 1
    await other.aclose()
    await app.aclose()


async def test_the_limit_of_a_queue_is_shared_among_its_partitions(url: str) -> None:
    app, gauge = divided(url, 2), Gauge()
    app.limit_queue("emails", concurrency_limit=9)

    @app.task
    async def work() -> None:
        await gauge.work(0.001)

    async def parts() -> list[str | None]:
        store = app.producer().astore()
        asked = [lanes.limits(keys_of(name)) for name in names_of("emails", 8)]
        answers: list[dict[str, str]] = op.unfailed(await store.run_all(asked))
        return [found.get("*part") for found in answers]

    await app.aenqueue_many(work.call() for _ in range(200))
    async with sharing(app, "emails", concurrency=20), sharing(app, "emails", concurrency=20):
        await await_until(lambda: gauge.ran == 200)
        assert gauge.most <= 9
        store = app.producer().astore()
        await store.follow(changing.begin("emails", 8))

        async def shared() -> bool:
            return await parts() == [f"{number} 8" for number in range(8)]

        await await_until(shared, "each partition has its share")
        await store.follow(changing.fill("emails", 8))
        await await_until(lambda: filled(app) == 8)
        await app.aenqueue_many(work.call() for _ in range(800))
        await await_until(lambda: gauge.ran == 1_000)
    assert gauge.most <= 9
    await app.aclose()


async def test_a_job_of_a_partition_hands_on_a_workflow(url: str) -> None:
    app, ran = divided(url), Counter[int]()

    @app.task
    async def plus(n: int, m: int = 1) -> int:
        ran[n] += 1
        return n + m

    @app.task(result_ttl=600)
    async def hands_on(n: int, ctx: Context = CURRENT) -> list[str]:
        call = plus.call(n)
        return [ctx.enqueue(chain(call, plus.call(RESULT))), call.queue]

    know_forwarding(app)
    async with sharing(app, "emails"):
        jobs = await app.aenqueue_many(hands_on.call(10 * n) for n in range(8))
        for n, job in enumerate(jobs):
            flow_id, home = await job.aresult(WAIT_S)
            flow = app.workflow(flow_id, queue=home)

            async def has_begun(flow: Workflow = flow) -> bool:
                return (await flow.astatus()).state not in ("unknown", "waiting")

            await await_until(has_begun)
            assert await flow.aresult(WAIT_S) == 10 * n + 2
    assert set(ran.values()) == {1} and len(ran) == 16
    await app.aclose()
