"""Redrive puts dead letters back to where jobs wait; what is no longer there changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import operations as op
from headrace import wire
from headrace.errors import StoreRefused
from headrace.wire import Error
from tests.integration.transitions.driver import Driver, again, job

A, B, C = job("a"), job("b"), job("c")
WHEN: dict[str, Any] = {"failed_at": 1_700_000_000_000, "consumer": "me"}


def letter(of: bytes) -> bytes:
    parts = wire.split(of)
    assert parts is not None
    return wire.letter(*parts, Error("max_attempts", "ValueError", "no", **WHEN))


def redrive(queue: Driver, *letters: bytes) -> int:
    pairs = [(one, wire.redriven(one)) for one in letters]
    return queue.store.run(op.redrive(queue.k, pairs))


def bury(queue: Driver, *jobs: bytes) -> list[bytes]:
    """Enqueue jobs, claim them and let them die; give their letters."""
    queue.enqueue(*jobs)
    letters = [letter(held) for held in queue.claim(len(jobs))]
    for held, one in zip(jobs, letters, strict=True):
        assert queue.settle(held, "dead", job=one) == []
    return letters


def test_letters_go_back_without_their_errors(queue: Driver) -> None:
    letters = bury(queue, A, B)
    assert redrive(queue, *letters) == 2
    state = queue.check()
    assert (state.pending, state.dead) == ([B, A], [])
    assert state.counters["redriven"] == 2


def test_failures_are_forgotten_and_deliveries_are_not(queue: Driver) -> None:
    letters = bury(queue, job("a", priority=2, delivery=7, crashes=3, attempt=3, unknown_since=9))
    redrive(queue, *letters)
    assert queue.check().places["priority"] == [job("a", priority=2, delivery=7)]


def test_a_prioritised_job_goes_to_its_priority_with_a_nudge(queue: Driver) -> None:
    letters = bury(queue, job("p", priority=4))
    assert redrive(queue, *letters) == 1
    state = queue.check()
    assert (state.priority, state.nudges) == ([(job("p", priority=4), -4)], 1)


def test_repeating_it_changes_nothing(queue: Driver) -> None:
    letters = bury(queue, A, B)
    redrive(queue, *letters)
    before = queue.state()
    assert redrive(queue, *letters) == 0
    assert queue.state() == before


def test_equal_letters_go_back_one_for_one(queue: Driver) -> None:
    twin = letter(A)
    queue.redis.lpush(queue.k.dead, twin, twin, twin)
    queue.foreign += 3
    assert redrive(queue, twin, twin) == 2
    state = queue.check(twins={"a"})
    assert (state.pending, state.dead) == ([A, A], [twin])


def test_equal_prioritised_letters_go_back_under_new_ids(queue: Driver) -> None:
    twin = letter(job("p", priority=1))
    queue.redis.lpush(queue.k.dead, twin, twin)
    queue.foreign += 2
    assert redrive(queue, twin, twin) == 2
    assert queue.check().places["priority"] == [job("p", priority=1), job("p.1", priority=1)]


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"hello",
        b"\x00\xff",
        b'{"id":"a b","priority":5,"task"',
        b'{"id":"%b","priority":5}' % (b"i" * 129),
        b'{"id":"a","priority":5',
    ],
)
def test_malformed_bytes_go_back_exactly_however_often(queue: Driver, malformed: bytes) -> None:
    error = Error("malformed", **WHEN)
    letters = [wire.malformed_letter(malformed, error) for _ in range(3)]
    queue.redis.lpush(queue.k.dead, *letters)
    queue.foreign += 3
    assert redrive(queue, *letters) == 3
    assert queue.check(twins={"a"}).pending == [malformed] * 3


def test_a_letter_that_was_moved_back_by_hand_is_a_job_again(queue: Driver) -> None:
    [one] = bury(queue, A)
    queue.redis.lmove(queue.k.dead, queue.k.pending, "LEFT", "RIGHT")
    assert redrive(queue, one) == 0
    assert queue.claim() == [one]
    assert queue.settle(one, "release") == []
    assert queue.check().pending == [again(one)]


def test_a_waiting_place_of_a_wrong_type_loses_no_letter(queue: Driver) -> None:
    letters = bury(queue, A, B)
    queue.redis.set(queue.k.pending, "wrong")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        redrive(queue, *letters)
    queue.redis.delete(queue.k.pending)
    assert queue.check().dead == [letters[1], letters[0]]


def test_no_letters_are_none(queue: Driver) -> None:
    assert redrive(queue) == 0
    assert queue.redis.keys("*") == []


def test_a_redriven_job_that_is_reclaimed_stands_once_and_its_letter_is_not_back(
    queue: Driver,
) -> None:
    queue.enqueue(job("a"))
    queue.settle_all(*(queue.outcome(one, "dead", job=one) for one in queue.claim()))
    letter: Any
    (letter,) = queue.redis.lrange(queue.k.dead, 0, -1)
    pair = (letter, wire.redriven(letter))
    assert queue.store.run(op.redrive(queue.k, [pair])) == 1
    queue.claim()
    queue.redis.zadd(queue.k.leases, {"a": 1})
    answers = queue.store.run_all(
        [
            op.reclaim(queue.k, grace_ms=0, gap_ms=10**13, max_crashes=5),
            op.redrive(queue.k, [pair]),
        ]
    )
    assert (answers[0].back, answers[1]) == (1, 0)
    assert (queue.redis.llen(queue.k.pending), queue.redis.llen(queue.k.dead)) == (1, 0)
