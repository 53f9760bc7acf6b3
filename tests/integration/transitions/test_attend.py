"""Consumers of a divided queue number themselves in the order in which they came, until they are gone."""

from __future__ import annotations

from headrace.partitions import requests
from headrace.partitions.requests import AWAY_MS, Share, places_of
from tests.integration.transitions.driver import Driver


def attend(queue: Driver, consumer: str) -> Share:
    return queue.store.run(requests.attend(queue.k.queue, consumer))


def time_passes(queue: Driver, ms: int, *consumers: str) -> None:
    """Let it be so long ago that these were there last."""
    _, present = places_of(queue.k.queue)
    for consumer in consumers:
        queue.redis.zincrby(present, -ms, consumer)


def members(queue: Driver) -> list[str]:
    return queue.store.run(requests.members(queue.k.queue))


def test_a_consumer_keeps_its_number_while_it_is_there(queue: Driver) -> None:
    assert attend(queue, "b") == Share(0, 1)
    came = places_of(queue.k.queue)[0]
    queue.redis.zincrby(came, -1, "b")  # so that they have not come in one millisecond
    assert attend(queue, "a") == Share(1, 2)
    assert attend(queue, "b") == Share(0, 2)
    assert attend(queue, "a") == Share(1, 2)


def test_who_has_gone_is_counted_no_more(queue: Driver) -> None:
    for consumer in "abc":
        attend(queue, consumer)
    time_passes(queue, AWAY_MS + 1, "a", "b")
    assert attend(queue, "c") == Share(0, 1)
    assert members(queue) == ["c"]
    attend(queue, "a")
    assert sorted(members(queue)) == ["a", "c"]


def test_who_leaves_is_counted_no_more_at_once(queue: Driver) -> None:
    for consumer in "ab":
        attend(queue, consumer)
    for _ in range(2):
        queue.store.run_all(requests.leave(queue.k.queue, "a"))
        assert members(queue) == ["b"]


def test_nothing_is_left_when_all_have_gone(queue: Driver) -> None:
    attend(queue, "a")
    for key in places_of(queue.k.queue):
        assert 0 < queue.redis.pttl(key) <= 10 * AWAY_MS


def test_very_many_that_are_gone_are_forgotten_a_hundred_at_a_time(queue: Driver) -> None:
    names = [f"{n:03}" for n in range(150)]
    for place in places_of(queue.k.queue):
        queue.redis.zadd(place, dict.fromkeys(names, 1))
    assert attend(queue, "z").members == 51
    assert attend(queue, "z") == Share(0, 1)
