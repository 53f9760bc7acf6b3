"""Cancel takes a waiting job out and asks a running one to stop."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import flows
from headrace import operations as op
from headrace.keys import CHANNEL_PREFIX
from headrace.operations import CANCEL_REQUEST_TTL_MS
from headrace.results import CANCELLED
from headrace.store import Store
from tests.integration.transitions.driver import LONG_MS, ME, Driver, again, job
from tests.support.wait import wait_until

A, B, C = job("a"), job("b"), job("c")
P = job("p", priority=3)


class TestWaiting:
    def test_a_pending_job_is_taken_out(self, queue: Driver) -> None:
        queue.enqueue(A, B)
        assert queue.cancel(A) == "cancelled"
        state = queue.check()
        assert (state.pending, state.counters["cancel"]) == ([B], 1)

    def test_a_prioritised_job_is_taken_out(self, queue: Driver) -> None:
        queue.enqueue(P)
        assert queue.cancel(P) == "cancelled"
        assert queue.check().priority == []

    def test_a_delayed_job_is_taken_out(self, queue: Driver) -> None:
        queue.enqueue(A, P, due="+60000")
        assert queue.cancel(A) == "cancelled"
        assert queue.check().places["delayed"] == [P]

    def test_its_waiters_are_told(self, queue: Driver) -> None:
        queue.enqueue(A)
        queue.cancel(A, result_ttl_ms=LONG_MS, result=CANCELLED)
        [end] = queue.redis.lrange(queue.k.result("a"), 0, -1)
        assert end == CANCELLED
        assert 0 < queue.redis.pttl(queue.k.result("a")) <= LONG_MS

    def test_without_a_ttl_no_result_is_kept(self, queue: Driver) -> None:
        queue.enqueue(A)
        queue.cancel(A)
        assert not queue.redis.exists(queue.k.result("a"))

    def test_equal_bytes_in_two_places_are_both_taken_and_counted(self, queue: Driver) -> None:
        queue.enqueue(P)
        queue.enqueue(P, due="+60000")
        assert queue.cancel(P) == "cancelled"
        state = queue.check()
        assert not any(state.places.values())
        assert state.counters["cancel"] == 2


class TestRunning:
    def test_a_claimed_job_is_asked_to_stop(self, queue: Driver) -> None:
        queue.hold(A)
        assert queue.cancel(A) == "requested"
        assert queue.check().processing == [A]
        assert queue.extend(A).cancelled == ["a"]

    def test_it_is_known_by_its_id_whatever_its_bytes_are_now(self, queue: Driver) -> None:
        queue.hold(A)
        queue.settle(A, "release")
        queue.claim()
        assert queue.cancel(A) == "requested"
        queue.check()

    def test_a_bare_item_is_asked_to_stop(self, queue: Driver) -> None:
        queue.move_bare(A)
        assert queue.cancel(A) == "requested"
        assert queue.adopt(A, A) == "cancelled"
        queue.check()

    def test_whoever_holds_it_is_told_and_nobody_else(self, queue: Driver) -> None:
        pubsub: Any = queue.redis.pubsub  # it has no type
        with pubsub(ignore_subscribe_messages=True) as heard:
            heard.psubscribe("*")
            wait_until(lambda: queue.redis.pubsub_numpat() == 1)
            queue.hold(A)
            queue.cancel(A)
            queue.enqueue(B)
            queue.cancel(B)
            queue.move_bare(C)
            queue.sweep()  # it has a lease, and nobody who would listen
            queue.cancel(C)
            queue.redis.publish("end", "")
            said = [one for _ in range(20) if (one := heard.get_message(timeout=1)) is not None][:2]
        # On a cluster the queue's name stands in braces.
        told = [(one["channel"], one["data"].translate(None, b"{}")) for one in said]
        assert told == [(f"{CHANNEL_PREFIX}{ME}".encode(), b"queue a"), (b"end", b"")]

    def test_who_may_not_publish_may_cancel(self, queue: Driver) -> None:
        queue.redis.acl_setuser(
            "mute", enabled=True, nopass=True, commands=["+@all"], keys=["*"], reset_channels=True
        )
        queue.hold(A)
        mute = Store(queue.store.url.replace("//", "//mute:x@"))
        assert mute.run(op.cancel(queue.k, "a", A)) == "requested"
        mute.close()
        queue.redis.acl_deluser("mute")
        assert queue.extend(A).cancelled == ["a"]

    def test_a_request_expires(self, queue: Driver) -> None:
        queue.hold(A)
        queue.cancel(A)
        ttl_ms = queue.redis.pttl(queue.k.cancelled)
        assert 0 < ttl_ms <= CANCEL_REQUEST_TTL_MS

    def test_an_old_request_is_forgotten_by_the_next_one(self, queue: Driver) -> None:
        queue.redis.zadd(queue.k.cancelled, {"old": queue.now_ms() - CANCEL_REQUEST_TTL_MS - 1})
        queue.hold(A)
        queue.cancel(A)
        assert queue.redis.zrange(queue.k.cancelled, 0, -1) == [b"a"]


class TestRepeated:
    def test_a_cancelled_job_is_absent(self, queue: Driver) -> None:
        queue.enqueue(A)
        queue.cancel(A)
        before = queue.state()
        assert queue.cancel(A) == "absent"
        assert queue.state() == before

    def test_a_second_request_changes_nothing(self, queue: Driver) -> None:
        queue.hold(A)
        queue.cancel(A)
        before = queue.state()
        assert queue.cancel(A) == "requested"
        assert queue.state() == before


class TestAbsent:
    @pytest.mark.parametrize("verb", ["done", "dead"])
    def test_a_job_that_is_over_is_absent(self, queue: Driver, verb: str) -> None:
        queue.hold(A)
        queue.settle(A, verb, job=A)  # type: ignore[arg-type]
        assert queue.cancel(A) == "absent"
        assert queue.redis.zcard(queue.k.cancelled) == 0
        queue.check()

    def test_a_job_of_other_bytes_is_absent(self, queue: Driver) -> None:
        queue.enqueue(again(A))
        assert queue.cancel(A) == "absent"
        assert queue.check().pending == [again(A)]


class TestFlow:
    """The flow finds a job of which the caller knows nothing but the id."""

    def cancel(self, queue: Driver, job_id: str) -> bool:
        flow = flows.cancel(queue.k, job_id, b"", result_ttl_ms=LONG_MS, result=CANCELLED)
        return queue.store.follow(flow)

    @pytest.mark.parametrize("place", ["pending", "priority", "delayed"])
    def test_a_job_that_waits_anywhere_is_found(self, queue: Driver, place: str) -> None:
        wanted = job("w", priority=1) if place == "priority" else job("w")
        fillers = [job(f"{n:03}", priority=place == "priority") for n in range(250)]
        due = "+60000" if place == "delayed" else ""
        queue.enqueue(*fillers[:125], due=due)
        queue.enqueue(wanted, due=due)
        queue.enqueue(*fillers[125:], due=due)
        assert self.cancel(queue, "w")
        assert wanted not in queue.check().places[place]
        assert queue.redis.exists(queue.k.result("w"))

    def test_a_running_job_is_asked_to_stop(self, queue: Driver) -> None:
        queue.hold(A)
        assert self.cancel(queue, "a")
        assert queue.extend(A).cancelled == ["a"]

    def test_a_dead_or_unknown_job_is_none(self, queue: Driver) -> None:
        queue.hold(A)
        queue.settle(A, "dead", job=A)
        assert not self.cancel(queue, "a")
        assert not self.cancel(queue, "never")
        assert queue.check().dead == [A]
