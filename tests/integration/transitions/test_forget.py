"""Forget drops a queue that holds nothing, with its counters; never one that holds anything."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from headrace import forgetting
from headrace import operations as op
from headrace.keys import FORGOTTEN, QUEUES
from headrace.moving import requests
from tests.integration.transitions.driver import Driver, job

A = job("a")
DAY_MS = 86_400_000


def forget(queue: Driver, unused_ms: int = 0) -> str:
    (answer,) = op.unfailed(queue.store.follow(forgetting.forget([queue.k], unused_ms)))
    return answer


def age(queue: Driver, ms: int) -> None:
    """Let a queue have been unused for longer."""
    since, counted = str((queue.redis.hget(queue.k.meta, "unused") or b"").decode()).split()  # type: ignore[union-attr]
    queue.redis.hset(queue.k.meta, "unused", f"{int(since) - ms} {counted}")


@pytest.fixture(autouse=True)
def known(queue: Driver) -> None:
    queue.store.run(op.register(queue.k.queue))


def run_one(queue: Driver) -> None:
    queue.enqueue(A)
    queue.claim()
    queue.settle(A, "done")


def test_an_empty_queue_is_gone_and_what_it_counted_is_in_the_sum(queue: Driver) -> None:
    for _ in range(2):
        run_one(queue)
        queue.store.run(op.register(queue.k.queue))
        assert forget(queue) == "forgotten"
    assert not queue.redis.sismember(QUEUES, queue.k.queue)
    assert not queue.redis.exists(queue.k.stats, queue.k.meta)
    assert queue.store.run(op.forgotten()) == {"enqueued": 2, "done": 2}


def test_one_with_jobs_on_their_way_to_another_server_is_not_forgotten(queue: Driver) -> None:
    queue.enqueue(A)
    queue.store.run(requests.take(queue.k, "batch"))
    assert forget(queue) == "used"


@pytest.mark.parametrize("place", ["pending", "processing", "priority", "delayed", "dead"])
def test_one_that_holds_anything_is_not_forgotten(queue: Driver, place: str) -> None:
    if place in ("priority", "delayed"):
        queue.redis.zadd(getattr(queue.k, place), {A: 9e15})
    else:
        queue.redis.lpush(getattr(queue.k, place), A)
    assert forget(queue) == "used"
    assert queue.redis.sismember(QUEUES, queue.k.queue)
    assert not queue.redis.exists(FORGOTTEN)


def test_one_that_is_paused_is_not_forgotten(queue: Driver) -> None:
    queue.pause()
    assert forget(queue) == "paused"
    assert queue.snapshot().paused


def test_it_has_to_be_unused_for_the_time_that_is_asked_for(queue: Driver) -> None:
    run_one(queue)
    assert forget(queue, DAY_MS) == "used"
    age(queue, DAY_MS - 60_000)
    assert forget(queue, DAY_MS) == "used"
    age(queue, 60_000)
    assert forget(queue, DAY_MS) == "forgotten"


def test_what_is_counted_meanwhile_begins_the_time_anew(queue: Driver) -> None:
    assert forget(queue, DAY_MS) == "used"
    age(queue, DAY_MS)
    run_one(queue)
    assert forget(queue, DAY_MS) == "used"
    assert forget(queue, DAY_MS) == "used"


def test_a_job_or_a_consumer_begins_it_anew_too(queue: Driver) -> None:
    assert forget(queue, DAY_MS) == "used"
    age(queue, DAY_MS)
    queue.push(A)
    assert forget(queue, DAY_MS) == "used"
    queue.redis.delete(queue.k.pending)
    queue.foreign -= 1
    assert forget(queue, DAY_MS) == "used"
    age(queue, DAY_MS)
    queue.store.run(forgetting.use(queue.k))
    assert forget(queue, DAY_MS) == "used"


@pytest.mark.parametrize("at", [1, 2])
def test_one_that_is_used_while_it_is_forgotten_stays_known(queue: Driver, at: int) -> None:
    flow = forgetting.forget([queue.k], 0)
    asked: Any = next(flow)
    for step in itertools.count(1):
        answers = queue.store.run_all(asked)
        if step == at:  # a producer sees that the queue is new, and makes it known
            assert queue.enqueue(A).new
            queue.store.run(op.register(queue.k.queue))
        try:
            asked = flow.send(answers)
        except StopIteration:
            break
    assert queue.redis.sismember(QUEUES, queue.k.queue)
    assert queue.check().pending == [A]


def test_the_first_job_after_that_says_so(queue: Driver) -> None:
    assert queue.store.run(op.push(queue.k, [A])).new
    assert not queue.store.run(op.push(queue.k, [job("b")])).new
    queue.redis.delete(queue.k.pending, queue.k.stats)
    assert queue.enqueue(A).new
    assert not queue.enqueue(job("b")).new
