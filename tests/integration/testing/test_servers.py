"""For tests of the whole: private servers and real consumers, from a test."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

import pytest

from headrace import CURRENT, Context, Headrace, InvalidSetting, LifespanFailed
from headrace.testing import consume, consumer, live, run_inline, server
from tests.support.wait import WAIT_S


def shop(url: str = "redis://127.0.0.1:1/0") -> Headrace:
    app = Headrace(url, queue="shop")

    @app.task(result_ttl=60)
    def add(a: int, b: int) -> int:
        return a + b

    @app.task(queue="other", result_ttl=60)
    async def where(ctx: Context = CURRENT) -> str:
        await asyncio.sleep(0)
        return ctx.queue

    return app


def test_a_server_ends_with_the_block_and_its_data_are_gone() -> None:
    with server() as started:
        assert started.url.startswith("redis://127.0.0.1:")
        assert started.data_dir.exists()
        seen = started.running
    assert (seen, started.running) == (True, False)
    assert not started.data_dir.exists()


def test_a_consumer_runs_the_jobs_of_all_queues_while_the_block_runs(url: str) -> None:
    app = shop(url)
    with consumer(app):
        assert app.enqueue("add", 1, 2).result(timeout=WAIT_S) == 3
        assert app.enqueue_many([app.tasks["where"].call()])[0].result(timeout=WAIT_S) == "other"
    app.close()


async def test_a_consumer_runs_beside_an_async_test(url: str) -> None:
    app = shop(url)
    with consumer(app):
        assert await (await app.aenqueue("add", 1, 2)).aresult(timeout=WAIT_S) == 3
    await app.aclose()


def test_a_queue_is_consumed_until_it_is_empty(url: str) -> None:
    app = shop(url)
    jobs = app.enqueue_many(app.call("add", n, n) for n in range(20))
    consume(app, concurrency=2)
    assert [job.status() for job in jobs] == ["done"] * 20
    app.close()


def test_an_application_is_lent_a_server_and_is_back_where_it_was(url: str) -> None:
    app = shop()
    before = app.redis_url
    with live(app, url):
        assert app.enqueue("add", 1, 2).result(timeout=WAIT_S) == 3
    assert app.redis_url is before


def test_an_application_in_memory_is_not_lent_a_server(url: str) -> None:
    app = shop()
    with run_inline(app), pytest.raises(InvalidSetting, match="in memory"):
        live(app, url).__enter__()


def test_a_lifespan_that_fails_is_told_of(url: str) -> None:
    def broken(_: Headrace) -> AbstractContextManager[None]:
        raise OSError("no database")

    app = Headrace(url, lifespan=broken)
    with pytest.raises(LifespanFailed, match="no database"):
        consume(app)
