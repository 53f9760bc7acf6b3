"""Results come back: a value, a failure or a cancellation, to whoever waits, and only where one is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace import Context, JobCancelled, JobFailed, NoResult, ResultTimeout
from headrace.ids import new_id
from tests.support.consuming import QUICK, Site
from tests.support.tasks import BOTH, Crowd, define
from tests.support.wait import WAIT_S, await_until, wait_until


class TestResults:
    @BOTH
    async def test_the_value_comes_back(self, site: Site, kind: str) -> None:
        task = define(site.app, kind, lambda *args: {"got": [*args]}, result_ttl=60)
        async with site.consumer():
            job = await task.aenqueue(1, "two", None)
            assert await job.aresult(timeout=WAIT_S) == {"got": [1, "two", None]}
            assert await job.aresult(timeout=WAIT_S) == {"got": [1, "two", None]}  # it stays
            assert await job.astatus() == "done"
        assert 0 < site.redis.ttl(site.k.result(job.id)) <= 60

    async def test_none_is_a_result(self, site: Site) -> None:
        @site.app.task(result_ttl=60)
        def nothing() -> int | None:
            return None

        async with site.consumer():
            assert await (await nothing.aenqueue()).aresult(timeout=WAIT_S) is None

    async def test_a_failure_is_raised_with_its_reason(self, site: Site) -> None:
        @site.app.task(result_ttl=60, max_attempts=1)
        def fails() -> None:
            raise ValueError("no good")

        async with site.consumer():
            job = await fails.aenqueue()
            with pytest.raises(JobFailed, match="max_attempts.*ValueError: no good") as failure:
                await job.aresult(timeout=WAIT_S)
            assert await job.astatus() == "dead"
        assert (failure.value.reason, failure.value.error_type) == ("max_attempts", "ValueError")
        assert 'raise ValueError("no good")' in failure.value.traceback

    async def test_several_waiters_all_get_it_at_once(self, site: Site) -> None:
        crowd = Crowd()

        @site.app.task(result_ttl=60)
        def answer() -> int:
            crowd.visit()
            return 42

        async with site.consumer():
            job = await answer.aenqueue()
            waiting = [asyncio.create_task(job.aresult(WAIT_S)) for _ in range(5)]
            waiting += [asyncio.create_task(site.app.job(job.id).aresult(WAIT_S)) for _ in range(5)]
            await await_until(lambda: blocked(site, "blmove") >= 10)
            crowd.open.set()
            assert await asyncio.gather(*waiting) == [42] * 10

    async def test_waiting_blocks_and_does_not_poll(self, site: Site) -> None:
        job = site.app.job(new_id())
        before = calls(site, "blmove")
        with pytest.raises(ResultTimeout, match="within 0.5 s"):
            await job.aresult(timeout=0.5)
        assert calls(site, "blmove") - before <= 2

    async def test_a_result_that_does_not_come_in_time_leaves_the_job_alone(
        self, site: Site
    ) -> None:
        crowd = Crowd()

        @site.app.task(result_ttl=60)
        def slow() -> str:
            crowd.visit()
            return "late"

        async with site.consumer():
            job = await slow.aenqueue()
            with pytest.raises(TimeoutError):
                await job.aresult(timeout=0.05)
            crowd.open.set()
            assert await job.aresult(timeout=WAIT_S) == "late"

    async def test_a_waiter_may_be_cancelled(self, site: Site) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(site.app.job(new_id()).aresult(), 0.1)

    async def test_a_task_that_keeps_none_says_so(self, site: Site) -> None:
        @site.app.task
        def quiet() -> int | None:
            return None

        async with site.consumer():
            job = await quiet.aenqueue()
            with pytest.raises(NoResult, match="result_ttl"):
                await job.aresult()
            await site.drained()
            assert not site.redis.exists(site.k.result(job.id))
            wanted = await quiet.options(result_ttl=60).aenqueue()  # this one is asked to
            assert await wanted.aresult(timeout=WAIT_S) is None

    @pytest.mark.parametrize(
        "value",
        [object(), {1, 2}.__iter__(), "\ud800", {("a",): 1}, 1 + 2j],
        ids=["object", "iterator", "surrogate", "tuple key", "complex"],
    )
    async def test_a_value_that_is_no_json_is_told_and_the_job_is_done(
        self, site: Site, value: Any
    ) -> None:
        @site.app.task(result_ttl=60)
        def strange() -> Any:
            return value

        async with site.consumer():
            job = await strange.aenqueue()
            with pytest.raises(NoResult, match="does not come back equal from JSON"):
                await job.aresult(timeout=WAIT_S)
        assert site.counters()["done"] == 1

    async def test_a_waiting_job_that_is_cancelled_says_so_and_does_not_run(
        self, site: Site
    ) -> None:
        ran: list[int] = []

        @site.app.task(result_ttl=60)
        def note() -> None:
            ran.append(1)

        jobs = [await note.aenqueue(), await note.options(delay=60).aenqueue(),
                await note.options(priority=3).aenqueue()]  # fmt: skip
        for job in jobs:
            assert await job.acancel()
        async with site.consumer():
            for job in jobs:
                with pytest.raises(JobCancelled):
                    await job.aresult(timeout=WAIT_S)
                assert await job.astatus() == "cancelled"
                assert not await job.acancel()
        assert not ran

    async def test_a_running_async_job_that_is_cancelled_ends(self, site: Site) -> None:
        started = asyncio.Event()

        @site.app.task(result_ttl=60)
        async def long() -> None:
            started.set()
            await asyncio.sleep(60)

        async with site.consumer(lease=QUICK):
            job = await long.aenqueue()
            await started.wait()
            assert await job.acancel()
            with pytest.raises(JobCancelled):
                await job.aresult(timeout=WAIT_S)
        assert site.counters()["cancel"] == 1

    async def test_a_running_sync_job_that_is_cancelled_is_told(self, site: Site) -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        @site.app.task(result_ttl=60)
        def long(ctx: Context) -> None:
            loop.call_soon_threadsafe(started.set)
            wait_until(lambda: ctx.stop_reason == "cancelled")
            ctx.check()

        async with site.consumer(lease=QUICK):
            job = await site.app.aenqueue("long")
            await started.wait()
            assert await job.acancel()
            with pytest.raises(JobCancelled):
                await job.aresult(timeout=WAIT_S)
        assert site.counters()["cancel"] == 1

    @pytest.mark.parametrize("ttl", ["1e300", "-5", "0", "1e-9", "99999999999999999999"])
    async def test_a_foreign_ttl_without_meaning_harms_nobody(self, site: Site, ttl: str) -> None:
        ran: list[str] = []

        @site.app.task(result_ttl=60)
        def note(name: str) -> str:
            ran.append(name)
            return name

        async with site.consumer(concurrency=1):
            # In one batch: a strange one must not shift whose result is whose.
            job = f'{{"task":"note","args":["strange"],"result_ttl":{ttl}}}'.encode()
            site.push(job)
            good = await note.aenqueue("good")
            assert await good.aresult(timeout=WAIT_S) == "good"
            await site.drained()
        assert sorted(ran) == ["good", "strange"]
        assert site.counters()["done"] == 2


def calls(site: Site, command: str) -> int:
    stats: dict[str, Any] = site.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def blocked(site: Site, command: str) -> int:
    return sum(client["cmd"] == command for client in site.redis.client_list())
