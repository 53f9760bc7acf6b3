"""Extend moves deadlines, each only under its current token."""

from __future__ import annotations

from headrace import operations as op
from tests.integration.transitions.driver import LONG_MS, OTHER, Driver, job

A, B, C = job("a"), job("b"), job("c")


def test_the_deadline_counts_from_redis_own_clock(queue: Driver) -> None:
    queue.hold(A, B, lease_ms=1_000)
    before = queue.now_ms()
    assert queue.extend(A, lease_ms=50_000) == op.Extended([], [])
    leases = queue.check().leases
    assert before + 50_000 <= leases["a"] <= queue.now_ms() + 50_000
    assert leases["b"] <= before + 1_000


def test_a_deadline_may_come_nearer_too(queue: Driver) -> None:
    queue.hold(A)
    queue.extend(A, lease_ms=1)
    assert queue.crash().back == 1


def test_many_are_extended_in_one_call_and_it_answers_which_are_lost(queue: Driver) -> None:
    queue.hold(A, B, C, lease_ms=10_000)
    queue.settle(B, "done")
    assert queue.extend(A, B, C).lost == ["b"]
    state = queue.check()
    assert state.leases.keys() == {"a", "c"}
    assert min(state.leases.values()) > queue.now_ms() + LONG_MS / 2


def test_a_thousand_are_extended_in_one_call(queue: Driver) -> None:
    held = queue.hold(*(job(f"{i:04}") for i in range(1_000)), lease_ms=10_000)
    assert queue.extend(*held) == op.Extended([], [])
    assert min(queue.check().leases.values()) > queue.now_ms() + LONG_MS / 2


def test_under_a_stale_token_nothing_is_extended(queue: Driver) -> None:
    queue.hold(A)
    before = queue.state()
    assert queue.extend(A, consumer=OTHER, lease_ms=90_000).lost == ["a"]
    queue.numbers["a"] += 1
    assert queue.extend(A, lease_ms=90_000).lost == ["a"]
    assert queue.state() == before


def test_a_lost_lease_does_not_come_back(queue: Driver) -> None:
    queue.hold(A, lease_ms=1)
    queue.crash()
    assert queue.extend(A).lost == ["a"]
    assert queue.check().leases == {}


def test_a_lease_that_is_past_but_not_reclaimed_is_saved(queue: Driver) -> None:
    queue.hold(A, lease_ms=1)
    queue.expire()
    assert queue.extend(A).lost == []
    assert queue.reclaim() == op.Reclaimed()
    assert queue.check().processing == [A]


def test_the_sweeps_lease_is_nobodys_to_extend(queue: Driver) -> None:
    queue.move_bare(A)
    queue.sweep(bare_lease_ms=10_000)
    before = queue.state()
    queue.numbers["a"] = 1
    assert queue.extend(A, consumer="-").lost == ["a"]
    assert queue.state() == before


def test_repeating_it_changes_nothing_but_the_deadline(queue: Driver) -> None:
    queue.hold(A)
    queue.extend(A)
    before = queue.state()
    queue.extend(A)
    after = queue.state()
    assert after.leases["a"] >= before.leases["a"]
    assert (after.claims, after.places) == (before.claims, before.places)


def test_it_tells_which_jobs_somebody_wants_cancelled(queue: Driver) -> None:
    queue.hold(A, B)
    assert queue.cancel(B) == "requested"
    assert queue.extend(A, B) == op.Extended(lost=[], cancelled=["b"])
    assert queue.extend(A) == op.Extended([], [])
    queue.check()


def test_a_job_that_is_lost_and_cancelled_is_told_as_both(queue: Driver) -> None:
    queue.hold(A, lease_ms=1)
    queue.cancel(A)
    queue.crash()
    assert queue.extend(A) == op.Extended(lost=["a"], cancelled=["a"])
    queue.check()
