"""Commit ends a claim together with what follows from it, or changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import operations as op
from headrace.errors import StoreRefused
from headrace.handoff import FollowUp
from headrace.keys import QUEUES, keys_of
from headrace.workflows.commit import Commit
from tests.integration.transitions.driver import ME, OTHER, Driver, job, on_one_server
from tests.support import invariants

pytestmark = on_one_server
A, B, C = job("a"), job("b"), job("c")
ELSEWHERE = "elsewhere"


def follow_up(handed: bytes, **more: Any) -> FollowUp:
    fields: dict[str, Any] = {"queue": ELSEWHERE, "due": "", "key": "", "key_ttl_ms": 0} | more
    return FollowUp(**fields, job_id="b", job=handed)


def commit(
    queue: Driver, held: bytes, *jobs: FollowUp, consumer: str = ME, **fields: Any
) -> list[str]:
    outcome = queue.outcome(held, fields.pop("verb", "done"), **fields)
    commit = Commit(jobs, 0)
    answers: list[list[str]] = op.unfailed(
        queue.store.run_all([*commit.before, commit.operation(queue.k, consumer, outcome)])
    )
    return answers[-1]


def test_the_job_is_over_and_the_others_are_there(queue: Driver) -> None:
    queue.hold(A)
    assert commit(queue, A, follow_up(B), follow_up(C, queue=queue.k.queue)) == []
    state = queue.check()
    assert (state.pending, state.processing, state.claims, state.leases) == ([C], [], {}, {})
    assert state.counters == {"enqueued": 2, "done": 1}
    assert invariants.check(queue.redis, ELSEWHERE).pending == [B]
    assert queue.redis.sismember(QUEUES, ELSEWHERE)


def test_repeated_it_changes_nothing(queue: Driver) -> None:
    queue.hold(A)
    commit(queue, A, follow_up(B))
    before = queue.state(), invariants.read(queue.redis, ELSEWHERE)
    assert commit(queue, A, follow_up(B)) == ["a"]
    assert (queue.state(), invariants.read(queue.redis, ELSEWHERE)) == before


@pytest.mark.parametrize("whose", ["another's", "a former claim"])
def test_only_the_current_claim_commits(queue: Driver, whose: str) -> None:
    queue.hold(A)
    before = queue.state()
    which: dict[str, Any] = {"consumer": OTHER} if whose == "another's" else {"claim": 99}
    assert commit(queue, A, follow_up(B), **which) == ["a"]
    assert queue.state() == before
    assert not queue.redis.exists(ELSEWHERE)


def test_what_a_plain_client_has_ended_hands_nothing_on(queue: Driver) -> None:
    queue.hold(A)
    queue.remove(A)
    assert commit(queue, A, follow_up(B)) == ["a"]
    assert queue.check().claims == {}
    assert not queue.redis.exists(ELSEWHERE)


def test_from_either_end_it_finds_the_item(queue: Driver) -> None:
    queue.hold(A, B, C)
    assert commit(queue, A, claim=-queue.numbers["a"]) == []
    assert commit(queue, C) == []
    assert queue.check().processing == [B]


def test_an_equal_job_that_is_delayed_gets_another_id(queue: Driver) -> None:
    queue.hold(A)
    commit(queue, A, follow_up(B, due="+60000"), follow_up(B, due="+60000"))
    state = invariants.check(queue.redis, ELSEWHERE)
    assert len(state.delayed) == 2 and state.counters["renamed"] == 1


def test_a_key_that_is_held_keeps_its_job_and_no_other(queue: Driver) -> None:
    queue.hold(A)
    queue.redis.set(keys_of(ELSEWHERE).unique("k"), "somebody")
    commit(queue, A, follow_up(B, key="k"), follow_up(C))
    assert invariants.check(queue.redis, ELSEWHERE).pending == [C]


@pytest.mark.parametrize("verb", ["dead", "drop", "cancel"])
def test_it_ends_a_job_in_other_ways_too(queue: Driver, verb: op.Verb) -> None:
    queue.hold(A)
    assert commit(queue, A, verb=verb, job=B if verb == "dead" else b"") == []
    state = queue.check()
    assert state.dead == ([B] if verb == "dead" else [])
    assert state.counters == {"enqueued": 1, verb: 1}
    queue.hold(C)
    with pytest.raises(StoreRefused, match="only who is done hands on"):
        commit(queue, C, follow_up(A), follow_up(B), verb=verb)


@pytest.mark.parametrize("name", ["pending", "priority", "delayed", "nudge", "stats"])
def test_a_key_of_a_wrong_type_fails_before_the_first_write(queue: Driver, name: str) -> None:
    queue.hold(A)
    queue.redis.set(getattr(keys_of(ELSEWHERE), name), "a string")
    before = queue.state()
    with pytest.raises(StoreRefused):
        commit(queue, A, follow_up(C, queue="third"), follow_up(B))
    assert queue.state() == before
    assert not queue.redis.exists("third")


@pytest.mark.parametrize("due", ["+x", "@-1", "+1e999", "soon"])
def test_a_due_that_is_none_fails_before_the_first_write(queue: Driver, due: str) -> None:
    queue.hold(A)
    before = queue.state()
    with pytest.raises(StoreRefused, match="no whole number"):
        commit(queue, A, follow_up(C), follow_up(B, due=due))
    assert queue.state() == before


def test_a_result_is_told(queue: Driver) -> None:
    queue.hold(A)
    commit(queue, A, follow_up(B), result=b"42", result_ttl_ms=60_000)
    assert queue.redis.lrange(queue.k.result("a"), 0, -1) == [b"42"]
    assert queue.redis.pttl(queue.k.result("a")) > 0
