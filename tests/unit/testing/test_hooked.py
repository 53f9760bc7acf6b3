"""Hooks, dependencies and events in tests of applications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from headrace import CURRENT, INJECTED, Batch, Context, Depends, EnqueueRequest, Event, Headrace
from headrace.testing import Inline, call, run_inline

seen: list[Any] = []


@asynccontextmanager
async def session() -> AsyncIterator[str]:
    seen.append("open")
    await asyncio.sleep(0)
    yield "a session"
    seen.append("closed")


def shop(app: Headrace) -> None:
    seen.clear()

    @app.around_enqueue
    def trace(request: EnqueueRequest) -> Iterator[None]:
        request.headers["trace"] = "7"
        yield

    @app.around_run
    def see(ctx: Context) -> Iterator[None]:
        seen.append(ctx.headers["trace"])
        yield
        seen.append("after")

    @app.task
    def store(order: int, db: Annotated[str, Depends(session)] = INJECTED) -> str:
        seen.append((order, db))
        return db

    @app.task
    async def astore(order: int, db: Annotated[str, Depends(session)] = INJECTED) -> str:
        seen.append((order, db))
        return db

    @app.task(max_attempts=1)
    def fail() -> None:
        raise ValueError("no")


RUN = ["7", "open", (5, "a session"), "closed", "after"]


def test_they_stand_around_the_jobs_of_a_test(app: Headrace, jobs: Inline) -> None:
    shop(app)
    for name in ("store", "astore"):
        seen.clear()
        app.enqueue(name, 5)
        jobs.run()
        assert seen == RUN
    assert jobs.done == [call("store", 5), call("astore", 5)]


async def test_they_stand_around_the_jobs_of_an_async_test(app: Headrace) -> None:
    shop(app)
    async with run_inline(app) as jobs:
        for name in ("store", "astore"):
            seen.clear()
            await app.aenqueue(name, 5)
            await jobs.arun()
            assert seen == RUN


def test_listeners_have_heard_when_the_run_is_over(app: Headrace, jobs: Inline) -> None:
    shop(app)
    heard: list[tuple[str, str]] = []

    @app.on("enqueued", "started", "succeeded", "failed", "dead")
    def listen(event: Event) -> None:
        heard.append((event.name, event.task))

    @app.on("succeeded")
    async def listen_too(event: Event) -> None:
        await asyncio.sleep(0)
        heard.append(("async", event.task))

    app.enqueue("store", 5)
    app.enqueue("fail")
    jobs.run(raises=False)
    assert heard == [
        ("enqueued", "store"),
        ("enqueued", "fail"),
        ("started", "store"),
        ("succeeded", "store"),
        ("async", "store"),
        ("started", "fail"),
        ("failed", "fail"),
        ("dead", "fail"),
    ]


def test_a_run_that_is_lost_is_told_of_by_nobody(app: Headrace, jobs: Inline) -> None:
    shop(app)
    heard: list[str] = []
    app.on("succeeded")(lambda event: heard.append(event.job_id))
    job = app.enqueue("store", 5)
    jobs.crash(after=app.tasks["store"])
    jobs.run()
    assert heard == [job.id]


def test_a_job_of_a_batch_task_is_a_batch_of_one(app: Headrace, jobs: Inline) -> None:
    sizes: list[int] = []

    @app.batch_task(size=10)
    def add(batch: Batch[int]) -> list[int]:
        sizes.append(len(batch))
        return [value + 1 for value in batch.values]

    app.enqueue_many([add.call(1), add.call(2)])
    jobs.run()
    assert sizes == [1, 1]
    assert [job.value for job in jobs.done] == [2, 3]


def test_what_a_job_hands_on_is_there_when_it_is_done(app: Headrace, jobs: Inline) -> None:
    shop(app)
    heard: list[str] = []
    app.on("succeeded", "enqueued")(lambda event: heard.append(f"{event.task} {event.name}"))

    @app.task
    def order(ctx: Context = CURRENT) -> None:
        ctx.enqueue(app.tasks["store"].options(delay=60, priority=3).call(7))
        assert jobs.pending == []
        if ctx.attempt == 1:
            raise ValueError

    app.enqueue("order")
    jobs.run(raises=False)
    assert jobs.delayed == [call("order")]
    jobs.run(within=2)
    assert jobs.delayed == [call("store", 7)]
    assert jobs.delayed[0].priority == 3
    jobs.run(within=60)
    assert seen[-5:] == ["7", "open", (7, "a session"), "closed", "after"]
    assert heard == ["order enqueued", "order succeeded", "store enqueued", "store succeeded"]


def test_hooks_and_dependencies_stand_around_the_whole_of_a_stream() -> None:
    app = Headrace("redis://127.0.0.1:1")
    shop(app)

    @app.task(result_ttl=60)
    def rows(count: int, db: Annotated[str, Depends(session)] = INJECTED) -> Iterator[str]:
        for row in range(count):
            seen.append(row)
            yield db

    with run_inline(app) as jobs:
        rows.enqueue(2)
        assert [job.state for job in jobs.run()] == ["done"]
    assert seen == ["7", "open", 0, 1, "closed", "after"]
