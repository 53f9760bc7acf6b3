"""The lifespan of an application in tests: opened once, closed with the test, or replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import pytest

from headrace import CURRENT, Context, Headrace, LifespanFailed
from headrace.testing import run_inline

opened: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_is_open() -> Iterator[None]:
    opened.clear()
    yield
    opened.clear()


def shop(lifespan: Any) -> Headrace:
    app = Headrace("redis://127.0.0.1:1/0", lifespan=lifespan)

    @app.task
    async def ask(ctx: Context = CURRENT) -> Any:
        await asyncio.sleep(0)
        return ctx.state.pool

    @app.task
    def ask_here(ctx: Context = CURRENT) -> Any:
        return ctx.state.pool

    return app


@asynccontextmanager
async def lifespan(app: Headrace) -> AsyncIterator[dict[str, Any]]:
    opened.append("open")
    yield {"pool": asyncio.get_running_loop()}
    opened.append("closed")
    await asyncio.sleep(0)


def test_it_is_opened_before_the_first_job_and_closed_with_the_test() -> None:
    app = shop(lifespan)
    with run_inline(app) as jobs:
        app.enqueue("ask")
        assert opened == []
        jobs.run()
        app.enqueue("ask_here")
        jobs.run()
        assert opened == ["open"]
        assert jobs.result(app.tasks["ask"]) is jobs.result(app.tasks["ask_here"])
    assert opened == ["open", "closed"]


async def test_it_is_opened_in_the_loop_of_an_async_test() -> None:
    app = shop(lifespan)
    async with run_inline(app) as jobs:
        await app.aenqueue("ask")
        await jobs.arun()
        await app.aenqueue("ask_here")
        await jobs.arun()
        assert jobs.result(app.tasks["ask"]) is asyncio.get_running_loop()
        assert jobs.result(app.tasks["ask_here"]) is asyncio.get_running_loop()
        assert opened == ["open"]
    assert opened == ["open", "closed"]


def test_it_is_closed_at_the_latest_when_the_loop_ends() -> None:
    app = shop(lifespan)

    async def test() -> None:
        jobs = run_inline(app)
        await app.aenqueue("ask")
        await jobs.arun()

    asyncio.run(test())
    assert opened == ["open", "closed"]
    app._held, app._producer = False, None


def test_it_is_closed_by_a_plain_with_around_a_loop_that_rests() -> None:
    app = shop(lifespan)
    with asyncio.Runner() as runner:
        with run_inline(app) as jobs:
            app.enqueue("ask")
            runner.run(jobs.arun())
            assert opened == ["open"]
        assert opened == ["open", "closed"]


def test_its_state_can_be_replaced() -> None:
    app = shop(lifespan)
    with run_inline(app, state={"pool": "a stand-in"}) as jobs:
        app.enqueue("ask")
        app.enqueue("ask_here")
        jobs.run()
        assert [job.value for job in jobs.done] == ["a stand-in", "a stand-in"]
    assert opened == []


def test_one_that_fails_is_told_of_and_no_job_is_lost() -> None:
    def broken(_: Headrace) -> AbstractContextManager[None]:
        raise OSError("no database")

    app = shop(broken)
    with run_inline(app) as jobs:
        app.enqueue("ask")
        with pytest.raises(LifespanFailed, match="no database"):
            jobs.run()
        assert len(jobs.pending) == 1
