"""A task whose function gives something to wait for is waited for; one that gives a generator fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Context, wire
from headrace.wire import Head
from tests.integration.consumer import hostile_tasks as tasks
from tests.integration.consumer.hostile_tasks import plain_decorator
from tests.support.consuming import Site
from tests.support.wait import WAIT_S, await_until

CALLS = [("wrapped", (1,)), ("async_object", (1,)), ("async_partial", ())]


@pytest.mark.parametrize(("name", "args"), CALLS)
@pytest.mark.parametrize("alone", [False, True], ids=["", "alone"])
async def test_what_a_function_returns_is_awaited(
    hostile: Site, name: str, args: tuple[int, ...], alone: bool
) -> None:
    call = tasks.app.tasks[name].call(*args)
    _, body = wire.split(call.job) or (None, b"")
    crashes = 2 if alone else 0
    hostile.push(wire.join(Head(call.job_id, delivery=crashes, crashes=crashes), body))
    async with hostile.consumer():
        await hostile.drained()
    job = tasks.app.job(call.job_id)
    assert job.result(timeout=WAIT_S) == 1


async def test_it_runs_on_the_event_loop_in_its_jobs_context_and_slot(site: Site) -> None:
    seen: list[Any] = []
    running = 0

    @site.app.task
    @plain_decorator
    async def work(ctx: Context) -> None:
        nonlocal running
        running += 1
        seen.append((threading.current_thread() is threading.main_thread(), running, ctx.job_id))
        await asyncio.sleep(0.01)
        running -= 1

    async with site.consumer(concurrency=1):
        jobs = [await work.aenqueue() for _ in range(3)]
        await site.drained()
    assert sorted(seen) == sorted((True, 1, job.id) for job in jobs)


async def test_one_time_limit_holds_for_both_parts(site: Site) -> None:
    ended: list[str] = []

    @site.app.task(timeout=0.3, max_attempts=1)
    @plain_decorator
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with site.consumer():
        await hang.aenqueue()
        [letter] = await site.died()
    assert (letter["error"]["reason"], ended) == ("timeout", ["cancelled"])


async def test_it_is_cancelled_as_an_async_task_is(site: Site) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @site.app.task
    @plain_decorator
    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with site.consumer():
        job = await hang.aenqueue()
        await begun.wait()
        await job.acancel()
        await ended.wait()
        await await_until(lambda: job.status() == "cancelled", what="it is cancelled")


async def test_what_it_returns_late_may_itself_be_awaitable(site: Site) -> None:
    @site.app.task(result_ttl=60)
    async def outer() -> Any:
        async def inner() -> int:
            return 7

        return inner()

    async with site.consumer():
        job = await outer.aenqueue()
        assert await job.aresult(timeout=WAIT_S) == 7


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_generator_that_is_returned_is_a_failure(site: Site, is_async: bool) -> None:
    def generate() -> Any:
        yield 1

    async def give() -> Any:
        return generate()

    function: Callable[[], Any] = give if is_async else plain_decorator(generate)
    task = site.app.task(name="t", max_attempts=1)(function)
    async with site.consumer():
        await task.aenqueue()
        [letter] = await site.died()
    assert letter["error"]["type"] == "TypeError"
    assert letter["error"]["message"].startswith(
        "task 't' returned a generator, so that it has not"
    )
