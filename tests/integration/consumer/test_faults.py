"""Networks and servers that fail: an answer lost after the act, scripts forgotten, connections killed."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import Backoff, Context, Headrace, ReplyLost, StoreError
from headrace.embedded.server import free_port
from headrace.keys import keys_of
from headrace.scripts import script
from tests.support.consuming import QUICK, Site
from tests.support.proxy import Fault, Proxy
from tests.support.servers import private_server
from tests.support.wait import await_until

# Not done and not answered; done and not answered.
LOST = pytest.mark.parametrize("fault", ["cut", "swallow"])


def request(name: str) -> bytes:
    """Give what stands in the requests for a script."""
    return script(name).sha.encode()


@pytest.fixture
def runs(site: Site) -> list[tuple[int, int, int]]:
    """Give the runs of the task ``note``: the job's number, its delivery and its attempt."""
    runs: list[tuple[int, int, int]] = []

    @site.app.task
    async def note(n: int, ctx: Context) -> None:
        runs.append((n, ctx.delivery, ctx.attempt))

    return runs


class TestAnAnswerIsLost:
    @LOST
    async def test_of_a_settle_it_is_sent_again_and_counts_once(
        self,
        site: Site,
        proxy: Proxy,
        app: Headrace,
        runs: list[tuple[int, int, int]],
        fault: Fault,
    ) -> None:
        async with site.consumer(app):
            proxy.fail_next(fault, request("settle"))
            await site.app.aenqueue_many(site.app.call("note", n) for n in range(5))
            await site.drained()
            await await_until(lambda: proxy.failures == 1)
        assert sorted(runs) == [(n, 0, 1) for n in range(5)]
        counters = site.counters()
        counters.pop("lost", None)  # the second time, the claims are gone: by the first
        assert counters == {"enqueued": 5, "done": 5}

    @LOST
    async def test_of_a_retry_the_job_runs_again_under_its_id_and_uncharged(
        self, site: Site, proxy: Proxy, app: Headrace, fault: Fault
    ) -> None:
        seen: list[tuple[str, int]] = []

        @app.task(backoff=Backoff(base_s=0))
        async def fails_once(ctx: Context) -> None:
            seen.append((ctx.job_id, ctx.attempt))
            if len(seen) == 1:
                proxy.fail_next(fault, request("settle"))
                raise OSError

        async with site.consumer(app):
            job = await site.app.aenqueue("fails_once")
            await site.drained()  # within a time that is shorter than a lease
        assert seen == [(job.id, 1), (job.id, 2)]
        assert not site.counters().keys() & {"renamed", "reclaimed"}

    @LOST
    async def test_of_a_claim_what_it_gave_is_released_uncharged_and_claimed_again(
        self,
        site: Site,
        proxy: Proxy,
        app: Headrace,
        runs: list[tuple[int, int, int]],
        fault: Fault,
    ) -> None:
        proxy.fail_next(fault, request("claim"))
        await site.app.aenqueue_many(site.app.call("note", n) for n in range(5))
        async with site.consumer(app, concurrency=5):
            await site.drained()  # within a time that is shorter than a lease
        assert proxy.failures == 1
        delivery = 1 if fault == "swallow" else 0
        assert runs == [(n, delivery, 1) for n in range(5)]
        counters = site.counters()
        assert counters["done"] == 5
        assert counters.get("release", 0) == 5 * delivery
        assert "reclaimed" not in counters

    async def test_of_a_claim_at_the_very_end_what_it_gave_is_released_uncharged(
        self, site: Site, proxy: Proxy, app: Headrace, runs: list[tuple[int, int, int]]
    ) -> None:
        proxy.fail_next("swallow", request("claim"))
        await site.app.aenqueue_many(site.app.call("note", n) for n in range(5))
        async with site.consumer(app, concurrency=5) as running:
            await await_until(lambda: site.redis.llen(site.k.processing) == 5)
            running.stop()
            await running.ended()
        assert not runs
        assert len(site.state().pending) == 5
        assert site.counters() == {"enqueued": 5, "release": 5}

    @LOST
    async def test_of_claims_of_two_queues_what_both_gave_is_released_and_claimed_again(
        self,
        site: Site,
        proxy: Proxy,
        app: Headrace,
        runs: list[tuple[int, int, int]],
        fault: Fault,
    ) -> None:
        go = asyncio.Event()

        @site.app.task
        async def wait() -> None:
            await go.wait()

        first = keys_of("first")
        urgent = site.app.tasks["note"].options(priority=1)
        async with site.consumer(app, queues="first,queue", concurrency=5) as running:
            await wait.aenqueue()
            await site.idle(running, queues=2)  # it has seen that both are empty
            # As enqueue does, but for the nudge; and no move takes them.
            site.redis.zadd(first.priority, {urgent.call(1).job: -1, urgent.call(2).job: -1})
            site.redis.zadd(site.k.priority, {urgent.call(3).job: -1, urgent.call(4).job: -1})
            site.foreign += 2
            proxy.fail_next(fault, request("claim"))
            go.set()
            await await_until(lambda: len(runs) == 4)  # within a time that is shorter than a lease
            await site.drained()
        assert proxy.failures == 1
        # The first one's turn is one job; the other's is the rest.
        again = {1, 3, 4} if fault == "swallow" else set()
        assert sorted(runs) == [(n, int(n in again), 1) for n in (1, 2, 3, 4)]

    @LOST
    async def test_of_an_adoption_it_is_sent_again(
        self,
        site: Site,
        proxy: Proxy,
        app: Headrace,
        runs: list[tuple[int, int, int]],
        fault: Fault,
    ) -> None:
        async with site.consumer(app) as running:
            await site.idle(running)
            proxy.fail_next(fault, request("adopt"))
            site.push({"task": "note", "args": [1]})
            await await_until(lambda: proxy.failures == 1)
            await site.drained()
        assert runs == [(1, 0, 1)]
        assert site.counters() == {"done": 1}

    @pytest.mark.parametrize("fault", ["cut", "swallow", "hold"])
    async def test_of_an_extension_it_is_tried_again_in_time(
        self, site: Site, proxy: Proxy, app: Headrace, fault: Fault
    ) -> None:
        ended: list[str | None] = []
        go = asyncio.Event()

        @site.app.task
        async def wait(ctx: Context) -> None:
            try:
                await go.wait()
            finally:
                ended.append(ctx.stop_reason)

        async with site.consumer(app, lease=QUICK):
            job = await site.app.aenqueue("wait")
            await await_until(lambda: site.redis.zcard(site.k.leases))
            proxy.fail_next(fault, request("extend"))
            await await_until(lambda: proxy.failures == 1)
            until = site.now_ms() + QUICK.lease_ms
            await await_until(lambda: ended or site.state().leases[job.id] > until)
            go.set()
            await site.drained()
        assert ended == [None]
        assert site.counters() == {"enqueued": 1, "done": 1}

    async def test_of_a_blocking_move_the_job_runs_after_the_lease_that_the_sweep_gives(
        self, site: Site, proxy: Proxy, app: Headrace, runs: list[tuple[int, int, int]]
    ) -> None:
        proxy.fail_next("swallow", b"BLMOVE")
        async with site.consumer(app, lease=QUICK) as running:
            await site.idle(running)
            await site.app.aenqueue("note", 1)
            await await_until(lambda: site.redis.zcard(site.k.leases) == 1)
            await site.app.aenqueue("note", 2)
            await await_until(lambda: len(runs) == 1)
            site.leases_run_out("-")
            await site.drained()
            await site.idle(running)
        assert proxy.failures == 1
        assert sorted(runs) == [(1, 1, 1), (2, 0, 1)]
        assert site.counters() == {"enqueued": 2, "reclaimed": 1, "done": 2}

    async def test_of_a_wait_for_nudges_the_consumer_looks_all_the_same(
        self, site: Site, proxy: Proxy, app: Headrace, runs: list[tuple[int, int, int]]
    ) -> None:
        proxy.fail_next("swallow", b"BLPOP")
        async with site.consumer(app) as running:
            await site.idle(running)
            await site.app.tasks["note"].options(priority=3).aenqueue(1)
            await await_until(lambda: runs)
            await site.drained()
        assert proxy.failures == 1

    @pytest.mark.parametrize(
        "part",
        [
            request("lead"),
            b"GETEX",
            b"TIME",
            b"EXISTS",
            *map(request, ("promote", "sweep", "reclaim")),
        ],
        ids=["lead", "keep", "clock", "rest", "promote", "sweep", "reclaim"],
    )
    @LOST
    async def test_of_the_maintenance_it_goes_on(
        self,
        site: Site,
        proxy: Proxy,
        app: Headrace,
        runs: list[tuple[int, int, int]],
        part: bytes,
        fault: Fault,
    ) -> None:
        later = site.app.tasks["note"].options(delay=3600)
        waits = await later.aenqueue(2)  # so that there is something to maintain
        proxy.fail_next(fault, part)
        async with site.consumer(app, lease=QUICK):
            await await_until(lambda: proxy.failures == 1)
            await site.app.tasks["note"].options(delay=0.1).aenqueue(1)
            await await_until(lambda: runs)
            await waits.acancel()
            await site.drained()
        assert runs == [(1, 0, 1)]

    @pytest.mark.parametrize("seed", range(3))
    async def test_again_and_again_at_random_nothing_is_lost(
        self,
        site: Site,
        proxy: Proxy,
        app: Headrace,
        runs: list[tuple[int, int, int]],
        seed: int,
    ) -> None:
        chance = random.Random(seed)
        parts = [b"BLMOVE", b"BLPOP", *map(request, ("adopt", "claim", "settle", "extend"))]
        faults: list[Fault] = ["cut", "swallow"]
        count = 0
        async with site.consumer(app, lease=QUICK, concurrency=10) as running:

            def half_ran() -> bool:
                site.strays_run_out(running)
                return len(runs) > count // 2

            while proxy.failures < 8:
                if count % 10 == 0:
                    proxy.fail_next(chance.choice(faults), chance.choice(parts))
                if chance.random() < 0.3:
                    site.push({"task": "note", "args": [count]})
                    await await_until(half_ran)
                else:
                    await site.app.aenqueue("note", count)
                count += 1
            await site.drained(without_strays=[running])
        ran = Counter(n for n, _, _ in runs)
        assert ran.keys() == set(range(count))
        assert max(ran.values()) == 1  # nothing that ran was given to anybody else
        assert site.counters()["done"] == count


class TestUnderLoad:
    async def test_scripts_are_forgotten_again_and_again(
        self, site: Site, runs: list[tuple[int, int, int]]
    ) -> None:
        async with site.consumer(concurrency=10), site.consumer(concurrency=10):
            for n in range(300):
                await site.app.aenqueue("note", n)
                if n % 10 == 0:
                    site.redis.script_flush()
            await site.drained()
        assert sorted(runs) == [(n, 0, 1) for n in range(300)]
        assert site.ends() == {"enqueued": 300, "done": 300}

    async def test_all_connections_are_killed_again_and_again(
        self, site: Site, runs: list[tuple[int, int, int]]
    ) -> None:
        accepted: list[int] = []
        unsure: list[int] = []
        options: dict[str, Any] = {"lease": QUICK, "concurrency": 10}
        async with site.consumer(**options) as one, site.consumer(**options) as other:
            for n in range(300):
                if n % 50 == 25:
                    site.redis.client_kill_filter(_type="normal", skipme=True)
                try:
                    await site.app.aenqueue("note", n)
                    accepted.append(n)
                except ReplyLost:
                    unsure.append(n)
            await site.drained(without_strays=[one, other])
            await site.idle(one, other)
        ran = Counter(n for n, _, _ in runs)
        assert set(accepted) <= ran.keys() <= {*accepted, *unsure}
        assert max(ran.values()) == 1
        assert accepted

    async def test_a_consumer_wakes_after_its_connections_were_killed_while_it_was_idle(
        self, site: Site, runs: list[tuple[int, int, int]]
    ) -> None:
        async with site.consumer() as running:
            for n in range(3):
                await site.idle(running)
                site.redis.client_kill_filter(_type="normal", skipme=True)
                site.push({"task": "note", "args": [n]})
                await await_until(lambda: len(runs) == n + 1)
            await site.drained()
        assert runs == [(n, 0, 1) for n in range(3)]


async def test_a_consumer_that_is_there_before_its_redis_begins_when_that_is(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with Redis.from_url(url) as redis:
        site = Site(url, redis)
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        async with site.consumer(check=False) as running:
            await await_until(lambda: running.consumer._reconnect.failures > 1)
            with pytest.raises(StoreError):
                await note.aenqueue(0)
            server = await asyncio.to_thread(private_server, tmp_path / "data", port=port)
            with server:
                await note.aenqueue(1)
                await await_until(lambda: ran)
                await site.drained()
                running.stop()
                await running.ended()
                site.check()
                await site.close()
        assert ran == [1]


class TestABug:
    """A part of the consumer ends for a reason that nobody thought of."""

    @pytest.mark.parametrize(
        "part",
        [
            "headrace.maintenance.maintenance.Maintenance._turn",
            "headrace.consumer.dispatcher.Dispatcher.look_at_the_clock",
            "headrace.consumer.leases.LeaseKeeper.extend_all",
            "headrace.consumer.batcher.Batcher.trip",
            "headrace.consumer.listener.Listener.open",
            "headrace.consumer.dispatcher.Dispatcher.arrive",
        ],
    )
    async def test_ends_the_consumer_with_it_soon_and_nothing_is_left(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        begun: list[int] = []

        @site.app.task
        async def long() -> None:
            begun.append(1)
            await asyncio.sleep(60)

        def fails(*_: object, **__: object) -> None:
            raise LookupError("a bug")

        with pytest.raises(LookupError, match="a bug"):
            async with site.consumer(lease=QUICK) as running:
                await long.aenqueue()
                await await_until(lambda: begun)
                await site.idle(running)
                monkeypatch.setattr(part, fails)
                await long.aenqueue()
                await running.ended()
        monkeypatch.undo()
        await site.check_nothing_is_left()

    async def test_the_consumer_is_cancelled_and_so_are_its_jobs(self, site: Site) -> None:
        begun: list[int] = []

        @site.app.task
        async def long() -> None:
            begun.append(1)
            await asyncio.sleep(60)

        with pytest.raises(asyncio.CancelledError):
            async with site.consumer() as running:
                await long.aenqueue()
                await await_until(lambda: begun)
                running.task.cancel()
                await running.ended()
        await site.check_nothing_is_left()


class TestProducers:
    @pytest.mark.parametrize("way", ["sync", "async"])
    @LOST
    async def test_are_told_when_a_job_may_or_may_not_be_in_and_do_not_send_it_twice(
        self, site: Site, proxy: Proxy, app: Headrace, way: str, fault: Fault
    ) -> None:
        proxy.fail_next(fault, request("push"))
        with pytest.raises(ReplyLost) as failure:
            await enqueue(app, way, 1)
        assert failure.value.may_have_happened
        assert site.redis.llen(site.k.pending) == (fault == "swallow")
        await enqueue(app, way, 2)  # the next one works
        assert site.redis.llen(site.k.pending) == (fault == "swallow") + 1
        await app.aclose()
        app.close()
        site.check()

    @LOST
    async def test_may_repeat_a_job_with_a_key(
        self, site: Site, proxy: Proxy, app: Headrace, fault: Fault
    ) -> None:
        @app.task
        async def note(n: int) -> None: ...

        unique = note.options(key="once")
        proxy.fail_next(fault, request("enqueue"))
        with pytest.raises(ReplyLost):
            await unique.aenqueue(1)
        await unique.aenqueue(1)
        assert site.redis.llen(site.k.pending) == 1
        await app.aclose()

    async def test_in_threads_and_on_the_loop_lose_nothing_that_was_accepted(
        self, site: Site, proxy: Proxy, app: Headrace, runs: list[tuple[int, int, int]]
    ) -> None:
        accepted: list[int] = []
        unsure: list[int] = []
        chance = random.Random(1)

        def note(n: int, error: StoreError | None) -> None:
            (accepted if error is None else unsure).append(n)

        def produce(start: int) -> None:
            for n in range(start, start + 100):
                try:
                    app.enqueue("note", n)
                except StoreError as error:
                    note(n, error)
                else:
                    note(n, None)

        threads = [threading.Thread(target=produce, args=(start,)) for start in (1_000, 2_000)]
        async with site.consumer():
            for thread in threads:
                thread.start()
            for n in range(100):
                if n % 10 == 0:
                    proxy.fail_next(chance.choice(["cut", "swallow"]), request("push"))
                try:
                    await app.aenqueue("note", n)
                except StoreError as error:
                    note(n, error)
                else:
                    note(n, None)
            for thread in threads:
                await asyncio.to_thread(thread.join)
            await site.drained()
        await app.aclose()
        app.close()
        ran = Counter(n for n, _, _ in runs)
        assert set(accepted) <= ran.keys() <= {*accepted, *unsure}
        assert max(ran.values()) == 1
        assert len(accepted) + len(unsure) == 300
        assert unsure


async def enqueue(app: Headrace, way: str, n: int) -> None:
    if way == "sync":
        await asyncio.to_thread(app.enqueue, "note", n)
    else:
        await app.aenqueue("note", n)
