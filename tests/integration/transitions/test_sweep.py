"""Sweep gives each bare item of processing a lease, and touches no bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest

from headrace import operations as op
from tests.integration.transitions.driver import LONG_MS, Driver, again, job

A = job("a")
BARE = b'{"task":"t"}'


def numbered(item: bytes, count: int) -> set[str]:
    return {f"~{hashlib.sha1(item).hexdigest()}:{n}" for n in range(1, count + 1)}


@pytest.mark.parametrize("item", [A, BARE, b"", b"\x00\xff", b'{"id":"~x","task":"t"}'])
def test_a_bare_item_gets_a_lease_and_keeps_its_bytes(queue: Driver, item: bytes) -> None:
    queue.move_bare(item)
    assert queue.sweep() == op.Swept(given=1, next_offset=0)
    state = queue.check()
    assert state.processing == [item]
    assert state.claims.keys() == ({"a"} if item == A else numbered(item, 1))
    assert set(state.claims.values()) == {("-", item)}


def test_the_deadline_counts_from_redis_own_clock(queue: Driver) -> None:
    queue.move_bare(A)
    before = queue.now_ms()
    queue.sweep(bare_lease_ms=5_000)
    assert before + 5_000 <= queue.check().leases["a"] <= queue.now_ms() + 5_000


def test_a_leased_item_keeps_the_lease_it_has(queue: Driver) -> None:
    queue.hold(A)
    queue.move_bare(BARE)
    queue.sweep(bare_lease_ms=20_000)
    before = queue.state()
    assert queue.sweep(all_=True).given == 0
    assert queue.state() == before


def test_an_empty_list_is_through_at_once(queue: Driver) -> None:
    assert queue.sweep(all_=True) == op.Swept(0, 0)
    assert queue.redis.keys("*") == []


class TestEqual:
    def test_equal_bare_items_get_as_many_leases(self, queue: Driver) -> None:
        queue.move_bare(*[BARE] * 20)
        assert queue.sweep().given == 20
        assert queue.check().claims.keys() == numbered(BARE, 20)
        assert queue.sweep(all_=True).given == 0

    def test_one_more_equal_item_gets_one_more_lease(self, queue: Driver) -> None:
        queue.move_bare(BARE, BARE)
        queue.sweep()
        queue.move_bare(BARE)
        assert queue.sweep().given == 1
        assert queue.check().claims.keys() == numbered(BARE, 3)

    def test_equal_items_with_an_id_get_one_lease_each(self, queue: Driver) -> None:
        queue.move_bare(A, A, A)
        assert queue.sweep().given == 3
        assert queue.check(twins={"a"}).claims.keys() == {"a"} | numbered(A, 2)

    def test_an_equal_twin_of_a_claimed_job_gets_its_own(self, queue: Driver) -> None:
        queue.hold(A)
        queue.move_bare(A)
        assert queue.sweep().given == 1
        assert queue.check(twins={"a"}).claims.keys() == {"a"} | numbered(A, 1)

    def test_another_job_of_a_claimed_id_gets_its_own(self, queue: Driver) -> None:
        queue.hold(A)
        other = job("a", b',"task":"other"}')
        queue.move_bare(other)
        assert queue.sweep().given == 1
        assert queue.check(twins={"a"}).claims.keys() == {"a"} | numbered(other, 1)

    def test_an_equal_twin_comes_back_although_the_other_is_held(self, queue: Driver) -> None:
        queue.hold(A)
        queue.move_bare(A)
        queue.sweep(bare_lease_ms=1)
        assert queue.crash().back == 1
        state = queue.check(twins={"a"})
        assert (state.processing, state.pending) == ([A], [again(A, crashes=1)])
        assert queue.settle(A, "done") == []


class TestUnequal:
    def test_as_many_claims_as_items_are_not_looked_at(self, queue: Driver) -> None:
        queue.hold(A, job("b"))
        queue.remove(A)
        queue.move_bare(BARE)
        assert queue.sweep() == op.Swept(0, 0)
        assert queue.sweep(all_=True).given == 1
        queue.check(gone=1)


class TestSteps:
    def test_a_long_list_is_walked_in_steps_from_its_old_end(self, queue: Driver) -> None:
        items = [b"%d" % i for i in range(1_500)]
        queue.redis.lpush(queue.k.processing, *items)
        queue.foreign += 1_500
        first = queue.sweep()
        assert first == op.Swept(1_000, 1_000)
        leased = {item for _, item in queue.state().claims.values()}
        assert leased == set(items[:1_000])
        assert queue.sweep(offset=first.next_offset) == op.Swept(500, 0)
        queue.check()

    def test_large_items_end_a_step_after_about_a_mebibyte(self, queue: Driver) -> None:
        queue.move_bare(*(b"%03d%b" % (i, b"x" * 200_000) for i in range(30)))
        step = queue.sweep()
        assert step == op.Swept(8, 8)
        given = step.given
        while step.next_offset:
            step = queue.sweep(offset=step.next_offset)
            given += step.given
        assert given == 30
        queue.check()

    def test_a_step_beyond_the_end_finds_nothing(self, queue: Driver) -> None:
        queue.move_bare(A)
        assert queue.sweep(offset=50, all_=True) == op.Swept(0, 0)
        queue.check(bare=1)


def test_a_plain_consumer_that_ends_in_time_leaves_a_lease_that_is_dropped(queue: Driver) -> None:
    queue.move_bare(A, BARE)
    queue.sweep(bare_lease_ms=1)
    queue.remove(A)
    queue.remove(BARE)
    queue.check(gone=2)
    assert queue.crash() == op.Reclaimed()
    state = queue.check()
    assert (state.leases, state.pending) == ({}, [])


def test_twenty_equal_bare_items_come_back_in_one_call_after_the_grace(queue: Driver) -> None:
    queue.move_bare(*[BARE] * 20)
    queue.sweep(bare_lease_ms=1)
    assert queue.reclaim(grace_ms=20).quiet_ms > 0
    queue.until(queue.now_ms() + 21)
    assert queue.reclaim(grace_ms=20) == op.Reclaimed(back=20)
    state = queue.check()
    assert Counter(state.pending) == {BARE: 20}
    assert (state.processing, state.leases) == ([], {})


def test_one_of_equal_bare_items_ends_although_others_come_and_go(queue: Driver) -> None:
    k, item = queue.k, BARE.decode()
    redis: Any = queue.redis

    def sweep() -> None:
        queue.store.run(op.sweep(k, bare_lease_ms=LONG_MS))

    def time_passes(ms: int) -> None:
        for name, at in redis.zrange(k.leases, 0, -1, withscores=True):
            redis.zadd(k.leases, {name: at - ms})

    redis.lpush(k.processing, item)
    sweep()
    for _ in range(2):
        time_passes(LONG_MS * 6 // 10)
        redis.lpush(k.processing, item)
        sweep()
        redis.lrem(k.processing, 1, item)
        sweep()
    assert queue.store.run(op.reclaim(k, grace_ms=0, gap_ms=10**12, max_crashes=5)).back == 1
    queue.foreign += 1
