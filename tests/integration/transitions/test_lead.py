"""Lead is held by one at a time, and given up or lost by time."""

from __future__ import annotations

from headrace import keys
from headrace import operations as op
from tests.integration.transitions.driver import LONG_MS, ME, OTHER, Driver
from tests.support.wait import wait_until


def lead(queue: Driver, who: str, lease_ms: int = LONG_MS) -> str:
    return queue.store.run(op.lead(who, lease_ms))


def test_the_first_who_asks_leads(queue: Driver) -> None:
    assert lead(queue, ME) == ME
    assert lead(queue, OTHER) == ME
    assert queue.redis.get(keys.LEADER) == ME.encode()


def test_the_leader_keeps_the_lead_by_asking_again(queue: Driver) -> None:
    lead(queue, ME, 10_000)
    assert lead(queue, ME) == ME
    assert queue.redis.pttl(keys.LEADER) > 10_000


def test_who_does_not_lead_prolongs_nothing(queue: Driver) -> None:
    lead(queue, ME, 10_000)
    lead(queue, OTHER)
    assert 0 < queue.redis.pttl(keys.LEADER) <= 10_000


def test_a_lead_given_up_is_free(queue: Driver) -> None:
    lead(queue, ME)
    assert lead(queue, ME, 0) == ""
    assert lead(queue, OTHER) == OTHER


def test_only_the_leader_can_give_it_up(queue: Driver) -> None:
    lead(queue, ME)
    assert lead(queue, OTHER, 0) == ME
    assert lead(queue, ME) == ME


def test_giving_up_what_nobody_has_is_no_harm(queue: Driver) -> None:
    assert lead(queue, ME, 0) == ""
    assert queue.redis.keys("*") == []


def test_a_leader_that_is_silent_loses_the_lead(queue: Driver) -> None:
    lead(queue, ME, 20)
    wait_until(lambda: lead(queue, OTHER) == OTHER)
