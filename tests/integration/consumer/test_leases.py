"""Leases: live consumers keep their jobs, dead ones lose them soon, and a sick Redis charges nobody."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from headrace import Context
from headrace.embedded import EmbeddedServer
from headrace.policy import LeasePolicy
from tests.support.consuming import LONG_S, QUICK, Quick, Site, claim_ahead, hold_as, ids_of
from tests.support.tasks import BOTH
from tests.support.wait import WAIT_S, await_until, bound, wait_until


class Runs:
    """What became of the runs of a task that waits until it is let go."""

    def __init__(self, site: Site, kind: str) -> None:
        self.begun: list[Context] = []
        self.ended: list[str] = []
        self.go = threading.Event()

        def body(ctx: Context) -> None:
            self.begun.append(ctx)
            wait_until(lambda: self.go.is_set() or ctx.stopping)
            self.ended.append(ctx.stop_reason or "done")

        async def abody(ctx: Context) -> None:
            self.begun.append(ctx)
            try:
                await await_until(self.go.is_set)
            except asyncio.CancelledError:
                self.ended.append(ctx.stop_reason or "cancelled")
                raise
            self.ended.append("done")

        function: Any = body if kind == "sync" else abody
        self.task = site.app.task(name="wait", max_attempts=1)(function)


async def leased(site: Site, count: int = 1) -> dict[str, float]:
    """Wait until there are so many leases, and give their deadlines."""
    await await_until(lambda: site.redis.zcard(site.k.leases) == count)
    return site.state().leases


def extended(site: Site, before: dict[str, float]) -> bool:
    """Whether all leases last longer than before."""
    now = site.state().leases
    return all(now[name] > deadline for name, deadline in before.items())


class TestAlive:
    @BOTH
    async def test_a_lease_is_extended_again_and_again_while_its_job_runs(
        self, site: Site, kind: str
    ) -> None:
        runs = Runs(site, kind)
        async with site.consumer(lease=QUICK), site.consumer(lease=QUICK):
            await site.app.aenqueue("wait")
            for _ in range(3):
                before = await leased(site)
                await await_until(lambda: extended(site, before))
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
            wait_until(lambda: site.redis.zcard(site.k.leases))
            for _ in range(2):
                before = site.state().leases
                wait_until(lambda: extended(site, before))

        if way == "by claim":
            await rude.aenqueue()
        # Somebody else sweeps meanwhile.
        with maintenance_elsewhere(site, QUICK):
            async with site.consumer(lease=QUICK) as running:
                if way == "by move":
                    await site.idle(running)
                    await rude.aenqueue()
                await await_until(lambda: runs)
                await site.drained()
        assert len(runs) == 1
        assert site.ends() == {"enqueued": 1, "done": 1}

    async def test_jobs_are_extended_while_the_consumer_drains(self, site: Site) -> None:
        runs = Runs(site, "sync")
        async with site.consumer(lease=QUICK):
            async with site.consumer(lease=QUICK) as draining:
                await site.app.aenqueue_many([runs.task.call(), runs.task.call()])
                await await_until(lambda: len(runs.begun) == 2)
                draining.stop()
                for _ in range(2):
                    before = await leased(site, 2)
                    await await_until(lambda: extended(site, before))
                runs.go.set()
                await site.drained()
        assert len(runs.begun) == 2

    async def test_jobs_claimed_ahead_are_extended_like_running_ones(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim_ahead(monkeypatch)
        runs: list[int] = []

        @site.app.task
        async def quick(n: int) -> None:
            runs.append(n)
            if n == 50:
                ready = running.consumer._slots.ready
                await await_until(lambda: ready)
                ahead = {job.head.id for job in ready}
                before = {n: at for n, at in site.state().leases.items() if n in ahead}
                assert before
                await await_until(lambda: extended(site, before))

        await site.app.aenqueue_many(quick.call(n) for n in range(300))
        async with site.consumer(lease=QUICK, concurrency=1) as running:
            await site.drained()
        assert runs == list(range(300))


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
        await await_until(stop.is_set)
        running.cancel()
        await asyncio.wait([running])
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(maintain()), name="elsewhere")
    thread.start()
    assert leads.wait(WAIT_S)
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
        site.let_nobody_sweep()
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
            assert go.wait(WAIT_S)

        async with site.consumer(lease=QUICK, concurrency=1):
            await site.app.aenqueue("deaf")
            await await_until(lambda: begun)
            site.redis.delete(site.k.claims, site.k.leases)  # now it counts as a plain consumer's
            await leased(site)
            site.leases_run_out()
            await await_until(lambda: site.counters().get("reclaimed"))
            go.set()
            await await_until(lambda: len(begun) == 2)
            await site.drained()
        counters = site.counters()
        assert counters["done"] == 1


class TestDead:
    async def test_a_job_whose_consumer_vanished_runs_again_when_its_lease_is_past(
        self, site: Site
    ) -> None:
        ran: list[tuple[int, int]] = []

        @site.app.task
        async def note(ctx: Context) -> None:
            ran.append((ctx.delivery, ctx.attempt))

        async with site.consumer(lease=QUICK, queues="elsewhere"):  # it sweeps for all queues
            await site.app.aenqueue("note")
            await hold_as(site, "vanished", 1, lease_ms=600_000)
            for _ in range(3):
                swept = site.redis.hget(site.k.meta, "swept")
                await await_until(lambda: site.redis.hget(site.k.meta, "swept") != swept)
            assert site.redis.llen(site.k.processing) == 1
            site.leases_run_out()
            await await_until(lambda: site.redis.llen(site.k.pending) == 1)
            async with site.consumer(lease=QUICK):
                await await_until(lambda: ran)
        assert ran == [(1, 1)]
        assert site.counters() == {"enqueued": 1, "reclaimed": 1, "done": 1}

    async def test_a_job_that_takes_its_consumers_with_it_is_dead_in_the_end(
        self, site: Site
    ) -> None:
        killer = site.another_app()
        await killer.aenqueue("kills", "everybody")
        lease = Quick(max_crashes=3)
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
            ran.append(1)

        site.push(*[b'{"task":"note"}'] * 20)
        for _ in range(20):
            assert site.redis.brpoplpush(site.k.pending, site.k.processing, 1)
        async with site.consumer(lease=QUICK):
            await await_until(lambda: site.redis.zcard(site.k.leases))
            assert len(site.state().leases) == 20  # one sweep gave them all
            site.leases_run_out()
            await await_until(lambda: len(ran) == 20)
            await site.drained()
        assert len(ran) == 20
        assert site.counters()["reclaimed"] == 20

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
            # The sweep may have given leases for what was gone soon after.
            site.leases_run_out()
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
            await leased(site)
            assert not ran
            site.leases_run_out()
            await await_until(lambda: ran)
            await site.drained()
        assert site.redis.lrem(site.k.processing, 1, job) == 0


# Here it must truly be away: so long that a live consumer on this machine loses no lease before.
AWAY_S = bound(0.4)


class TestSickRedis:
    @BOTH
    async def test_a_redis_that_is_away_longer_than_a_lease_charges_nobody(
        self, own_site: Site, own_server: EmbeddedServer, kind: str
    ) -> None:
        runs = Runs(own_site, kind)
        site = own_site
        # Long enough for a server that is just starting to answer within a quarter of it.
        with_lease: dict[str, Any] = {"lease": LeasePolicy(lease_s=AWAY_S, bare_lease_s=AWAY_S)}
        async with site.consumer(**with_lease), site.consumer(**with_lease) as idle:
            jobs = await site.app.aenqueue_many([runs.task.call() for _ in range(3)])
            await await_until(lambda: len(runs.begun) == 3)
            await await_until(lambda: set(site.state().leases) == {job.id for job in jobs})
            own_server.kill()
            await asyncio.sleep(1.2 * AWAY_S)  # more than a lease
            await asyncio.to_thread(own_server.restart)
            # They come back by themselves, and go on to hold what they held.
            until = site.now_ms() + 600 * AWAY_S
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
        lease = LeasePolicy(lease_s=AWAY_S, bare_lease_s=AWAY_S)
        async with site.consumer(lease=lease), site.consumer(lease=lease):
            job = await site.app.aenqueue("wait")
            await await_until(lambda: runs.begun)
            await leased(site)
            os.kill(own_server.pid, signal.SIGSTOP)
            try:
                # Nobody knows what it does meanwhile, so the run is told that its lease may be lost.
                await await_until(lambda: runs.ended)
                await asyncio.sleep(1.2 * AWAY_S)
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


async def test_a_c_call_that_keeps_the_interpreter_longer_than_a_lease_is_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    short = LeasePolicy(lease_s=0.5, bare_lease_s=LONG_S)  # it is to run out here

    @site.app.task
    def hold() -> None:
        # Called so, C code keeps Python's global lock; `ctypes.CDLL` gives it away.
        ctypes.PyDLL(None).usleep(round(2 * short.lease_s * 1_000_000))

    async with site.consumer(lease=short, check=False):

        async def told() -> bool:
            # Again, if the keeper had not heard of the job before it was over.
            await hold.aenqueue()
            await site.drained()
            return "no lease could be extended for" in caplog.text

        await await_until(told)
