"""Purge deletes dead letters for good, and counts them."""

from __future__ import annotations

import pytest

from headrace import operations as op
from tests.integration.transitions.driver import Driver, job

A, B, C = job("a"), job("b"), job("c")


@pytest.fixture
def letters(queue: Driver) -> list[bytes]:
    """Bury three jobs; their letters are equal to them, for purge reads none."""
    queue.hold(A, B, C)
    queue.settle_all(*(queue.outcome(held, "dead", job=held) for held in (A, B, C)))
    return [A, B, C]


def purge(queue: Driver, *letters: bytes) -> int:
    return queue.store.run(op.purge(queue.k, letters))


def test_letters_are_gone_and_counted(queue: Driver, letters: list[bytes]) -> None:
    assert purge(queue, A, C) == 2
    state = queue.check()
    assert (state.dead, state.counters["purged"]) == ([B], 2)


def test_repeating_it_changes_nothing(queue: Driver, letters: list[bytes]) -> None:
    purge(queue, *letters)
    before = queue.state()
    assert purge(queue, *letters) == 0
    assert queue.state() == before
    queue.check()


def test_equal_letters_go_one_for_one(queue: Driver) -> None:
    queue.redis.lpush(queue.k.dead, A, A, A)
    queue.foreign += 3
    assert purge(queue, A, A) == 2
    assert queue.check().dead == [A]


def test_only_dead_letters_go(queue: Driver, letters: list[bytes]) -> None:
    waiting = job("w")
    queue.enqueue(waiting)
    assert purge(queue, waiting) == 0
    assert queue.check().pending == [waiting]


def test_no_letters_are_none(queue: Driver, letters: list[bytes]) -> None:
    assert purge(queue) == 0
    assert len(queue.check().dead) == 3
