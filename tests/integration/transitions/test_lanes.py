"""Lanes: jobs wait in them for tokens and slots, one of each has its turn, and nothing of it leaks."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from headrace import lanes
from headrace import operations as op
from headrace.lanes import lane_keys
from headrace.lanes.limit import Limit
from tests.integration.transitions.driver import ME, OTHER, Driver, again, id_of, job

LANES = lanes.operations
WINDOW = 64


def ids(jobs: list[bytes]) -> list[str]:
    return [id_of(one) for one in jobs]


def some(count: int, prefix: str = "j") -> list[bytes]:
    return [job(f"{prefix}{i:05}") for i in range(count)]


class Lanes(Driver):
    """A queue with lanes."""

    def limits(self, **limits: Limit) -> None:
        named = {
            name.replace("each", "/*").replace("all", "*"): str(one) for name, one in limits.items()
        }
        self.store.run(LANES.declare(self.k, named))

    def into(self, lane: str, *jobs: bytes, **options: Any) -> op.Enqueued:
        return self.store.run(LANES.enqueue(self.k, [(lane, one) for one in jobs], **options))

    def admit(self, *, come: list[bytes] = [], ended: list[bytes] = [], alarm: str = "") -> str:  # noqa: B006
        told = {"come": self._members(come), "ended": self._members(ended)}
        return self.store.run(LANES.admit(self.k, alarm=alarm, **told)).at

    def _members(self, jobs: list[bytes]) -> list[str]:
        permits = [LANES.permit_of(one, id_of(one)) for one in jobs]
        assert all(permits)
        return [permit.member for permit in permits if permit]

    def take(self, count: int = 10, *, told: bool = True) -> list[bytes]:
        """Claim, and tell that the jobs have come."""
        jobs = self.claim(count)
        if told:
            self.admit(come=[one for one in jobs if b'"admitted"' in one])
        return jobs

    def end(self, *jobs: bytes) -> None:
        """Let jobs be done, and tell that they have ended."""
        for one in jobs:
            assert self.settle(one, "done") == []
        self.admit(ended=list(jobs))

    def back(self, *jobs: bytes, lane: str = "send/", since: int = 0, **more: Any) -> list[str]:
        consumer, claim = more.get("consumer", ME), more.get("claim")
        outcomes = [self.outcome(one, "release", claim=claim) for one in jobs]
        held = LANES.Hold(lane, since)
        answers = [self.store.run(held.operation(self.k, consumer, one)) for one in outcomes]
        return [job_id for answer in answers for job_id in answer]

    def look(self, **options: Any) -> LANES.Checked:
        return self.store.run(LANES.check(self.k, **options))

    def time_passes(self, seconds: float) -> None:
        """Let the buckets be so much older."""
        key = lane_keys(self.k).buckets
        found: Any = self.redis.hgetall(key)
        for name, value in found.items():
            if name == b"*alarm":
                self.redis.hset(key, name, int(value) - int(seconds * 1e6))
            elif name == b"*" or not name.startswith(b"*"):
                tokens, at = value.split()
                self.redis.hset(key, name, b"%s %d" % (tokens, int(at) - int(seconds * 1e6)))

    def slots(self) -> int:
        return int(self.redis.zcard(lane_keys(self.k).slots))

    def waiting(self) -> int:
        return int(self.redis.hlen(self.k.limited))


@pytest.fixture
def lanes_(store: Any, redis: Redis) -> Lanes:
    return Lanes(store, redis)


def test_without_a_limit_a_job_is_let_out_at_once_with_a_permit(lanes_: Lanes) -> None:
    assert lanes_.into("send/", job("a")) == op.Enqueued("ok")
    (taken,) = lanes_.take()
    assert taken == job("a", b',"task":"t","admitted":"0 1 send/"}')
    lanes_.end(taken)
    assert lanes_.check().counters == {"enqueued": 1, "admitted": 1, "done": 1}


def test_no_more_run_than_the_limit_says(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=2))
    lanes_.into("send/", *some(5))
    first = lanes_.take()
    assert ids(first) == ["j00000", "j00001"]
    assert (lanes_.waiting(), lanes_.slots()) == (3, 2)
    lanes_.end(first[0])
    assert ids(lanes_.take()) == ["j00002"]
    lanes_.check()


def test_a_limit_for_each_key_holds_for_each(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=3), sendeach=Limit(concurrency=1))
    for key in "abcd":
        lanes_.into(f"send/{key}", *some(3, key))
    first = lanes_.take()
    assert ids(first) == ["a00000", "b00000", "c00000"]
    lanes_.end(first[1])
    assert ids(lanes_.take()) == ["d00000"]
    lanes_.check()


def test_a_limit_of_the_queue_holds_for_all_lanes(lanes_: Lanes) -> None:
    lanes_.limits(all=Limit(concurrency=2))
    lanes_.into("send/", *some(2, "a"))
    lanes_.into("*/", *some(2, "b"))
    assert sorted(ids(lanes_.take())) == ["a00000", "a00001"]
    lanes_.check()


def test_tokens_come_with_time_and_no_more_than_the_burst_is_kept(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(rate=0.01, burst=2))
    lanes_.into("send/", *some(9))
    assert ids(lanes_.take()) == ["j00000", "j00001"]
    lanes_.time_passes(101)
    lanes_.admit()
    assert ids(lanes_.take()) == ["j00002"]
    lanes_.time_passes(100_000)
    lanes_.admit()
    assert ids(lanes_.take()) == ["j00003", "j00004"]
    lanes_.check()


def test_what_nobody_takes_uses_up_the_burst(lanes_: Lanes) -> None:
    """Else all that had a token while no consumer was there would begin at once."""
    lanes_.limits(send=Limit(rate=0.01, burst=3))
    lanes_.into("send/", *some(20))
    for _ in range(5):
        lanes_.time_passes(100_000)
        lanes_.admit()
    assert len(lanes_.take(told=False)) == 3
    lanes_.check()


def test_one_caller_keeps_the_time_and_another_takes_over_when_it_does_not_come(
    lanes_: Lanes,
) -> None:
    lanes_.limits(send=Limit(rate=0.01, burst=1))
    lanes_.into("send/", *some(3))
    taken = lanes_.claim()
    due = int(lanes_.admit(come=taken, alarm="0"))
    assert 60e6 < due - lanes_.now_ms() * 1000 < 101e6
    lanes_.into("send/", *some(1, "k"))
    assert lanes_.admit(alarm="0") == ""
    assert int(lanes_.admit(alarm=str(due))) >= due
    assert lanes_.admit() == ""
    lanes_.time_passes(101)
    assert (
        lanes_.admit(alarm="0") == ""
    )  # the token was there: it is let out, and nobody has it yet
    assert int(lanes_.admit(come=lanes_.claim(), alarm="0")) > due
    lanes_.check()


def test_lanes_have_their_turns_however_many_wait_in_one(lanes_: Lanes) -> None:
    lanes_.into("*/big", *some(300, "a"))
    for n in range(9):
        lanes_.into(f"*/small{n}", *some(3, f"s{n}"))
    order: list[str] = []
    while taken := lanes_.take(1):
        order += ids(taken)
        lanes_.end(*taken)
    last = max(i for i, name in enumerate(order) if name.startswith("s"))
    assert last < WINDOW + 27 + 3 + 10
    assert len(order) == 327
    lanes_.check()


def test_no_more_are_let_out_than_the_window(lanes_: Lanes) -> None:
    lanes_.into("send/", *some(500))
    lanes_.admit()
    assert len(lanes_.check().priority) == WINDOW
    assert len(lanes_.take(10)) == 10
    assert len(lanes_.check().priority) == WINDOW


def test_what_waits_in_the_list_has_its_turn_as_well(lanes_: Lanes) -> None:
    lanes_.enqueue(*some(3, "plain"))
    lanes_.push(b'{"task":"bare"}')
    lanes_.into("send/", *some(300))
    taken = [*lanes_.take(60), *lanes_.take(60)]
    assert {"plain00000", "plain00001", "plain00002"} < {*ids([t for t in taken if b'"id"' in t])}
    assert b'{"task":"bare"}' in taken
    lanes_.redis.delete(lanes_.k.processing, lanes_.k.leases, lanes_.k.claims)


def test_jobs_of_a_lane_go_by_priority_but_none_waits_for_ever(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.store.run(LANES.declare(lanes_.k, {"*age": "1000"}))
    lanes_.into("send/", job("first"))
    (running,) = lanes_.take()
    lanes_.into("send/", job("low", priority=-5), job("middle"), job("high", priority=5))
    state = lanes_.check()
    assert [turn.partition(" ")[2].strip("0123456789") for turn in state.lanes] == [
        "high",
        "middle",
        "low",
    ]
    # A point is worth a second: what comes 11 s later goes after the lowest, whatever its priority.
    ranks = {name: int(turn.split()[1]) for name, (turn, _) in state.limited.items()}
    assert ranks["low"] - ranks["high"] == 10_000
    lanes_.end(running)
    assert ids(lanes_.take()) == ["high"]
    lanes_.check()


@pytest.mark.parametrize(("part", "at_once"), [("0 4", 3), ("1 4", 3), ("2 4", 2), ("9 4", 2)])
def test_a_partition_has_its_share_of_what_bounds_the_queue(
    lanes_: Lanes, part: str, at_once: int
) -> None:
    lanes_.limits(all=Limit(concurrency=10))
    lanes_.store.run(LANES.declare(lanes_.k, {"*part": part}))
    lanes_.into("send/", *some(20))
    assert len(lanes_.take(20)) == at_once
    lanes_.store.run(LANES.declare(lanes_.k, {"*part": ""}))
    assert len(lanes_.take(20)) == 10 - at_once


def test_a_partition_has_its_share_of_a_rate(lanes_: Lanes) -> None:
    lanes_.limits(all=Limit(rate=0.1, burst=8))
    lanes_.store.run(LANES.declare(lanes_.k, {"*part": "3 4"}))
    lanes_.into("send/", *some(20))
    assert len(lanes_.take(20)) == 2
    lanes_.time_passes(40)
    lanes_.admit(alarm="0")
    assert len(lanes_.take(20)) == 1
    lanes_.store.run(LANES.declare(lanes_.k, {"*part": "3 400"}))
    lanes_.time_passes(4_000)
    lanes_.admit(alarm="0")
    assert len(lanes_.take(20)) == 1  # one at least


def test_a_job_that_comes_without_a_permit_goes_into_its_lane(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    (held,) = lanes_.hold(job("a"))
    assert lanes_.back(held) == []
    (taken,) = lanes_.take()
    assert taken == again(job("a", b',"task":"t","admitted":"1 1 send/"}'), delivery=1)
    assert lanes_.back(held, claim=1) == ["a"]  # a second time it changes nothing
    lanes_.end(taken)
    assert lanes_.check().counters["hold"] == 1


def test_a_stale_claim_puts_nothing_into_a_lane(lanes_: Lanes) -> None:
    (held,) = lanes_.hold(job("a"))
    assert lanes_.back(held, consumer=OTHER) == ["a"]
    assert lanes_.waiting() == 0
    lanes_.check()


def test_a_retried_job_needs_a_new_permit_and_goes_before_younger_ones(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(3))
    (taken,) = lanes_.take()
    came = lanes_.now_ms() - 60_000
    lanes_.settle(taken, "retry", job=again(taken, attempt=1))
    (retried,) = lanes_.claim()
    permit = LANES.permit_of(retried, "j00000")
    assert permit is not None and permit.delivery == 0  # and it has been back once: it is stale
    assert lanes_.back(retried, since=came) == []
    (next_,) = lanes_.take()
    assert id_of(next_) == "j00000"
    assert next_.count(b"admitted") == 1
    assert lanes_.slots() == 1
    lanes_.check()


def test_a_job_that_was_asked_to_stop_does_not_go_into_its_lane(lanes_: Lanes) -> None:
    (held,) = lanes_.hold(job("a", key="k"))
    lanes_.redis.set(lanes_.k.unique("k"), "a")
    assert lanes_.cancel(held) == "requested"
    assert lanes_.back(held) == []
    assert lanes_.check().counters["cancel"] == 1
    assert not lanes_.redis.exists(lanes_.k.unique("k"))


def test_a_job_in_a_lane_is_cancelled_once(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(3))
    cancel = LANES.cancel(lanes_.k, "j00001", b"")
    assert lanes_.store.run(cancel) == "cancelled"
    assert lanes_.store.run(cancel) == "absent"
    assert lanes_.waiting() == 1
    lanes_.check()


def test_the_slot_of_a_lost_consumer_is_free_when_its_job_is_back(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(2))
    lanes_.claim(lease_ms=1)
    assert lanes_.look().freed == 0  # it may still run
    lanes_.crash()
    assert lanes_.look().freed == 1
    assert lanes_.slots() == 1  # the next one has it
    lanes_.check()


@pytest.mark.parametrize("way", ["done", "dead", "retry", "release", "cancel", "drop"])
def test_a_slot_is_free_at_the_next_look_if_nobody_tells_how_its_job_ended(
    lanes_: Lanes, way: op.Verb
) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(2))
    (taken,) = lanes_.take()
    bytes_ = again(taken, attempt=1) if way in ("retry", "dead") else b""
    lanes_.settle(taken, way, job=bytes_, delay_ms=60_000 if way == "retry" else 0)
    checked = lanes_.look()
    assert (checked.freed, checked.busy) == (1, True)
    assert id_of(lanes_.check().places["priority"][0]) == "j00001"


def test_a_slot_whose_job_a_plain_client_takes_is_free_at_the_next_look(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(2))
    lanes_.redis.zpopmin(lanes_.k.priority)
    lanes_.foreign -= 1
    assert lanes_.look().freed == 1
    lanes_.check()


def test_what_is_let_out_and_not_claimed_keeps_its_slot(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(rate=1000, burst=10, concurrency=2))
    lanes_.into("send/", *some(3))
    assert lanes_.look().freed == 0
    assert lanes_.slots() == 2
    lanes_.check()


def test_a_changed_limit_holds_for_what_waits(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(9))
    assert len(lanes_.take()) == 1
    lanes_.limits(send=Limit(concurrency=4))
    assert len(lanes_.take()) == 3
    assert lanes_.store.run(LANES.declare(lanes_.k, {"!send": "0 0 6"})) == 1  # an operator
    assert len(lanes_.take()) == 2
    lanes_.limits(send=Limit(concurrency=5))  # a consumer that starts changes nothing of that
    assert len(lanes_.take()) == 0
    assert lanes_.store.run(LANES.declare(lanes_.k, {"!send": "", "send": ""})) == 2
    assert len(lanes_.take()) == 3
    lanes_.check()


def test_many_full_lanes_do_not_keep_a_free_one_waiting(lanes_: Lanes) -> None:
    lanes_.limits(sendeach=Limit(concurrency=1))
    keys = [f"k{i:04}" for i in range(900)]
    for key in keys:
        lanes_.into(f"send/{key}", *some(2, key))
    running: dict[str, bytes] = {}
    for _ in range(200):
        running |= {id_of(one): one for one in lanes_.take(50)}
    assert len(running) == 900
    lanes_.end(running["k033300000"])
    assert ids(lanes_.take()) == ["k033300001"]
    lanes_.check()


def test_a_full_queue_takes_no_more(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    assert lanes_.into("send/", *some(3), max_pending=3).word == "ok"
    assert lanes_.into("send/", job("more"), max_pending=3) == op.Enqueued("full", waiting=3)
    lanes_.check()


def test_equal_ids_are_told_apart(lanes_: Lanes) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", job("a"), job("a"))
    assert lanes_.take() and lanes_.waiting() == 1
    lanes_.into("send/", job("b"), job("b"))
    assert lanes_.waiting() == 3
    assert "b" in {*lanes_.check().limited}


def test_full_buckets_are_forgotten(lanes_: Lanes) -> None:
    lanes_.limits(sendeach=Limit(rate=1, burst=1))
    for n in range(20):
        lanes_.into(f"send/{n}", job(f"j{n}"))
    lanes_.take(20)
    lanes_.time_passes(10)
    lanes_.look()
    left: Any = lanes_.redis.hkeys(lane_keys(lanes_.k).buckets)
    assert not [name for name in left if name.startswith(b"send/")]
    lanes_.check()


def test_why_a_job_waits_is_told(lanes_: Lanes) -> None:
    lanes_.limits(all=Limit(rate=0.01, burst=1), sendeach=Limit(concurrency=1))
    lanes_.into("send/a", *some(3))
    wait = lanes_.store.run(LANES.why(lanes_.k, "j00002"))
    assert wait is not None
    assert (wait.lane, wait.before, wait.lanes, wait.out) == ("send/a", 1, 1, 1)
    assert wait.job == job("j00002")
    queue, own = wait.bounds
    assert (queue.name, own.name) == ("*", "send/a")
    assert queue.holds_back and own.holds_back and (own.used, own.limit.concurrency) == (1, 1)
    assert lanes_.store.run(LANES.why(lanes_.k, "j00000")) is None
    lanes_.check()


@pytest.mark.parametrize("place", ["priority", "nudge", "stats"])
def test_a_place_of_a_wrong_type_lets_nothing_out(lanes_: Lanes, place: str) -> None:
    lanes_.limits(send=Limit(concurrency=1))
    lanes_.into("send/", *some(2))
    lanes_.redis.delete(getattr(lanes_.k, place))
    key = getattr(lanes_.k, place)
    lanes_.redis.set(key, "wrong")
    with pytest.raises(Exception, match="WRONGTYPE"):
        lanes_.look()
    assert lanes_.waiting() == 1
