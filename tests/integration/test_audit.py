"""The balance of a queue: every way that a job can go is one of its terms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from headrace import doctor
from headrace import operations as op
from headrace.doctor import Balance
from headrace.keys import keys_of
from headrace.moving import requests
from headrace.store import Store
from tests.integration.transitions.driver import Driver, job


@pytest.fixture
def queue(url: str, redis: Redis) -> Iterator[Driver]:
    store = Store(url, name="test")
    yield Driver(store, redis)
    store.close()


def balance_of(queue: Driver) -> Balance:
    return doctor.balance_of(queue.store.run(op.snapshot(queue.k)))


def adds_up(one: Balance) -> bool:
    parts = [one[name] for name in one if name not in {"accepted", "foreign"}]
    return one["accepted"] + one["foreign"] == sum(parts)


def test_every_way_that_a_job_can_go_is_a_term(queue: Driver) -> None:
    queue.enqueue(job("m"))
    queue.store.run(requests.take(queue.k, "batch"))
    done, dead, dropped, cancelled, purged, held = queue.hold(*map(job, "abcdef"))
    queue.settle(done, "done")
    queue.settle(dead, "dead", job=b'{"id":"b","error":{}}')
    queue.settle(dropped, "drop")
    queue.settle(cancelled, "cancel")
    queue.settle(purged, "dead", job=b'{"id":"e","error":{}}')
    queue.store.run(op.purge(queue.k, [b'{"id":"e","error":{}}']))
    queue.enqueue(job("g"), job("h"))
    queue.enqueue(job("i", priority=5))
    queue.enqueue(job("j"), due="+60000")
    assert held
    one = balance_of(queue)
    assert one == {
        "accepted": 11,
        "foreign": 0,
        "pending": 2,
        "priority": 1,
        "delayed": 1,
        "limited": 0,
        "processing": 1,
        "dead": 1,
        "done": 1,
        "cancelled": 1,
        "dropped": 1,
        "purged": 1,
        "moved": 1,
    }
    assert adds_up(one)
    assert doctor.equation(one) == (
        "11 accepted = 2 pending + 1 priority + 1 delayed + 1 processing + 1 dead + 1 done + "
        "1 cancelled + 1 dropped + 1 purged + 1 moved"
    )


@pytest.mark.parametrize(
    ("pushed", "popped", "says"),
    [
        (3, 0, "2 accepted + 3 foreign = 5 pending + 0 done"),
        (0, 1, "2 accepted − 1 foreign = 1 pending + 0 done"),
        (1, 1, "2 accepted = 2 pending + 0 done"),
    ],
)
def test_what_plain_clients_bring_and_take_is_foreign(
    queue: Driver, pushed: int, popped: int, says: str
) -> None:
    queue.enqueue(job("a"), job("b"))
    for number in range(pushed):
        queue.redis.lpush(queue.k.pending, job(f"plain{number}"))
    for _ in range(popped):
        queue.redis.rpop(queue.k.pending)
    one = balance_of(queue)
    assert doctor.equation(one) == says
    assert adds_up(one)


def test_an_empty_queue_adds_up(queue: Driver) -> None:
    assert doctor.equation(balance_of(queue)) == "0 accepted = 0 done"


def test_queues_add_up_to_a_total(queue: Driver, redis: Redis) -> None:
    other = Driver(queue.store, redis, "other")
    queue.enqueue(job("a"), job("b"))
    other.settle(other.hold(job("c"))[0], "done")
    redis.rpop(keys_of("queue").pending)
    whole = doctor.total([balance_of(queue), balance_of(other)])
    assert doctor.equation(whole) == "3 accepted − 1 foreign = 1 pending + 1 done"
    assert adds_up(whole)


def test_a_late_settle_does_not_disturb_the_sum(queue: Driver) -> None:
    (held,) = queue.hold(job("a"), lease_ms=60_000)
    assert queue.settle(held, "done") == []
    assert queue.settle(held, "done") == ["a"]  # repeated: lost
    assert doctor.equation(balance_of(queue)) == "1 accepted = 1 done"
