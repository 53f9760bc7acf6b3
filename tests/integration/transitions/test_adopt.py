"""Adopt leases an item that was moved by a plain command, under canonical bytes."""

from __future__ import annotations

import hashlib

import pytest

from headrace import operations as op
from headrace import wire
from headrace.errors import StoreRefused
from tests.integration.transitions.driver import ME, OTHER, Driver, again, job

A = job("a")
BARE = b'{"task":"t"}'
NEW = job("new")


def digest_lease(item: bytes, ordinal: int = 1) -> str:
    return f"~{hashlib.sha1(item).hexdigest()}:{ordinal}"


def test_a_bare_item_is_leased_under_its_canonical_bytes(queue: Driver) -> None:
    [moved] = queue.move_bare(BARE)
    assert queue.adopt(moved, NEW) == "ok"
    state = queue.check()
    assert state.processing == [NEW]
    assert state.claims == {"new": (f"{ME}:1", NEW)}
    assert queue.settle(NEW, "done") == []
    queue.check()


def test_an_item_with_an_id_keeps_its_bytes(queue: Driver) -> None:
    [moved] = queue.move_bare(A)
    assert queue.adopt(moved, moved) == "ok"
    assert queue.check().claims == {"a": (f"{ME}:1", A)}


def test_the_deadline_counts_from_redis_own_clock(queue: Driver) -> None:
    [moved] = queue.move_bare(A)
    before = queue.now_ms()
    queue.adopt(moved, moved, lease_ms=5_000)
    assert before + 5_000 <= queue.check().leases["a"] <= queue.now_ms() + 5_000


@pytest.mark.parametrize(
    "item",
    [
        b'{"task":"t","n":12345678901234567890123,"x":1e400}',
        b'{ "id" : "mine" , "task" : "t" , "unknown" : [ 1 , 2 ] }\n',
        '{"id":"ä","task":"t"}'.encode(),
        rb'{"id":"a\"b","task":"t\u0000"}',
    ],
)
def test_what_canonical_makes_of_an_item_goes_through_its_whole_life(
    queue: Driver, item: bytes
) -> None:
    [moved] = queue.move_bare(item)
    head, body = wire.canonical(moved)
    canonical = wire.join(head, body)
    assert queue.adopt(moved, canonical) == "ok"
    assert queue.settle(canonical, "release") == []
    assert queue.claim() == [again(canonical)]
    queue.check()


class TestRepeated:
    def test_it_changes_nothing_but_the_deadline(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.adopt(moved, NEW, lease_ms=20_000)
        before = queue.check()
        assert queue.adopt(moved, NEW, lease_ms=50_000) == "ok"
        after = queue.check()
        assert (after.processing, after.claims) == (before.processing, before.claims)
        assert after.leases["new"] > before.leases["new"]

    def test_it_does_not_take_an_equal_bare_item_for_its_own(self, queue: Driver) -> None:
        queue.push(BARE, BARE)
        moved = queue.move()
        queue.adopt(moved, NEW)
        queue.move()
        assert queue.adopt(moved, NEW) == "ok"
        assert queue.check(bare=1).processing == [BARE, NEW]

    def test_the_holder_may_rewrite_its_job(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.adopt(moved, A)
        newer = job("a", b',"task":"u"}')
        assert queue.adopt(A, newer) == "ok"
        assert queue.check().claims == {"a": (f"{ME}:1", newer)}

    def test_a_job_that_is_settled_is_lost(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.adopt(moved, NEW)
        queue.settle(NEW, "done")
        before = queue.state()
        assert queue.adopt(moved, NEW) == "lost"
        assert queue.state() == before
        queue.check()


class TestLost:
    def test_an_item_that_is_gone_is_lost(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.remove(moved)
        assert queue.adopt(moved, NEW) == "lost"
        state = queue.check()
        assert (state.processing, state.leases) == ([], {})

    def test_an_item_with_an_id_that_is_gone_is_lost(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.remove(moved)
        assert queue.adopt(moved, A) == "lost"
        assert queue.check().leases == {}

    def test_an_item_that_its_holder_lost_to_a_plain_lrem_is_lost(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.adopt(moved, A)
        queue.remove(A)
        assert queue.adopt(moved, A) == "lost"
        assert queue.check(gone=1).processing == []

    def test_somebody_elses_job_is_lost(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        assert queue.adopt(moved, A, token=f"{OTHER}:7") == "ok"
        before = queue.state()
        assert queue.adopt(moved, A, token=f"{ME}:1") == "lost"
        assert queue.state() == before

    @pytest.mark.parametrize("item", [A, BARE])
    def test_after_the_sweeps_lease_has_expired_it_is_lost(
        self, queue: Driver, item: bytes
    ) -> None:
        [moved] = queue.move_bare(item)
        queue.sweep(bare_lease_ms=1)
        assert queue.crash().back == 1
        assert queue.adopt(moved, A if item == A else NEW) == "lost"
        state = queue.check()
        assert (len(state.pending), state.processing, state.leases) == (1, [], {})


class TestSweep:
    """The sweep may have given a lease already while the adoption was on its way."""

    def test_the_lease_of_an_item_with_an_id_is_taken_over(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.sweep(bare_lease_ms=20_000)
        assert queue.check().claims == {"a": ("-", A)}
        assert queue.adopt(moved, A) == "ok"
        assert queue.check().claims == {"a": (f"{ME}:1", A)}

    def test_the_lease_of_a_bare_item_ends_with_its_adoption(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.sweep()
        assert queue.check().claims == {digest_lease(BARE): ("-", BARE)}
        assert queue.adopt(moved, NEW) == "ok"
        assert queue.check().claims == {"new": (f"{ME}:1", NEW)}

    def test_the_leases_of_equal_bare_items_stay_numbered_without_gaps(self, queue: Driver) -> None:
        moved = queue.move_bare(BARE, BARE, BARE)
        queue.sweep()
        for n, item in enumerate(moved, start=1):
            assert queue.adopt(item, job(f"new{n}"), token=f"{ME}:{n}") == "ok"
            assert len(queue.check().claims) == 3
        assert queue.check().claims.keys() == {"new1", "new2", "new3"}

    def test_an_equal_item_that_is_still_bare_keeps_its_lease(self, queue: Driver) -> None:
        queue.push(BARE, BARE)
        moved = queue.move()
        queue.sweep()
        queue.move()  # this one has no lease yet
        assert queue.adopt(moved, NEW) == "ok"
        assert queue.check().claims.keys() == {"new", digest_lease(BARE)}

    def test_a_paused_queue_takes_the_item_back_with_its_lease(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.sweep()
        queue.pause()
        assert queue.adopt(moved, NEW) == "paused"
        state = queue.check()
        assert (state.pending, state.leases) == ([BARE], {})

    def test_the_lease_by_an_id_that_was_in_use_ends_with_an_adoption_under_another(
        self, queue: Driver
    ) -> None:
        queue.hold(A, consumer=OTHER)
        [moved] = queue.move_bare(job("a", b',"task":"twin"}'))
        assert queue.adopt(moved, moved) == "duplicate"
        assert queue.settle(A, "done", consumer=OTHER, claim=1) == []
        queue.sweep()
        assert queue.check().claims == {"a": ("-", moved)}
        assert queue.adopt(moved, NEW) == "ok"
        assert queue.check().claims == {"new": (f"{ME}:1", NEW)}

    def test_an_equal_item_of_somebody_whose_own_is_gone_waits_until_his_lease_ends(
        self, queue: Driver
    ) -> None:
        queue.hold(A, consumer=OTHER, lease_ms=1)
        queue.remove(A)
        [moved] = queue.move_bare(A)
        assert queue.adopt(moved, NEW) == "lost"  # it may as well be his
        assert queue.check().claims.keys() == {"a"}
        assert queue.crash().back == 1

    def test_a_sweep_after_the_adoption_gives_nothing(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.adopt(moved, NEW)
        assert queue.sweep(all_=True).given == 0
        queue.check()


class TestDuplicate:
    def test_an_id_in_use_is_a_duplicate(self, queue: Driver) -> None:
        queue.hold(A)
        other = job("a", b',"task":"other"}')
        [moved] = queue.move_bare(other)
        before = queue.state()
        assert queue.adopt(moved, moved, token=f"{OTHER}:1") == "duplicate"
        assert queue.state() == before
        assert queue.adopt(moved, job("b", b',"task":"other"}'), token=f"{OTHER}:1") == "ok"
        assert queue.check().claims["b"] == (f"{OTHER}:1", job("b", b',"task":"other"}'))

    def test_equal_bytes_may_stand_there_twice(self, queue: Driver) -> None:
        queue.push(A, A)
        queue.claim(1, consumer=OTHER)
        moved = queue.move()
        assert queue.adopt(moved, A, token=f"{ME}:9") == "duplicate"
        assert queue.adopt(moved, job("b"), token=f"{ME}:9") == "ok"
        state = queue.check()
        assert sorted(state.processing) == [A, job("b")]
        assert state.claims.keys() == {"a", "b"}

    def test_of_two_adoptions_of_equal_items_one_has_to_take_another_id(
        self, queue: Driver
    ) -> None:
        first, second = queue.move_bare(A, A)
        queue.sweep()
        assert queue.adopt(first, A, token=f"{ME}:1") == "ok"
        assert queue.adopt(second, A, token=f"{OTHER}:1") == "duplicate"
        assert queue.adopt(second, job("b"), token=f"{OTHER}:1") == "ok"
        assert queue.check().claims == {"a": (f"{ME}:1", A), "b": (f"{OTHER}:1", job("b"))}

    def test_when_the_equal_item_of_another_holder_is_gone_too_it_is_lost(
        self, queue: Driver
    ) -> None:
        queue.hold(A, consumer=OTHER)
        queue.remove(A)
        assert queue.adopt(A, job("fresh")) == "lost"
        assert queue.adopt(A, A) == "lost"
        queue.check(gone=1)

    def test_an_equal_item_of_another_holder_is_not_taken_when_ones_own_is_gone(
        self, queue: Driver
    ) -> None:
        """Found by the state machine: the sweep's lease of the twin had run out meanwhile."""
        queue.hold(A, consumer=OTHER)
        fresh = job("fresh")
        assert queue.adopt(A, fresh) == "lost"
        assert queue.check().claims.keys() == {"a"}

    def test_the_sweeps_lease_of_another_item_is_not_taken_over(self, queue: Driver) -> None:
        older, newer = job("a", b',"task":"old"}'), job("a", b',"task":"new"}')
        queue.move_bare(older)
        queue.sweep()
        [moved] = queue.move_bare(newer)
        assert queue.adopt(moved, newer) == "duplicate"
        assert queue.check(bare=1, twins={"a"}).claims == {"a": ("-", older)}


class TestBegun:
    def test_what_runs_already_is_not_taken_back_by_a_pause(self, queue: Driver) -> None:
        [moved] = queue.move_bare(BARE)
        queue.pause()
        assert queue.adopt(moved, NEW, begun=True) == "ok"
        assert queue.check().claims == {"new": (f"{ME}:1", NEW)}

    def test_what_runs_already_is_cancelled_as_what_runs(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.cancel(A)
        assert queue.adopt(moved, A, begun=True) == "ok"
        assert queue.extend(A).cancelled == ["a"]
        assert queue.settle(A, "retry", job=A) == []
        assert queue.check().counters["cancel"] == 1

    def test_an_id_in_use_is_a_duplicate_none_the_less(self, queue: Driver) -> None:
        queue.hold(A, consumer=OTHER)
        [moved] = queue.move_bare(job("a", b',"task":"other"}'))
        assert queue.adopt(moved, moved, begun=True) == "duplicate"

    def test_what_somebody_has_taken_is_lost_none_the_less(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.remove(moved)
        assert queue.adopt(moved, A, begun=True) == "lost"


class TestRefused:
    def test_a_paused_queue_takes_the_item_back_to_its_front(self, queue: Driver) -> None:
        queue.push(A)
        moved = queue.move()
        queue.push(job("b"))
        queue.pause()
        assert queue.adopt(moved, A) == "paused"
        state = queue.check()
        assert (state.pending, state.processing) == ([job("b"), A], [])
        assert queue.adopt(moved, A) == "lost"
        assert queue.check().pending == [job("b"), A]

    def test_a_paused_queue_takes_back_one_of_equal_items(self, queue: Driver) -> None:
        moved, *_ = queue.move_bare(BARE, BARE, BARE)
        queue.pause()
        assert queue.adopt(moved, NEW) == "paused"
        state = queue.check(bare=2)
        assert (state.pending, state.processing) == ([BARE], [BARE, BARE])

    def test_a_paused_queue_still_lets_its_holder_renew(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.adopt(moved, A)
        queue.pause()
        assert queue.adopt(moved, A) == "ok"
        queue.check()

    def test_a_cancelled_item_is_taken_out(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        assert queue.cancel(A) == "requested"
        assert queue.adopt(moved, A) == "cancelled"
        state = queue.check()
        assert (state.processing, state.leases, state.counters["cancel"]) == ([], {}, 1)
        assert queue.adopt(moved, A) == "lost"
        queue.check()

    def test_cancelled_wins_over_paused(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.cancel(A)
        queue.pause()
        assert queue.adopt(moved, A) == "cancelled"
        assert queue.check().pending == []

    def test_a_cancelled_item_under_the_sweeps_lease_leaves_no_lease(self, queue: Driver) -> None:
        [moved] = queue.move_bare(A)
        queue.sweep()
        queue.cancel(A)
        assert queue.adopt(moved, A) == "cancelled"
        assert queue.check().leases == {}


class TestKeys:
    """A key is free when its job ends, or begins, and only while it names that job."""

    KEYED = job("a", key="k")

    @pytest.mark.parametrize(("holder", "left"), [("a", None), ("b", b"b")])
    def test_a_cancelled_item_frees_its_key_unless_another_job_has_it(
        self, queue: Driver, holder: str, left: bytes | None
    ) -> None:
        queue.redis.set(queue.k.unique("k"), holder)
        [moved] = queue.move_bare(self.KEYED)
        queue.cancel(self.KEYED)
        assert queue.adopt(moved, self.KEYED) == "cancelled"
        assert queue.redis.get(queue.k.unique("k")) == left

    @pytest.mark.parametrize(("holder", "left"), [("a", None), ("b", b"b")])
    def test_an_item_that_gives_up_its_key_frees_it_unless_another_job_has_it(
        self, queue: Driver, holder: str, left: bytes | None
    ) -> None:
        queue.redis.set(queue.k.unique("k"), holder)
        [moved] = queue.move_bare(self.KEYED)
        assert queue.adopt(moved, A, key="k") == "ok"
        assert queue.redis.get(queue.k.unique("k")) == left
        assert queue.check().processing == [A]

    def test_an_item_that_keeps_its_key_leaves_it(self, queue: Driver) -> None:
        queue.redis.set(queue.k.unique("k"), "a")
        [moved] = queue.move_bare(self.KEYED)
        assert queue.adopt(moved, self.KEYED) == "ok"
        assert queue.redis.get(queue.k.unique("k")) == b"a"


def test_ones_own_item_that_somebody_has_taken_is_lost_when_its_bytes_change(queue: Driver) -> None:
    [moved] = queue.move_bare(A)
    assert queue.adopt(moved, A) == "ok"
    queue.remove(A)
    assert queue.adopt(moved, job("a", priority=1)) == "lost"


@pytest.mark.parametrize("place", ["pending", "stats", "leases", "claims"])
@pytest.mark.parametrize("stopped", ["paused", "cancelled"])
def test_a_key_of_a_wrong_type_loses_no_item(queue: Driver, place: str, stopped: str) -> None:
    [moved] = queue.move_bare(A)
    if stopped == "paused":
        queue.pause()
    else:
        assert queue.cancel(A) == "requested"
    key = getattr(queue.k, place)
    assert queue.redis.delete(key) in (0, 1)
    queue.redis.set(key, "wrong")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        queue.adopt(moved, moved)
    queue.redis.delete(key)
    assert queue.redis.lrange(queue.k.processing, 0, -1) == [A]


def test_nul_bytes_and_bytes_that_are_no_utf_8_are_adopted(queue: Driver) -> None:
    item = b'{"task":"\x00\xff"}'
    [moved] = queue.move_bare(item)
    canonical = job("a", b',"task":"\x00\xff"}')
    assert queue.adopt(moved, canonical) == "ok"
    assert queue.check().processing == [canonical]


@pytest.mark.parametrize("canonical", [job("b"), BARE, b"", b"no job"])
def test_bytes_of_another_id_are_refused(queue: Driver, canonical: bytes) -> None:
    [moved] = queue.move_bare(A)
    adopt = op.adopt(
        queue.k,
        token=f"{ME}:1",
        lease_ms=1,
        moved=moved,
        job_id="a",
        job=canonical,
        begun=False,
    )
    with pytest.raises(StoreRefused, match=r"\bnot the id of these bytes"):
        queue.raw(adopt)
    assert queue.check(bare=1).processing == [A]
