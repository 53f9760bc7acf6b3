"""Promote moves due jobs to where they wait their turn, in the order in which they fell due."""

from __future__ import annotations

import pytest

from headrace import operations as op
from headrace.errors import StoreRefused
from tests.integration.transitions.driver import Driver, job

A, B, C = job("a"), job("b"), job("c")


def delay(queue: Driver, **due_in_ms: int) -> None:
    """Enqueue jobs of these ids, due so long after now (or, negative, before); wait for none."""
    now = queue.now_ms()
    for name, ms in due_in_ms.items():
        queue.redis.zadd(queue.k.delayed, {job(name): now + ms})
    queue.foreign += len(due_in_ms)


def test_nothing_moves_before_its_time(queue: Driver) -> None:
    queue.enqueue(A, due="+60000")
    answer = queue.promote()
    assert answer.moved == 0
    assert answer.due_ms is not None
    assert 0 < answer.due_ms <= 60_001
    state = queue.check()
    assert (state.places["delayed"], state.pending) == ([A], [])
    assert queue.claim() == []


def test_a_job_moves_as_soon_as_redis_clock_says_so(queue: Driver) -> None:
    due_ms = queue.now_ms() + 20
    queue.redis.zadd(queue.k.delayed, {A: due_ms})  # an enqueue that is late would not delay it
    queue.foreign += 1
    while not queue.promote().moved:
        assert queue.claim() == []
    assert queue.now_ms() >= due_ms
    assert queue.claim() == [A]
    queue.check()


def test_an_empty_queue_has_nothing_due(queue: Driver) -> None:
    assert queue.promote() == op.Promoted(0, None)
    assert queue.redis.keys("*") == []


def test_a_due_time_beyond_all_numbers_is_told_as_far_away(queue: Driver) -> None:
    queue.redis.zadd(queue.k.delayed, {A: float("inf")})
    assert queue.promote() == op.Promoted(0, 10**12)


def test_jobs_move_in_the_order_in_which_they_fell_due(queue: Driver) -> None:
    delay(queue, c=-30, a=-10, b=-20)
    queue.enqueue(job("before"))
    assert queue.promote() == op.Promoted(3, None)
    assert queue.claim() == [job("before"), C, B, A]
    queue.check()


def test_a_prioritised_job_moves_to_its_priority_with_a_nudge(queue: Driver) -> None:
    prioritised = job("p", priority=7)
    queue.enqueue(prioritised, A, due="+1")
    queue.until(queue.now_ms() + 2)
    assert queue.promote().moved == 2
    state = queue.check()
    assert (state.priority, state.pending, state.nudges) == ([(prioritised, -7)], [A], 1)


def test_an_equal_prioritised_job_gets_a_new_id(queue: Driver) -> None:
    prioritised = job("p", priority=7)
    queue.enqueue(prioritised, due="+1")
    queue.enqueue(prioritised)
    queue.until(queue.now_ms() + 2)
    queue.promote()
    assert queue.check().places["priority"] == [prioritised, job("p.1", priority=7)]


def test_a_limit_leaves_the_rest_which_is_due_now(queue: Driver) -> None:
    delay(queue, a=-30, b=-20, c=-10)
    assert queue.promote(2) == op.Promoted(2, 0)
    assert queue.check().places["delayed"] == [C]
    assert queue.promote(2) == op.Promoted(1, None)
    assert queue.claim() == [A, B, C]


def test_a_thousand_move_in_one_call(queue: Driver) -> None:
    delay(queue, **{f"{i:04}": i - 5_000 for i in range(1_001)})
    assert queue.promote() == op.Promoted(1_000, 0)
    assert queue.check().pending == [job(f"{i:04}") for i in reversed(range(1_000))]


def test_large_jobs_end_it_after_about_a_mebibyte(queue: Driver) -> None:
    large = [job(f"{i:03}", b',"x":"%b"}' % (b"x" * 200_000)) for i in range(20)]
    queue.redis.zadd(queue.k.delayed, {one: i for i, one in enumerate(large)})
    queue.foreign += 20
    moved = queue.promote().moved
    assert 5 <= moved <= 10
    assert queue.check().pending == large[:moved][::-1]


def test_repeating_it_changes_nothing(queue: Driver) -> None:
    delay(queue, a=-10)
    queue.promote()
    before = queue.state()
    assert queue.promote() == op.Promoted(0, None)
    assert queue.state() == before


@pytest.mark.parametrize("place", ["pending", "priority", "nudge"])
def test_a_place_of_a_wrong_type_moves_nothing_twice(queue: Driver, place: str) -> None:
    queue.enqueue(A, job("p", priority=1), due="+1")
    queue.until(queue.now_ms() + 2)
    key = getattr(queue.k, place)
    queue.redis.set(key, "wrong")
    for _ in range(2):
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.promote()
    queue.redis.delete(key)
    assert len(queue.check().delayed) == 2


def test_a_paused_queue_is_promoted_all_the_same(queue: Driver) -> None:
    delay(queue, a=-10)
    queue.pause()
    assert queue.promote().moved == 1
    assert queue.check().pending == [A]


def test_a_bare_job_that_a_plain_client_delayed_moves_as_it_is(queue: Driver) -> None:
    queue.redis.zadd(queue.k.delayed, {b'{"task":"t","priority":4}': 1})
    queue.foreign += 1
    assert queue.promote().moved == 1
    state = queue.check()
    assert (state.pending, state.priority) == ([b'{"task":"t","priority":4}'], [])
