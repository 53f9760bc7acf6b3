"""Results come back: a value, a failure or a cancellation, to whoever waits, and only where one is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from headrace import (
    CURRENT,
    RESULT,
    Backoff,
    Context,
    InvalidSetting,
    JobCancelled,
    JobFailed,
    NoResult,
    ResultTimeout,
    Retry,
    chain,
    wire,
)
from headrace.ids import new_id
from headrace.remote import RemoteTraceback
from headrace.workflows.member import job_id_of
from tests.support.consuming import QUICK, Site, heard
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
            waiting = [asyncio.create_task(heard(job)) for _ in range(5)]
            waiting += [asyncio.create_task(heard(site.app.job(job.id))) for _ in range(5)]
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


class TestHistory:
    async def test_the_runs_of_a_job_are_kept_with_its_result(self, site: Site) -> None:
        @site.app.task(result_ttl=60, backoff=Backoff(base_s=0))
        async def twice(ctx: Context = CURRENT) -> int:
            if ctx.attempt < 3:
                raise ValueError(f"not in attempt {ctx.attempt}")
            return 3

        async with site.consumer() as running:
            job = await twice.aenqueue()
            assert await job.aresult(timeout=WAIT_S) == 3
            runs = await job.ahistory()
            assert runs == await asyncio.to_thread(site.app.job(job.id).history)
            await site.drained()
        said = [(run.outcome, run.attempt, run.delivery, run.error, run.message) for run in runs]
        assert said == [
            ("retry", 1, 0, "ValueError", "not in attempt 1"),
            ("retry", 2, 1, "ValueError", "not in attempt 2"),
            ("done", 3, 2, "", ""),
        ]
        assert {run.consumer for run in runs} == {running.name}
        # Not one after another: how far Redis' clock is ahead is told anew by each claim, late answers' late.
        assert all(run.started_at_ms <= run.ended_at_ms for run in runs)

    async def test_while_it_waits_and_while_it_runs_they_are_told_too(self, site: Site) -> None:
        crowd = Crowd()

        @site.app.task(result_ttl=60, max_attempts=2, backoff=Backoff(base_s=600, jitter=False))
        async def later(ctx: Context = CURRENT) -> None:
            if ctx.attempt == 1:
                raise Retry("later")
            await crowd.avisit()

        async with site.consumer():
            job = await later.aenqueue()
            await await_until(lambda: site.redis.zcard(site.k.delayed) == 1)
            (run,) = await job.ahistory()
            assert (run.outcome, run.error) == ("retry", "Retry")
            site.redis.zadd(site.k.delayed, {site.redis.zrange(site.k.delayed, 0, 0)[0]: 1})
            await await_until(lambda: crowd.inside == 1)
            assert await job.ahistory() == [run]
            crowd.open.set()
            await site.drained()
            assert [one.outcome for one in await job.ahistory()] == ["retry", "done"]

    async def test_one_that_died_has_its_last_run_and_one_of_no_result_has_none(
        self, site: Site
    ) -> None:
        @site.app.task(result_ttl=60, max_attempts=1)
        async def fails() -> None:
            raise KeyError("k")

        @site.app.task(backoff=Backoff(base_s=0))
        async def quiet(ctx: Context = CURRENT) -> None:
            if ctx.attempt == 1:
                raise KeyError("k")

        async with site.consumer():
            job = await fails.aenqueue()
            with pytest.raises(JobFailed):
                await job.aresult(timeout=WAIT_S)
            assert [(r.outcome, r.error) for r in await job.ahistory()] == [("dead", "KeyError")]
            job = await quiet.aenqueue()
            await site.drained()
            assert await job.ahistory() == []


class TestWhatWasRaised:
    async def test_the_tasks_own_exception_is_raised_where_it_is_named(self, site: Site) -> None:
        class Refused(Exception):
            def __init__(self, code: int) -> None:
                super().__init__(f"refused: {code}")
                self.code = code

        @site.app.task(result_ttl=60, max_attempts=1)
        def refuse() -> None:
            raise Refused(7)

        async with site.consumer():
            job = await refuse.aenqueue()
            with pytest.raises(Refused, match="refused: 7") as caught:
                await job.aresult(timeout=WAIT_S, raises=(OSError, Refused))
            assert caught.value.code == 7
            with pytest.raises(Refused):
                await asyncio.to_thread(lambda: job.result(raises=Refused))
            with pytest.raises(JobFailed):
                await job.aresult(timeout=WAIT_S, raises=OSError)
            with pytest.raises(InvalidSetting, match="raises="):
                await job.aresult(raises="Refused")  # type: ignore[arg-type]


class TestInAWorkflow:
    async def test_a_member_has_its_result_its_items_and_its_runs_as_any_other_job(
        self, site: Site
    ) -> None:
        @site.app.task
        def noted(number: int) -> None:
            del number

        @site.app.task(result_ttl=60, backoff=Backoff(base_s=0))
        async def twice(number: int, ctx: Context = CURRENT) -> int:
            ctx.progress(number, 2 * number)
            if ctx.attempt == 1:
                raise ValueError("not yet")
            return 2 * number

        @site.app.task(result_ttl=60)
        def counted(count: int, ctx: Context = CURRENT) -> Generator[int, None, int]:
            yield from range(count)
            ctx.enqueue(noted.call(count))
            return count + 1

        @site.app.task
        def summed(number: int) -> int:
            return number + 100

        steps = twice.call(2), counted.call(RESULT), summed.call(RESULT)
        flow = await chain(*steps).aenqueue()
        first, second = (site.app.job(job_id_of(flow.id, n)) for n in (0, 1))
        async with site.consumer():
            assert await flow.aresult(WAIT_S) == 105
            assert await first.aresult(WAIT_S) == 4
            assert [run.outcome for run in await first.ahistory()] == ["retry", "done"]
            assert [item async for item in second.stream()] == [0, 1, 2, 3]
            assert await second.aresult(WAIT_S) == 5
            assert [run.outcome for run in await second.ahistory()] == ["done"]
            await site.drained()
        assert site.state().counters["done"] == 4

    async def test_one_that_dies_raises_its_own_exception_and_is_seen_in_the_whole(
        self, site: Site
    ) -> None:
        @site.app.task(max_attempts=2, backoff=Backoff(base_s=0), result_ttl=60)
        async def fails() -> int:
            raise KeyError("k")

        @site.app.task(max_attempts=1)
        async def quiet() -> int:
            raise KeyError("q")

        cases: list[tuple[Any, list[str]]] = [(fails, ["retry", "dead"]), (quiet, [])]
        async with site.consumer():
            for task, outcomes in cases:
                flow = await chain(task.call()).aenqueue()
                with pytest.raises(JobFailed, match="member"):
                    await flow.aresult(WAIT_S)
                (failed,) = (await flow.astatus()).failed
                assert failed.reason == "max_attempts"
                job = site.app.job(failed.job_id)
                with pytest.raises(JobFailed) as caught:
                    await job.aresult(WAIT_S)
                assert type(caught.value.__cause__) is (KeyError if outcomes else RemoteTraceback)
                assert [run.outcome for run in await job.ahistory()] == outcomes


class TestAJobsOwnBytes:
    async def test_a_retry_changes_its_head_alone_also_when_its_result_is_kept(
        self, site: Site
    ) -> None:
        @site.app.task(result_ttl=60, backoff=Backoff(base_s=600, jitter=False))
        async def later(*, history: list[int]) -> None:
            raise ValueError(history)

        call = later.call(history=[1])
        async with site.consumer():
            site.push(call.job[:-1] + b',"history":"mine" }')
            await await_until(lambda: site.redis.zcard(site.k.delayed) == 1)
        job = site.redis.zrange(site.k.delayed, 0, -1)[0]
        parts, was = wire.split(job), wire.split(call.job)
        assert parts is not None
        assert was is not None
        assert parts[0] == was[0]._replace(attempt=1, delivery=1)
        assert parts[1] == was[1][:-1] + b',"history":"mine" }'
        assert site.redis.llen(site.k.history(was[0].id)) == 1

    async def test_a_job_whose_result_is_not_kept_leaves_nothing_beside_itself(
        self, site: Site
    ) -> None:
        @site.app.task(backoff=Backoff(base_s=0))
        async def quiet(ctx: Context = CURRENT) -> None:
            if ctx.attempt == 1:
                raise ValueError("not yet")

        async with site.consumer():
            job = await quiet.aenqueue()
            await site.drained()
        assert not [key for key in site.redis.scan_iter() if job.id.encode() in key]
