"""Pause stops claims; resume wakes whoever is idle."""

from __future__ import annotations

from tests.integration.transitions.driver import Driver, job

A, B = job("a"), job("b")


def test_a_paused_queue_gives_nothing_until_it_is_resumed(queue: Driver) -> None:
    queue.enqueue(A)
    assert queue.pause()
    assert queue.claim() == []
    assert queue.snapshot().paused
    assert queue.pause(paused=False)
    assert queue.claim() == [A]
    assert not queue.snapshot().paused


def test_repeating_either_changes_nothing(queue: Driver) -> None:
    assert not queue.pause(paused=False)
    assert queue.redis.keys("*") == []
    assert queue.pause()
    assert not queue.pause()
    assert queue.pause(paused=False)
    nudges = queue.state().nudges
    assert not queue.pause(paused=False)
    assert queue.state().nudges == nudges


def test_resuming_pushes_nudges_for_idle_consumers(queue: Driver) -> None:
    queue.pause()
    assert queue.state().nudges == 0
    queue.pause(paused=False)
    assert queue.state().nudges == 100
    assert 0 < queue.redis.pttl(queue.k.nudge) <= 60_000


def test_nudges_stay_bounded_however_often_it_is_resumed(queue: Driver) -> None:
    for _ in range(15):
        queue.pause()
        queue.pause(paused=False)
    assert queue.check().nudges == 1_000


def test_a_paused_queue_accepts_jobs_and_ends_running_ones(queue: Driver) -> None:
    queue.hold(A)
    queue.pause()
    queue.enqueue(B)
    assert queue.extend(A).lost == []
    assert queue.settle(A, "done") == []
    assert queue.check().pending == [B]


def test_queues_are_paused_one_by_one(queue: Driver) -> None:
    other = Driver(queue.store, queue.redis, "emails")
    queue.pause()
    other.enqueue(A)
    assert other.claim() == [A]
