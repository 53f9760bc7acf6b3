"""How many connections a program has: bounded, whatever it does at once, and closed with its loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop
from redis import Redis

from headrace import Headrace, results
from headrace.job import Job
from headrace.store import exchange
from tests.support.consuming import heard
from tests.support.wait import WAIT_S, await_until, wait_until

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])

# For one store: what is under way, and what blocks.
BOUND = exchange.MOST + exchange.BLOCKING


@pytest.fixture
def app(url: str) -> Iterator[Headrace]:
    app = Headrace(url)
    app.task(name="work", result_ttl=60)(lambda: None)
    yield app
    app.close()


def connected(redis: Redis) -> int:
    """Count the connections of producers."""
    return sum(client["name"] == "headrace:producer" for client in redis.client_list())


def answer(redis: Redis, job: Job[None]) -> None:
    """Let a job's end be known, as its settle does."""
    redis.rpush(f"{job.queue}:result:{job.id}", results.encode_value(None))


@LOOPS
def test_a_loop_that_ends_takes_its_connections_along(
    app: Headrace, redis: Redis, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def use() -> None:
        job = await app.aenqueue("work")
        await job.astatus()

    for _ in range(200):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(use())
        assert connected(redis) <= 2
    wait_until(lambda: connected(redis) == 0, what="the last one has closed its own")
    assert not app.producer()._loops


@LOOPS
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_without_a_word_is_forgotten_by_the_next_one(
    app: Headrace, redis: Redis, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def use() -> None:
        job = await app.aenqueue("work")
        await job.astatus()

    for _ in range(20):
        loop = new_loop()
        loop.run_until_complete(use())
        loop.close()
        wait_until(lambda: connected(redis) <= 2, what="only the last one is left")
    assert len(app.producer()._loops) == 1
    asyncio.run(use())
    wait_until(lambda: connected(redis) == 0, what="and that one is forgotten, too")
    gc.collect()  # what asyncio says of such loops, it says here


async def test_500_questions_at_once_share_their_round_trips(app: Headrace, redis: Redis) -> None:
    job = await app.aenqueue("work")
    before = redis.info("stats")["total_connections_received"]
    states = await asyncio.gather(*(job.astatus() for _ in range(500)))
    assert states == ["pending"] * 500
    assert redis.info("stats")["total_connections_received"] - before <= 1
    await app.aclose()


async def test_500_who_wait_for_results_have_a_bounded_number_of_connections(
    app: Headrace, redis: Redis
) -> None:
    jobs = await app.aenqueue_many(app.call("work") for _ in range(500))
    waiting = [asyncio.create_task(heard(job)) for job in jobs]
    await await_until(
        lambda: sum("b" in client["flags"] for client in redis.client_list()) >= exchange.BLOCKING,
        what="as many block as may",
    )
    # Whoever works is not kept waiting by them, and enqueues among the rest.
    for _ in range(50):
        await (await app.aenqueue("work")).astatus()
    assert connected(redis) <= BOUND
    # The last ones first: none of those that block may stand in the way of another's answer.
    for job in reversed(jobs):
        answer(redis, job)
    assert await asyncio.gather(*waiting) == [None] * 500
    assert connected(redis) <= 1 + 2 * exchange.KEPT
    await app.aclose()


def test_300_threads_have_a_bounded_number_of_connections(app: Headrace, redis: Redis) -> None:
    jobs = app.enqueue_many(app.call("work") for _ in range(300))
    ended: list[object] = []
    most = 0

    def ask(job: Job[None]) -> None:
        job.status()
        ended.append(job.result(WAIT_S))

    threads = [threading.Thread(target=ask, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
        most = max(most, connected(redis))
    assert app.enqueue("work").status() == "pending"
    for job in reversed(jobs):
        answer(redis, job)
        most = max(most, connected(redis))
    for thread in threads:
        thread.join()
    assert ended == [None] * 300
    assert most <= BOUND
    assert connected(redis) <= exchange.KEPT


async def test_who_is_cancelled_while_many_wait_frees_his_place(
    app: Headrace, redis: Redis
) -> None:
    job = await app.aenqueue("work")
    for _ in range(3):
        waiting = [asyncio.create_task(heard(job)) for _ in range(3 * exchange.BLOCKING)]
        await await_until(lambda: connected(redis) > exchange.BLOCKING, what="they wait")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    answer(redis, job)
    assert await job.aresult(WAIT_S) is None
    await app.aclose()
