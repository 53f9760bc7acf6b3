"""Reclaim makes jobs runnable again whose lease is past, once it is sure of that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from headrace import operations as op
from headrace import wire
from headrace.errors import StoreRefused
from tests.integration.transitions.driver import LONG_MS, Driver, again, id_of, job, on_one_server
from tests.integration.transitions.strategies import jobs

A, B = job("a"), job("b")
BARE = b'{"task":"t"}'


class TestBack:
    def test_a_job_whose_lease_is_past_is_runnable_again(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        assert queue.crash() == op.Reclaimed(back=1)
        state = queue.check()
        assert state.pending == [again(A, crashes=1)]
        assert (state.processing, state.leases, state.claims) == ([], {}, {})

    def test_a_job_whose_lease_lasts_stays(self, queue: Driver) -> None:
        queue.hold(A)
        assert queue.reclaim() == op.Reclaimed()
        assert queue.check().processing == [A]

    def test_a_lease_that_was_ended_is_reclaimed_and_charged(self, queue: Driver) -> None:
        queue.hold(A, B)
        assert queue.extend(A, lease_ms=0) == op.Extended([], [])
        assert queue.reclaim() == op.Reclaimed(back=1)
        state = queue.check()
        assert (state.pending, state.processing) == ([again(A, crashes=1)], [B])

    def test_a_lease_that_was_ended_is_reclaimed_in_a_grace_too(self, queue: Driver) -> None:
        queue.hold(A, B)
        queue.extend(A, lease_ms=0)
        answer = queue.reclaim(grace_ms=LONG_MS, gap_ms=0)
        assert answer.quiet_ms and (answer.back, answer.died) == (1, 0)
        assert queue.check().processing == [B]

    def test_a_lease_that_was_ended_and_then_extended_lasts(self, queue: Driver) -> None:
        queue.hold(A)
        queue.extend(A, lease_ms=0)
        queue.extend(A)
        assert queue.reclaim() == op.Reclaimed()
        assert queue.check().processing == [A]

    def test_it_goes_behind_those_who_wait(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        queue.enqueue(B)
        queue.crash()
        assert [id_of(one) for one in queue.claim()] == ["b", "a"]

    def test_a_prioritised_job_goes_back_to_its_priority_with_a_nudge(self, queue: Driver) -> None:
        queue.hold(job("p", priority=3), lease_ms=1)
        queue.crash()
        state = queue.check()
        assert state.places["priority"] == [job("p", priority=3, delivery=1, crashes=1)]
        assert state.nudges == 1

    def test_a_prioritised_job_whose_equal_waits_already_comes_back_under_another_id(
        self, queue: Driver
    ) -> None:
        held = job("p", priority=3)
        queue.hold(held, lease_ms=1)
        queue.enqueue(again(held, crashes=1))
        assert queue.crash() == op.Reclaimed(back=1)
        state = queue.check()
        assert len(state.places["priority"]) == 2
        assert state.counters["renamed"] == 1

    @pytest.mark.parametrize("item", [BARE, b"", b"\x00\xff", b'{"id":"a b","priority":4}'])
    def test_a_bare_item_goes_back_as_it_was(self, queue: Driver, item: bytes) -> None:
        queue.move_bare(item)
        queue.sweep(bare_lease_ms=1)
        assert queue.crash().back == 1
        assert queue.check().pending == [item]

    def test_a_bare_item_is_not_reclaimed_before_it_has_a_lease(self, queue: Driver) -> None:
        queue.move_bare(BARE, A)
        assert queue.reclaim() == op.Reclaimed()
        assert len(queue.check(bare=2).processing) == 2

    def test_a_lease_whose_item_is_gone_is_dropped(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        queue.remove(A)
        assert queue.crash() == op.Reclaimed()
        state = queue.check()
        assert (state.leases, state.pending) == ({}, [])

    def test_repeating_it_changes_nothing(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        queue.crash()
        before = queue.state()
        assert queue.reclaim() == op.Reclaimed()
        assert queue.state() == before

    def test_a_limit_leaves_the_rest_for_the_next_time(self, queue: Driver) -> None:
        queue.hold(*(job(f"{i}") for i in range(7)), lease_ms=1)
        assert queue.crash(limit=5).back == 5
        queue.check()
        assert queue.reclaim(limit=5).back == 2
        assert queue.check().processing == []

    def test_a_limit_holds_for_equal_bare_items_too(self, queue: Driver) -> None:
        queue.move_bare(*[BARE] * 7)
        queue.sweep(bare_lease_ms=1)
        assert queue.crash(limit=5).back == 5
        queue.check()
        assert queue.reclaim(limit=5).back == 2
        assert queue.check().leases == {}

    def test_large_items_end_it_after_about_a_mebibyte(self, queue: Driver) -> None:
        large = [job(f"{i:02}", b',"x":"%b"}' % (b"x" * 300_000)) for i in range(8)]
        queue.push(*large)
        queue.claim(4, lease_ms=1)
        queue.claim(4, lease_ms=1)
        assert queue.crash().back == 4
        assert queue.reclaim().back == 4
        queue.check()

    def test_of_equal_items_as_many_come_back_as_nobody_ended(self, queue: Driver) -> None:
        queue.move_bare(BARE, BARE, BARE)
        queue.sweep(bare_lease_ms=1)
        queue.remove(BARE)
        assert queue.crash().back == 2
        state = queue.check()
        assert (state.pending, state.processing, state.leases) == ([BARE, BARE], [], {})

    def test_the_lease_that_is_past_is_that_of_the_equal_item_that_is_gone(
        self, queue: Driver
    ) -> None:
        queue.move_bare(BARE)
        queue.sweep(bare_lease_ms=1)
        queue.move_bare(BARE)
        queue.sweep()
        queue.remove(BARE)  # one of two plain consumers has ended; the other one's time is not over
        assert queue.crash() == op.Reclaimed()
        state = queue.check()
        assert (state.pending, state.processing, len(state.leases)) == ([], [BARE], 1)
        assert min(state.leases.values()) > queue.now_ms() + LONG_MS / 2

    def test_an_equal_item_whose_lease_lasts_stays(self, queue: Driver) -> None:
        queue.move_bare(BARE)
        queue.sweep(bare_lease_ms=1)
        queue.move_bare(BARE)
        queue.sweep()
        assert queue.crash().back == 1
        state = queue.check()
        assert (state.pending, state.processing, len(state.leases)) == ([BARE], [BARE], 1)
        assert min(state.leases.values()) > queue.now_ms() + LONG_MS / 2


class TestGrace:
    def test_the_first_look_is_quiet(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        queue.expire()
        quiet_ms = queue.reclaim(grace_ms=10_000).quiet_ms
        assert 0 < quiet_ms <= 10_000
        assert queue.check().processing == [A]

    def test_looks_in_the_grace_do_not_prolong_it(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        queue.expire()
        began = queue.now_ms()
        looks = 0
        while queue.reclaim(grace_ms=30).quiet_ms:
            looks += 1
        assert looks > 1
        assert began + 30 <= queue.now_ms()
        assert len(queue.check().pending) == 1

    def test_steady_looks_are_not_quiet(self, queue: Driver) -> None:
        queue.reclaim(grace_ms=0)
        for _ in range(5):
            assert queue.reclaim(grace_ms=10_000, gap_ms=10_000).quiet_ms == 0

    @on_one_server
    def test_looks_in_the_same_millisecond_are_not_quiet(self, queue: Driver) -> None:
        queue.reclaim(grace_ms=0)
        look = op.reclaim(queue.k, grace_ms=10_000, gap_ms=10_000, max_crashes=5, limit=1)
        with queue.redis.pipeline(transaction=True) as pipe:
            for _ in range(50):
                pipe.execute_command(*look.command())  # type: ignore[no-untyped-call]
            assert {answer[0] for answer in pipe.execute()} == {0}

    def test_a_gap_makes_it_quiet(self, queue: Driver) -> None:
        queue.reclaim(grace_ms=0)
        queue.until(queue.now_ms() + 21)
        assert queue.reclaim(grace_ms=10_000, gap_ms=20).quiet_ms > 0
        assert queue.reclaim(grace_ms=10_000, gap_ms=10_000).quiet_ms > 0

    def test_a_rest_within_the_gap_is_as_good_as_a_sweep(self, queue: Driver) -> None:
        assert queue.reclaim(grace_ms=10_000, rested_ms=queue.now_ms()).quiet_ms == 0

    def test_a_rest_before_the_gap_makes_it_quiet(self, queue: Driver) -> None:
        rested_ms = queue.now_ms() - 10_001
        assert queue.reclaim(grace_ms=10_000, gap_ms=10_000, rested_ms=rested_ms).quiet_ms > 0

    def test_a_rest_does_not_end_a_grace(self, queue: Driver) -> None:
        assert queue.reclaim(grace_ms=10_000).quiet_ms > 0
        assert queue.reclaim(grace_ms=10_000, rested_ms=queue.now_ms()).quiet_ms > 0

    def test_a_clock_that_was_set_back_makes_it_quiet(self, queue: Driver) -> None:
        queue.reclaim(grace_ms=0)
        rested_ms = queue.now_ms() + 100_000
        assert queue.reclaim(grace_ms=10_000, rested_ms=rested_ms).quiet_ms > 0

    def test_a_clock_that_was_set_back_since_a_sweep_makes_it_quiet(self, queue: Driver) -> None:
        queue.reclaim(grace_ms=0)
        queue.redis.hset(queue.k.meta, "swept", queue.now_ms() + 100_000)
        assert queue.reclaim(grace_ms=10_000).quiet_ms > 0

    def test_whoever_lives_extends_in_the_grace_and_keeps_its_job(self, queue: Driver) -> None:
        queue.hold(A, B, lease_ms=1)
        queue.expire()
        assert queue.reclaim(grace_ms=20).quiet_ms
        queue.extend(A)
        queue.until(queue.now_ms() + 21)
        assert queue.reclaim(grace_ms=20).back == 1
        state = queue.check()
        assert (state.processing, state.pending) == ([A], [again(B, crashes=1)])


class TestDeath:
    def test_too_many_crashes_end_in_the_dead_letters(self, queue: Driver) -> None:
        held = A
        for n in range(1, 5):
            queue.hold(held, lease_ms=1) if n == 1 else queue.claim(lease_ms=1)
            assert queue.crash() == op.Reclaimed(back=1)
            held = again(held, crashes=n)
            assert queue.check().pending == [held]
        queue.claim(lease_ms=1, consumer="host-7")
        assert queue.crash() == op.Reclaimed(died=1)
        state = queue.check()
        [letter] = state.dead
        assert (state.pending, state.processing, state.counters["dead"]) == ([], [], 1)
        assert json.loads(letter)["crashes"] == json.loads(letter)["delivery"] == 5
        error = wire.read_error(letter)
        assert error is not None
        assert (error.reason, error.consumer) == ("crashed", "host-7")
        assert abs(error.failed_at - queue.now_ms()) < 10_000
        assert wire.redriven(letter) == job("a", delivery=5)

    def test_releases_are_no_crashes(self, queue: Driver) -> None:
        queue.enqueue(A)
        for _ in range(7):
            [held] = queue.claim()
            queue.settle(held, "release")
        queue.claim(lease_ms=1)
        assert queue.crash().back == 1
        assert queue.check().pending == [job("a", delivery=8, crashes=1)]

    @pytest.mark.parametrize(
        "body",
        [
            b',"task":"t","args":[12345678901234567890123,1e400],"x":"\xc3\xa4\\u0000"}',
            b"}",
            b', "task" : "t" } \r\n',
            b',"task":"}"}',
            b',"task":"t","attempt":2,"unknown":{"error":1}}',
        ],
    )
    def test_a_letter_is_the_jobs_own_object_and_valid_json(
        self, queue: Driver, body: bytes
    ) -> None:
        queue.hold(job("a", body, crashes=4), lease_ms=1)
        assert queue.crash().died == 1
        [letter] = queue.check().dead
        fields = json.loads(letter)
        assert fields.pop("error")["reason"] == "crashed"
        assert fields.pop("delivery") == 1
        assert fields == json.loads(job("a", body, crashes=5))
        assert wire.redriven(letter) == job("a", body.rstrip(), delivery=1)

    @pytest.mark.parametrize("body", [b",no object", b',"task":"t"} x'])
    def test_what_is_no_object_is_left_to_whoever_decodes_it(
        self, queue: Driver, body: bytes
    ) -> None:
        queue.hold(job("a", body, crashes=9), lease_ms=1)
        assert queue.crash() == op.Reclaimed(back=1)
        assert queue.check().pending == [job("a", body, delivery=1, crashes=10)]

    def test_a_limit_holds_for_equal_ones_too(self, queue: Driver) -> None:
        queue.move_bare(*[job("a", crashes=4)] * 5)
        queue.sweep(bare_lease_ms=1)
        assert queue.crash(limit=2) == op.Reclaimed(died=2)
        assert len(queue.check(twins={"a"}).processing) == 3

    def test_a_consumer_of_a_strange_name_does_no_harm(self, queue: Driver) -> None:
        queue.hold(job("a", crashes=4), lease_ms=1, consumer='"},')
        assert queue.crash().died == 1
        assert json.loads(queue.check().dead[0])["error"]["consumer"] == "-"

    @pytest.mark.parametrize("place", ["dead", "cancelled"])
    def test_a_key_of_a_wrong_type_loses_no_job_and_no_lease(
        self, queue: Driver, place: str
    ) -> None:
        queue.hold(job("a", crashes=4), lease_ms=1)
        key = getattr(queue.k, place)
        queue.redis.set(key, "wrong")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.crash()
        queue.redis.delete(key)
        state = queue.check()
        assert (state.processing, set(state.leases)) == ([job("a", crashes=4)], {"a"})
        assert queue.crash().died == 1
        queue.check()


def test_a_cancelled_job_does_not_come_back(queue: Driver) -> None:
    queue.hold(A, lease_ms=1)
    queue.cancel(A)
    assert queue.crash() == op.Reclaimed()
    state = queue.check()
    assert not any(state.places.values())
    assert state.counters == {"enqueued": 1, "cancel": 1}


@pytest.mark.parametrize(
    "head",
    [{}, {"attempt": 1}, {"priority": 1, "delivery": 2, "crashes": 1, "unknown_since": 10**15 - 1}],
)
def test_a_cancelled_job_that_does_not_come_back_frees_its_key(
    queue: Driver, head: dict[str, Any]
) -> None:
    assert frees_its_key(queue, job("a", key="k", **head))


def test_a_key_behind_a_number_that_is_too_long_belongs_to_the_body(queue: Driver) -> None:
    number = b"1" * 16
    assert not frees_its_key(queue, job("a", b',"unknown_since":%b,"key":"k"}' % number))


def frees_its_key(queue: Driver, held: bytes) -> bool:
    """Cancel a job while it runs, and lose its consumer; whether nobody has the key then."""
    queue.hold(held, lease_ms=1)
    queue.redis.set(queue.k.unique("k"), "a")
    queue.cancel(held)
    assert queue.crash() == op.Reclaimed()
    return not queue.redis.exists(queue.k.unique("k"))


@pytest.mark.parametrize(
    "name", ["priority", "delivery", "crashes", "attempt", "unknown_since", "key"]
)
class TestBodiesWithWordsOfTheHead:
    """What stands behind the head counts for nothing, whatever it is called."""

    def job(self, name: str, **head: str) -> bytes:
        return job("a", b',"task":"t","%b":7}' % name.encode(), **head)

    def test_the_job_goes_back_with_its_own_counters(self, queue: Driver, name: str) -> None:
        held = self.job(name)
        queue.hold(held, lease_ms=1)
        queue.crash()
        assert queue.check().pending == [again(held, crashes=1)]

    def test_its_key_is_found(self, queue: Driver, name: str) -> None:
        assert frees_its_key(queue, self.job(name, key="k"))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(jobs)
def test_a_reclaimed_job_is_what_the_wire_says(queue: Driver, lost: bytes) -> None:
    queue.redis.flushall()
    queue.push(lost)
    queue.claim(lease_ms=0)
    assert queue.reclaim(max_crashes=1_000_000_001).back == 1
    parts = wire.split(lost)
    assert parts is not None
    assert queue.claim() == [again(lost, crashes=parts[0].crashes + 1)]
