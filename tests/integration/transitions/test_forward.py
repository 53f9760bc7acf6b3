"""What was handed on to another node comes there once, whatever its key and its due."""

from __future__ import annotations

import pytest

from headrace import forwarding
from headrace.handoff import FollowUp
from headrace.operations import Unique
from tests.integration.transitions.driver import Driver, job

A, B, KEYED, URGENT = job("a"), job("b"), job("a", key="k"), job("a", priority=7)


def arrive(queue: Driver, one: bytes, due: str = "", key: str = "", ttl_ms: int = 0) -> str:
    return queue.store.run(forwarding.arrive(FollowUp("queue", due, key, ttl_ms, "a", one)))


@pytest.mark.parametrize(
    ("one", "due", "place"),
    [(A, "", "pending"), (URGENT, "", "priority"), (A, "+60000", "delayed"), (A, "@1", "pending")],
)
def test_it_comes_once_to_its_place(queue: Driver, one: bytes, due: str, place: str) -> None:
    assert arrive(queue, one, due) == "ok"
    assert arrive(queue, one, due) == "before"
    state = queue.check()
    assert {name: jobs for name, jobs in state.places.items() if jobs} == {place: [one]}
    assert state.counters == {"enqueued": 1}


def test_it_comes_once_although_it_has_ended_by_then(queue: Driver) -> None:
    arrive(queue, KEYED, key="k")
    queue.claim()
    queue.settle(KEYED, "done")
    assert arrive(queue, KEYED, key="k") == "before"
    assert queue.check().counters == {"enqueued": 1, "done": 1}


def test_it_takes_its_key(queue: Driver) -> None:
    arrive(queue, KEYED, key="k")
    assert queue.enqueue(B, unique=Unique("k", "b", 0)).existing_id == "a"


def test_where_another_has_its_key_it_does_not_come_then_or_later(queue: Driver) -> None:
    other = job("b", key="k")
    queue.enqueue(other, unique=Unique("k", "b", 0))
    assert arrive(queue, KEYED, key="k") == "exists"
    queue.claim()
    queue.settle(other, "done")
    assert arrive(queue, KEYED, key="k") == "before"
    assert queue.check().counters == {"enqueued": 1, "done": 1}


def test_that_it_has_come_is_remembered_for_a_week(queue: Driver) -> None:
    arrive(queue, A)
    assert 0 < int(queue.redis.pttl("queue:forwarded:a")) <= 7 * 86_400_000
