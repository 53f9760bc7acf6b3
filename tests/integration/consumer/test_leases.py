"""Leases: live consumers keep their jobs, dead ones lose them soon, and a sick Redis charges nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from headrace import Context
from headrace.embedded import EmbeddedServer
from headrace.keys import LEADER
from headrace.policy import LeasePolicy
from tests.support.consuming import QUICK, Site, hold_as, ids_of
from tests.support.wait import await_until, wait_until

SHORT = LeasePolicy(lease_s=0.6, bare_lease_s=0.6)
BOTH = pytest.mark.parametrize("kind", ["async", "sync"])


class Runs:
    """What became of the runs of a task that waits until it is let go."""

    def __init__(self, site: Site, kind: str) -> None:
        self.begun: list[Context] = []
        self.ended: list[str] = []
        self.go = threading.Event()

        def body(ctx: Context) -> None:
            self.begun.append(ctx)
            wait_until(lambda: self.go.is_set() or ctx.stopping, 20)
            self.ended.append(ctx.stop_reason or "done")

        async def abody(ctx: Context) -> None:
            self.begun.append(ctx)
            try:
                await await_until(self.go.is_set, 20)
            except asyncio.CancelledError:
                self.ended.append(ctx.stop_reason or "cancelled")
                raise
            self.ended.append("done")

        function: Any = body if kind == "sync" else abody
        self.task = site.app.task(name="wait", max_attempts=1)(function)


async def lease_of(site: Site) -> float:
    """Wait until there is a lease, and give its deadline."""
    await await_until(lambda: site.redis.zcard(site.k.leases) == 1)
    return site.state().leases.popitem()[1]


class TestAlive:
    @BOTH
    async def test_a_job_longer_than_its_lease_runs_once(self, site: Site, kind: str) -> None:
        runs = Runs(site, kind)
        async with site.consumer(lease=SHORT), site.consumer(lease=SHORT):
            await site.app.aenqueue("wait")
            first = await lease_of(site)
            await await_until(lambda: site.now_ms() > first + 1_000)
            runs.go.set()
            await site.drained()
        assert runs.ended == ["done"]
        assert len(runs.begun) == 1
        assert site.counters() == {"enqueued": 1, "done": 1}

    @pytest.mark.parametrize("way", ["by move", "by claim"])
    async def test_a_task_that_keeps_the_loop_to_itself_does_not_lose_its_lease(
        self, site: Site, way: str
    ) -> None:
        runs: list[int] = []

        @site.app.task
        async def rude() -> None:
            runs.append(1)
            time.sleep(1.5)  # noqa: ASYNC251  more than two leases

        if way == "by claim":
            await rude.aenqueue()
        # Somebody else sweeps meanwhile.
        with maintenance_elsewhere(site, SHORT):
            async with site.consumer(lease=SHORT) as running:
                if way == "by move":
                    await site.idle(running)
                    await rude.aenqueue()
                await await_until(lambda: runs)
                await site.drained()
        assert len(runs) == 1
        assert site.counters() == {"enqueued": 1, "done": 1}

    async def test_jobs_are_extended_while_the_consumer_drains(self, site: Site) -> None:
        runs = Runs(site, "sync")
        async with site.consumer(lease=SHORT):
            async with site.consumer(lease=SHORT) as draining:
                await site.app.aenqueue_many([runs.task.call(), runs.task.call()])  # type: ignore[call-arg]
                await await_until(lambda: len(runs.begun) == 2)
                draining.stop()
                until = site.now_ms() + 1_500
                await await_until(lambda: site.now_ms() > until)
                runs.go.set()
                await site.drained()
        assert len(runs.begun) == 2

    async def test_jobs_claimed_ahead_are_extended_like_running_ones(self, site: Site) -> None:
        runs: list[int] = []

        @site.app.task
        async def quick(n: int) -> None:
            runs.append(n)
            if n == 50:
                await asyncio.sleep(0.05)  # held up, but not for so long that they are given back

        lease = LeasePolicy(lease_s=0.1, bare_lease_s=0.1)
        await site.app.aenqueue_many(quick.call(n) for n in range(300))
        async with site.consumer(lease=lease, concurrency=1):
            await site.drained()
        assert len(runs) == 300


@contextmanager
def maintenance_elsewhere(site: Site, lease: LeasePolicy) -> Iterator[None]:
    """Lead the maintenance from a thread with a loop of its own, as another program would."""
    from headrace.maintenance import Maintenance
    from headrace.store import AsyncStore

    leads, stop = threading.Event(), threading.Event()

    async def maintain() -> None:
        store = AsyncStore(site.url, name="elsewhere")
        maintenance = Maintenance(store, "elsewhere", lease)
        running = asyncio.create_task(maintenance.run())
        await await_until(lambda: maintenance.leads)
        leads.set()
        await await_until(stop.is_set, 30)
        running.cancel()
        await asyncio.wait([running])
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(maintain()), name="elsewhere")
    thread.start()
    assert leads.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join()


class TestLost:
    @BOTH
    @pytest.mark.parametrize("how", ["overwritten", "deleted", "job gone"])
    async def test_a_lost_claim_ends_the_run_and_its_outcome_changes_nothing(
        self, site: Site, kind: str, how: str
    ) -> None:
        runs = Runs(site, kind)
        # Nobody sweeps, as if all the rest took less time than a sweep.
        site.redis.set("headrace:leader", "nobody", ex=60)
        async with site.consumer(lease=QUICK, check=False):
            job = await site.app.aenqueue("wait")
            await await_until(lambda: runs.begun)
            if how == "overwritten":
                # Our lease has run out, say, and another consumer has it now; it goes on for long.
                item = site.state().claims[job.id][1]
                site.redis.hset(site.k.claims, job.id, b"other:1 " + item)
            elif how == "deleted":
                site.redis.hdel(site.k.claims, job.id)
                site.redis.zrem(site.k.leases, job.id)
            else:  # an operator cleans up by hand
                site.redis.delete(site.k.processing, site.k.claims, site.k.leases)
                site.foreign -= 1
            before = site.state()
            await await_until(lambda: runs.ended)
            assert runs.ended == ["lost"]
            # The consumer works on, and the late outcome is not to be seen.
            runs.go.set()
            done = site.app.task(name="done")(lambda: None)
            await done.aenqueue()
            await await_until(lambda: site.counters().get("done"))
            after = site.state()
        assert (after.processing, after.claims) == (before.processing, before.claims)
        assert not after.dead
        assert not after.delayed
        assert after.counters.get("retry") is None
        if how == "job gone":
            site.check()

    async def test_a_job_that_is_done_after_its_claim_was_lost_is_not_done_twice(
        self, site: Site
    ) -> None:
        begun: list[str] = []
        go = threading.Event()

        @site.app.task
        def deaf(ctx: Context) -> None:  # it does not look at its context
            begun.append(ctx.job_id)
            assert go.wait(20)

        async with site.consumer(lease=QUICK, concurrency=1):
            await site.app.aenqueue("deaf")
            await await_until(lambda: begun)
            site.redis.delete(site.k.claims, site.k.leases)  # now it counts as a plain consumer's
            await await_until(lambda: site.counters().get("reclaimed"), 5)
            go.set()
            await await_until(lambda: len(begun) == 2)
            await site.drained()
        counters = site.counters()
        assert counters["done"] == 1


class TestDead:
    async def test_a_job_whose_consumer_vanished_runs_again_within_lease_and_sweep(
        self, site: Site
    ) -> None:
        ran: list[tuple[int, int]] = []

        @site.app.task
        async def note(ctx: Context) -> None:
            ran.append((ctx.delivery, ctx.attempt))

        async with site.consumer(lease=QUICK, queues="elsewhere"):  # it sweeps for all queues
            await site.app.aenqueue("note")
            await await_until(lambda: site.redis.exists(LEADER))
            [job] = await hold_as(site, "vanished", 1, lease_ms=500)
            claimed_at = site.now_ms()
            await await_until(lambda: site.redis.llen(site.k.pending) == 1)
            took_ms = site.now_ms() - claimed_at
            async with site.consumer(lease=QUICK):
                await await_until(lambda: ran)
        assert 480 <= took_ms <= 500 + 1_000  # a lease, two sweeps of 50 ms, and a slow machine
        assert ran == [(1, 1)]
        assert site.counters() == {"enqueued": 1, "reclaimed": 1, "done": 1}

    async def test_a_job_that_takes_its_consumers_with_it_is_dead_in_the_end(
        self, site: Site
    ) -> None:
        lease = LeasePolicy(lease_s=0.2, bare_lease_s=0.2, max_crashes=3)
        killer = site.another_app()
        await killer.aenqueue("kills", "everybody")
        async with site.consumer(lease=lease, queues="elsewhere"):  # it sweeps for all queues
            for crash in range(3):
                await await_until(lambda: site.redis.llen(site.k.pending) == 1)
                [job] = await hold_as(site, f"victim{crash}", 1, lease_ms=100)
            [letter] = await site.died()
        assert letter["error"]["reason"] == "crashed"
        assert "3 times" in letter["error"]["message"]
        assert letter["error"]["consumer"] == "victim2"
        assert (letter["task"], letter["args"]) == ("kills", ["everybody"])
        assert (letter["crashes"], letter["delivery"]) == (3, 3)
        assert site.counters() == {"enqueued": 1, "reclaimed": 2, "dead": 1}

    async def test_a_letter_of_a_crash_that_is_moved_back_is_not_charged_for_old_crashes(
        self, site: Site
    ) -> None:
        seen: list[Context] = []

        @site.app.task
        async def note(ctx: Context) -> None:
            seen.append(ctx)

        async with site.consumer():
            site.push({"id": "j", "delivery": 5, "crashes": 5, "attempt": 2, "task": "note",
                       "error": {"reason": "crashed"}})  # fmt: skip
            await await_until(lambda: seen)
            await site.drained()
        assert (seen[0].attempt, seen[0].delivery) == (1, 5)

    async def test_twenty_equal_jobs_of_a_dead_plain_consumer_come_back_together(
        self, site: Site
    ) -> None:
        ran: list[int] = []

        @site.app.task
        async def note() -> None:
            ran.append(site.now_ms())

        site.push(*[b'{"task":"note"}'] * 20)
        for _ in range(20):
            assert site.redis.brpoplpush(site.k.pending, site.k.processing, 1)
        async with site.consumer(lease=QUICK):
            await await_until(lambda: len(ran) == 20)
            await site.drained()
        assert len(ran) == 20
        assert ran[-1] - ran[0] < 500

    async def test_a_plain_consumer_works_beside(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(name: str) -> None:
            ran.append(name)

        def plain(stop: threading.Event) -> None:
            """The seed's consumer: BRPOPLPUSH, work, LREM."""
            from redis import Redis

            with Redis.from_url(site.url) as redis:
                while not stop.is_set():
                    job = redis.brpoplpush(site.k.pending, site.k.processing, 1)
                    if job is not None:
                        taken.append(job)
                        assert redis.lrem(site.k.processing, 1, job) == 1

        taken: list[bytes] = []
        stop = threading.Event()
        thread = threading.Thread(target=plain, args=(stop,))
        async with site.consumer(concurrency=2, lease=QUICK):
            thread.start()
            for n in range(200):
                await note.aenqueue(str(n))
            await site.drained()
            stop.set()
            await asyncio.to_thread(thread.join)
            site.foreign -= len(taken)
            # Leases that the sweep gave for what was gone soon after run out by themselves.
            await await_until(lambda: not site.redis.exists(site.k.leases))
        assert len(taken) + len(ran) == 200
        assert taken
        assert ran

    async def test_what_a_plain_consumer_takes_too_long_for_runs_here(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(ctx: Context) -> None:
            ran.append(ctx.delivery)

        site.push({"task": "note"})
        job = site.redis.rpoplpush(site.k.pending, site.k.processing)
        async with site.consumer(lease=QUICK):
            await await_until(lambda: ran)
            await site.drained()
        assert site.redis.lrem(site.k.processing, 1, job) == 0


class TestSickRedis:
    @BOTH
    async def test_a_redis_that_is_away_longer_than_a_lease_charges_nobody(
        self, own_site: Site, own_server: EmbeddedServer, kind: str
    ) -> None:
        runs = Runs(own_site, kind)
        site = own_site
        # Long enough for a server that is just starting to answer within a quarter of it.
        with_lease = {"lease": LeasePolicy(lease_s=1.0, bare_lease_s=1.0)}
        async with site.consumer(**with_lease), site.consumer(**with_lease) as idle:
            jobs = await site.app.aenqueue_many([runs.task.call() for _ in range(3)])  # type: ignore[call-arg]
            await await_until(lambda: len(runs.begun) == 3)
            await await_until(lambda: set(site.state().leases) == {job.id for job in jobs})
            own_server.kill()
            since = time.monotonic()
            await await_until(lambda: time.monotonic() > since + 1.2)  # more than a lease
            await asyncio.to_thread(own_server.restart)
            # They come back by themselves, and go on to hold what they held.
            until = site.now_ms() + 600
            await await_until(lambda: min(site.state().leases.values(), default=0) > until)
            runs.go.set()
            await await_until(lambda: len(runs.ended) == 3)
            await site.drained()
            await site.idle(idle)
        assert runs.ended == ["done"] * 3
        assert len(runs.begun) == 3
        assert site.counters() == {"enqueued": 3, "done": 3}

    @BOTH
    async def test_a_redis_that_stands_still_longer_than_a_lease_charges_nobody(
        self, own_site: Site, own_server: EmbeddedServer, kind: str
    ) -> None:
        runs = Runs(own_site, kind)
        site = own_site
        async with site.consumer(lease=QUICK), site.consumer(lease=QUICK):
            job = await site.app.aenqueue("wait")
            await await_until(lambda: runs.begun)
            await lease_of(site)
            os.kill(own_server.pid, signal.SIGSTOP)
            try:
                since = time.monotonic()
                # Nobody knows what it does meanwhile, so the run is told that its lease may be lost.
                await await_until(lambda: runs.ended)
                assert time.monotonic() - since < QUICK.lease_s + 0.5
                await await_until(lambda: time.monotonic() > since + 1.2)
            finally:
                os.kill(own_server.pid, signal.SIGCONT)
            runs.go.set()
            await site.drained()
            counters = site.counters()
        assert runs.ended[0] == "lost"
        assert "reclaimed" not in counters
        assert counters["done"] == 1
        # The async run was cancelled, and was given back uncharged; the sync one went on to its end.
        assert [ctx.delivery for ctx in runs.begun] == ([0, 1] if kind == "async" else [0])
        assert [ctx.attempt for ctx in runs.begun] == ([1, 1] if kind == "async" else [1])
        assert job.id not in ids_of(site.state().dead)
