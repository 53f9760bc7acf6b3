"""Async tests: everything in their own event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace import CURRENT, Context, Headrace, ResultTimeout, aresults_of
from headrace.testing import Crash, Inline, call


async def test_jobs_are_enqueued_run_and_asked_for(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60)
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    job = await add.aenqueue(1, 2)
    assert jobs.enqueued == [call(add, 1, 2)]
    assert await job.astatus() == "pending"
    assert await jobs.arun() == [call(add, 1, 2)]
    assert await job.aresult(timeout=5) == 3
    assert await job.astatus() == "done"
    assert not await job.acancel()


async def test_who_awaits_a_result_has_what_is_due_run(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60)
    async def add(a: int, b: int) -> int:
        return a + b

    @app.task(result_ttl=60)
    async def twice(a: int) -> int:
        return await (await add.aenqueue(a, a)).aresult(timeout=5)

    assert await (await twice.aenqueue(4)).aresult(timeout=5) == 8
    late = await add.options(delay=60).aenqueue(1, 1)
    with pytest.raises(ResultTimeout):
        await late.aresult(timeout=5)
    await jobs.arun(60)
    assert await late.aresult() == 2
    many = [await add.aenqueue(a, 1) for a in range(3)]
    assert [await job.aresult() async for job in aresults_of(many)] == [1, 2, 3]


async def test_async_tasks_run_in_the_tests_loop_and_sync_ones_in_a_thread(
    app: Headrace, jobs: Inline
) -> None:
    @app.task
    async def here() -> int:
        assert asyncio.get_running_loop() is loop
        return threading.get_ident()

    @app.task
    def aside() -> int:
        return threading.get_ident()

    loop = asyncio.get_running_loop()
    await here.aenqueue()
    aside.enqueue()
    await jobs.arun()
    assert jobs.result(here) == threading.get_ident()
    assert jobs.result(aside) != threading.get_ident()


async def test_to_run_without_awaiting_is_refused_in_a_loop(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60)
    def add(a: int, b: int) -> int:
        return a + b

    job = add.enqueue(1, 2)
    with pytest.raises(RuntimeError, match="arun"):
        jobs.run()
    with pytest.raises(RuntimeError, match="aresult"):
        job.result()
    assert jobs.pending == [call(add, 1, 2)]
    assert job.status() == "pending"


async def test_a_failure_is_raised(app: Headrace, jobs: Inline) -> None:
    @app.task
    async def fail() -> None:
        raise ValueError("no")

    await fail.aenqueue()
    with pytest.raises(ValueError, match="no"):
        await jobs.arun()
    await jobs.arun(10, raises=False)
    assert jobs.dead == [call(fail)]


async def test_crashes_are_injected(app: Headrace, jobs: Inline) -> None:
    seen: list[int] = []

    @app.task
    async def charge(ctx: Context = CURRENT) -> None:
        seen.append(ctx.delivery)

    await charge.aenqueue()
    jobs.crash(before=charge, after=charge)
    await jobs.arun()
    assert seen == [1, 2]


async def test_a_task_can_be_lost_half_way(app: Headrace, jobs: Inline) -> None:
    seen: list[int] = []

    @app.task
    async def work(ctx: Context = CURRENT) -> None:
        await asyncio.sleep(0)
        seen.append(ctx.delivery)
        if not ctx.delivery:
            raise Crash

    @app.task
    def work_aside(ctx: Context = CURRENT) -> None:
        seen.append(ctx.delivery)
        if not ctx.delivery:
            raise Crash

    await work.aenqueue()
    await jobs.arun()
    await work_aside.aenqueue()
    await jobs.arun()
    assert seen == [0, 1, 0, 1]


async def test_a_cancelled_test_takes_its_job_along(app: Headrace, jobs: Inline) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @app.task
    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await hang.aenqueue()
    running = asyncio.create_task(jobs.arun())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await ended.wait()
    assert jobs.pending == [call(hang)]
