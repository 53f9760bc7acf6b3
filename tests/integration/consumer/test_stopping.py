"""Ending: what runs is finished, what waits is given back uncharged and in order, nothing is left."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Backoff, Context, Headrace
from headrace.embedded import EmbeddedServer
from headrace.embedded.server import free_port
from tests.support.consuming import LONG_S, Site, claim_ahead, consuming
from tests.support.proxy import proxied
from tests.support.tasks import BOTH
from tests.support.wait import WAIT_S, await_until, wait_until


def waiting(site: Site) -> list[dict[str, Any]]:
    """Read the pending jobs, the next one first."""
    return [json.loads(job) for job in reversed(site.state().pending)]


class TestFinishing:
    @BOTH
    async def test_running_jobs_are_finished_and_no_other_is_begun(
        self, site: Site, kind: str
    ) -> None:
        begun: list[int] = []
        go = threading.Event()

        def body(n: int) -> None:
            begun.append(n)
            assert go.wait(WAIT_S)

        async def abody(n: int) -> None:
            begun.append(n)
            await await_until(go.is_set)

        function: Any = body if kind == "sync" else abody
        task: Any = site.app.task(name="wait")(function)
        async with site.consumer(concurrency=2) as running:
            await site.app.aenqueue_many(task.call(n) for n in range(4))
            await await_until(lambda: len(begun) == 2)
            running.stop()
            await task.aenqueue(4)
            assert not running.task.done()
            go.set()
            await running.ended()
        assert sorted(begun) == [0, 1]
        assert [job["args"] for job in waiting(site)] == [[2], [3], [4]]
        assert site.counters() == {"enqueued": 5, "done": 2}

    async def test_jobs_claimed_ahead_go_back_to_the_front_uncharged_and_in_order(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim_ahead(monkeypatch)
        released: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            if n == 150:
                await await_until(lambda: running.consumer._slots.ready)
                released.append(len(running.consumer._slots.ready))
                running.stop()

        async with site.consumer(concurrency=1) as running:
            await site.app.aenqueue_many(note.call(n) for n in range(400))
            await running.ended()
        jobs = waiting(site)
        assert [job["args"][0] for job in jobs] == list(range(151, 400))
        deliveries = [job.get("delivery", 0) for job in jobs]
        assert deliveries == sorted(deliveries, reverse=True)
        assert sum(deliveries) >= released[0]  # and perhaps those of a claim that was under way
        assert not any("attempt" in job or "crashes" in job for job in jobs)
        assert site.counters()["done"] == 151

    async def test_what_is_given_back_keeps_its_priority(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim_ahead(monkeypatch)

        @site.app.task
        async def note(n: int) -> None:
            if n == 50:
                await await_until(lambda: running.consumer._slots.ready)
                running.stop()

        async with site.consumer(concurrency=1) as running:
            await site.app.aenqueue_many(
                note.options(priority=7).call(n) for n in range(100)
            )  # fmt: skip
            await running.ended()
        left = [json.loads(job) for job, _ in site.state().priority]
        assert [job["args"][0] for job in left] == list(range(51, 100))
        assert {job["priority"] for job in left} == {7}

    async def test_a_claim_that_is_under_way_at_the_stop_is_given_back(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        await site.app.aenqueue_many(note.call(n) for n in range(10))
        with proxied(site.url) as proxy:
            app = Headrace(proxy.url)
            app.tasks = site.app.tasks
            proxy.delay_s = 0.2
            async with site.consumer(app, concurrency=5) as running:
                await await_until(lambda: site.redis.llen(site.k.processing) == 5)
                running.stop()
                await running.ended()
        assert not ran
        assert [job["args"][0] for job in waiting(site)] == list(range(10))
        assert [job.get("delivery", 0) for job in waiting(site)] == [1] * 5 + [0] * 5

    async def test_one_that_is_stopped_before_it_has_begun_ends_and_claims_nothing(
        self, site: Site
    ) -> None:
        site.push({"task": "note"})
        async with site.consumer() as running:
            running.stop()
            await running.ended()
        assert len(site.state().pending) == 1


class TestGrace:
    async def test_async_tasks_are_cancelled_at_its_end_and_given_back(self, site: Site) -> None:
        said: list[Any] = []

        @site.app.task
        async def long(ctx: Context) -> None:
            try:
                said.append("begun")
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                said.append(ctx.stop_reason)
                raise

        async with site.consumer(grace_s=0.1) as running:
            await site.app.aenqueue("long")
            await await_until(lambda: said)
            running.stop()
            await running.ended()
        assert said == ["begun", "shutdown"]
        [job] = waiting(site)
        assert (job["delivery"], "attempt" in job, "crashes" in job) == (1, False, False)
        assert site.counters() == {"enqueued": 1, "release": 1}

    async def test_a_task_may_clean_up_and_be_done(self, site: Site) -> None:
        begun: list[int] = []

        @site.app.task
        async def tidy() -> None:
            begun.append(1)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)

        async with site.consumer(grace_s=0.1) as running:
            await tidy.aenqueue()
            await await_until(lambda: begun)
            running.stop()
            await running.ended()
        assert site.counters() == {"enqueued": 1, "done": 1}

    async def test_a_sync_job_that_asks_ends_itself_and_is_given_back(self, site: Site) -> None:
        begun: list[int] = []

        @site.app.task
        def polite(ctx: Context) -> None:
            begun.append(1)
            wait_until(lambda: ctx.stopping)
            ctx.check()

        async with site.consumer(grace_s=0.1) as running:
            await site.app.aenqueue("polite")
            await await_until(lambda: begun)
            running.stop()
            await running.ended()
        assert site.counters() == {"enqueued": 1, "release": 1}

    async def test_a_sync_job_that_hangs_is_given_back_and_its_late_end_changes_nothing(
        self, site: Site
    ) -> None:
        begun: list[int] = []
        go = threading.Event()

        @site.app.task
        def hangs() -> None:
            begun.append(1)
            assert go.wait(WAIT_S)

        async with site.consumer(grace_s=0.1, check=False) as running:
            await hangs.aenqueue()
            await await_until(lambda: begun)
            running.stop()
            await running.ended()
        before = site.check()
        assert [job["delivery"] for job in waiting(site)] == [1]
        go.set()
        await site.check_nothing_is_left()
        assert site.check() == before

    async def test_a_second_stop_ends_at_once(self, site: Site) -> None:
        begun: list[int] = []
        go = threading.Event()

        @site.app.task
        def hangs() -> None:
            begun.append(1)
            assert go.wait(WAIT_S)

        @site.app.task
        async def long() -> None:
            begun.append(1)
            await asyncio.sleep(60)

        async with site.consumer(check=False, grace_s=LONG_S) as running:
            await hangs.aenqueue()
            await long.aenqueue()
            await await_until(lambda: len(begun) == 2)
            running.stop()
            running.stop()
            await running.ended()
        go.set()
        await site.check_nothing_is_left()
        state = site.check()
        assert len(state.pending) == 2
        # More than two when a move that is just being ended took one of them once again.
        assert state.counters["release"] >= 2
        assert "done" not in state.counters

    async def test_a_third_and_fourth_stop_do_not_make_it_later(self, site: Site) -> None:
        begun: list[int] = []

        @site.app.task
        async def stubborn() -> None:
            begun.append(1)
            while site.redis.get("go") is None:
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    continue

        async with site.consumer(check=False, grace_s=LONG_S) as running:
            await stubborn.aenqueue()
            await await_until(lambda: begun)

            def stopped() -> bool:
                running.stop()
                return running.task.done()

            await await_until(stopped)
        assert len(waiting(site)) == 1
        site.redis.set("go", 1)
        await site.check_nothing_is_left()
        site.check()


class TestRedisAway:
    @pytest.mark.parametrize("what", ["idle", "busy"])
    async def test_stopping_ends_within_bounds(
        self,
        own_site: Site,
        own_server: EmbeddedServer,
        monkeypatch: pytest.MonkeyPatch,
        what: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("headrace.consumer.consumer._FLUSH_S", 0.5)
        begun: list[int] = []

        @own_site.app.task
        async def long() -> None:
            begun.append(1)
            await asyncio.sleep(60)

        async with own_site.consumer(grace_s=0.2, check=False) as running:
            await own_site.idle(running)
            if what == "busy":
                await long.aenqueue()
                await await_until(lambda: begun)
                await await_until(lambda: own_site.redis.zcard(own_site.k.leases))
            own_server.kill()
            running.stop()
            await running.ended()
        await own_site.check_nothing_is_left()
        assert ("is not told" in caplog.text) == (what == "busy")
        await asyncio.to_thread(own_server.restart)
        state = own_site.check()
        assert len(state.processing) == (what == "busy")

    async def test_a_consumer_that_has_never_seen_redis_can_be_stopped(self) -> None:
        app = Headrace(f"redis://127.0.0.1:{free_port()}/0")
        async with consuming(app) as running:
            await await_until(lambda: running.consumer._reconnect.failures)
            running.stop()
            await running.ended()


class TestNothingIsLost:
    async def test_jobs_that_arrive_by_a_blocking_move_during_the_stop(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        other = Site(site.url, site.redis, queue="other")
        for n in range(30):
            async with site.consumer(concurrency=1, queues="queue,other", check=False) as running:
                await site.idle(running, queues=2)
                if n % 3 == 0:
                    running.stop()
                for target in (site, other):
                    target.push({"task": "note", "args": [n]})
                if n % 3 == 1:
                    running.stop()
                elif n % 3 == 2:
                    await asyncio.sleep(0)
                    running.stop()
            await site.check_nothing_is_left()
            done = sum(target.counters().get("done", 0) for target in (site, other))
            left = sum(len(target.check().pending) for target in (site, other))
            assert done + left == 2 * (n + 1)
        assert len(ran) == done

    async def test_stopping_under_load(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        def note(n: int) -> None:
            ran.append(n)

        await site.app.aenqueue_many(note.call(n) for n in range(3_000))
        for stop_at in (300, 900, 1_700):
            async with site.consumer(concurrency=8) as running:
                await await_until(lambda: len(ran) >= stop_at)
                running.stop()
                await running.ended()  # leaving the block would stop it a second time
        async with site.consumer(concurrency=8):
            await site.drained()
        assert sorted(ran) == list(range(3_000))
        assert site.counters()["done"] == 3_000
        assert not site.counters().get("lost")


class TestBurst:
    @BOTH
    async def test_it_ends_when_there_is_nothing_left(self, site: Site, kind: str) -> None:
        ran: list[int] = []

        async def anote(n: int) -> None:
            ran.append(n)

        function: Any = ran.append if kind == "sync" else anote
        task: Any = site.app.task(name="note")(
            (lambda n: function(n)) if kind == "sync" else anote
        )  # fmt: skip
        await site.app.aenqueue_many(task.call(n) for n in range(300))
        async with site.consumer(burst=True, concurrency=5) as running:
            await running.ended()
        assert sorted(ran) == list(range(300))
        assert site.ends() == {"enqueued": 300, "done": 300}

    async def test_it_ends_at_once_on_an_empty_queue(self, site: Site) -> None:
        async with site.consumer(burst=True) as running:
            await running.ended()

    async def test_it_takes_all_queues_and_every_priority(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        places: list[dict[str, Any]] = [{}, {"priority": 3}, {"priority": -3}, {"queue": "other"}]
        for n, place in enumerate(places):
            await note.options(**place).aenqueue(n)
        async with site.consumer(burst=True, queues="queue,other") as running:
            await running.ended()
        assert sorted(ran) == [0, 1, 2, 3]

    async def test_it_does_not_wait_for_what_is_delayed_or_paused(self, site: Site) -> None:
        @site.app.task(backoff=Backoff(base_s=60, jitter=False))
        async def fails() -> None:
            raise ValueError

        await fails.aenqueue()
        await fails.options(delay=60).aenqueue()
        async with site.consumer(burst=True) as running:
            await running.ended()
        assert len(site.state().delayed) == 2

    async def test_jobs_that_jobs_enqueue_are_run_too(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)
            if n < 20:
                await note.aenqueue(n + 1)

        await note.aenqueue(0)
        async with site.consumer(burst=True) as running:
            await running.ended()
        assert ran == list(range(21))


class TestMaxJobs:
    @pytest.mark.parametrize("way", ["by move", "by claim"])
    @pytest.mark.parametrize(("most", "concurrency"), [(1, 1), (1, 5), (7, 3), (150, 2)])
    async def test_exactly_so_many_run_and_no_other_is_touched(
        self, site: Site, way: str, most: int, concurrency: int
    ) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        calls = [note.call(n) for n in range(most + 20)]
        if way == "by claim":
            await site.app.aenqueue_many(calls)
        async with site.consumer(max_jobs=most, concurrency=concurrency) as running:
            if way == "by move":
                await site.idle(running)
                await site.app.aenqueue_many(calls)
            await running.ended()
        assert sorted(ran) == list(range(most))
        assert [job["args"][0] for job in waiting(site)] == list(range(most, most + 20))
        assert site.counters()["done"] == most

    async def test_those_that_fail_count_and_unrunnable_ones_do_not(self, site: Site) -> None:
        @site.app.task(max_attempts=1)
        async def fails() -> None:
            raise ValueError

        site.push(b"nonsense", {"task": "nobody knows"})
        await site.app.aenqueue_many(fails.call() for _ in range(3))
        async with site.consumer(max_jobs=2, concurrency=1) as running:
            await running.ended()
        reasons = sorted(letter["error"]["reason"] for letter in site.letters())
        assert reasons == ["malformed", "max_attempts", "max_attempts"]
        assert len(waiting(site)) == 1


class TestWhatItSays:
    """The log says what a second signal does, when the grace is over, and what came of it all."""

    @pytest.fixture
    def said(self, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
        caplog.set_level("INFO", "headrace.consumer")

        def said() -> list[str]:
            return [r.getMessage() for r in caplog.records if r.name == "headrace.consumer"]

        return said

    async def stopped(self, site: Site, grace_s: float, *, twice: bool) -> None:
        begun: list[int] = []

        @site.app.task
        async def wait(n: int) -> None:
            begun.append(n)
            if n:
                await asyncio.Event().wait()

        async with site.consumer(grace_s=grace_s) as running:
            await site.app.aenqueue_many(wait.call(n) for n in range(3))
            await await_until(lambda: len(begun) == 3 and site.counters().get("done") == 1)
            running.stop()
            if twice:
                running.stop()
            await running.ended()

    async def test_at_the_end_of_the_grace(self, site: Site, said: Callable[[], list[str]]) -> None:
        await self.stopped(site, 0.1, twice=False)
        lines = said()
        assert (
            "stopping: 2 running jobs have 0.1 s to end; a second signal, as by Ctrl-C, gives them "
            "back at once" in lines
        )
        assert "the grace period is over: the 2 jobs that still run are given back" in lines
        assert lines[-1] == (
            "ended: 1 jobs finished, 0 of them since it was told to end; 2 given back since"
        )

    async def test_at_a_second_signal(self, site: Site, said: Callable[[], list[str]]) -> None:
        await self.stopped(site, 600, twice=True)
        lines = said()
        assert "told again to end: the 2 jobs that still run are given back" in lines
        assert not any("the grace period is over" in line for line in lines)

    async def test_when_nothing_runs(self, site: Site, said: Callable[[], list[str]]) -> None:
        async with site.consumer() as running:
            await site.idle(running)
        assert "stopping: no job is running" in said()
        assert said()[-1] == (
            "ended: 0 jobs finished, 0 of them since it was told to end; 0 given back since"
        )
