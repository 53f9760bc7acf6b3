"""Enqueue accepts all jobs of a call or none, and puts each where it waits its turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from headrace import operations as op
from headrace.errors import StoreRefused
from headrace.operations import Unique
from headrace.store import Store
from tests.integration.transitions.driver import LONG_MS, ME, Driver, job, on_one_server
from tests.support.servers import private_server
from tests.support.wait import wait_until

A, B, C = job("a"), job("b"), job("c")


def test_jobs_of_a_call_stand_in_its_order(queue: Driver) -> None:
    queue.enqueue(A, B)
    queue.enqueue(C)
    assert queue.check().pending == [C, B, A]  # taken from the right


def test_accepted_jobs_are_counted(queue: Driver) -> None:
    queue.enqueue(A, B)
    queue.enqueue(job("p", priority=1))
    queue.enqueue(C, due="+60000")
    assert queue.check().counters == {"enqueued": 4}


def test_any_bytes_are_kept(queue: Driver) -> None:
    jobs = [
        job("nul", b',"task":"t","args":["\x00"]}'),
        job("raw", b',"task":"\xff\xfe"}'),
        job("big", b',"args":[12345678901234567890123,1e400],"task":"t","n":9007199254740993}'),
        job("space", b' , "task" : "t" } \n'),
    ]
    queue.enqueue(*jobs)
    queue.enqueue(*(job(f"d{i}", b) for i, b in enumerate([b',"x":"\x00\xff"}'])), due="+60000")
    state = queue.check()
    assert state.pending == jobs[::-1]
    assert state.delayed[0][0] == job("d0", b',"x":"\x00\xff"}')


def test_a_call_may_carry_a_thousand_jobs(queue: Driver) -> None:
    jobs = [job(f"{i:04}") for i in range(1_000)]
    queue.enqueue(*jobs)
    assert queue.check().pending == jobs[::-1]


class TestPriority:
    def test_a_prioritised_job_waits_by_its_priority(self, queue: Driver) -> None:
        high, low = job("h", priority=9), job("l", priority=-9)
        queue.enqueue(low, A, high)
        state = queue.check()
        assert state.priority == [(high, -9), (low, 9)]
        assert state.pending == [A]

    @pytest.mark.parametrize(
        "body",
        [
            b',"task":"t","priority":5}',
            b',"priority":5.5,"task":"t"}',
            b',"priority":5e1,"task":"t"}',
            b',"priority":"5","task":"t"}',
            b',"priority":1234567890,"task":"t"}',
            b',"delivery":1,"priority":5,"task":"t"}',
        ],
    )
    def test_only_a_whole_number_in_the_head_is_a_priority(
        self, queue: Driver, body: bytes
    ) -> None:
        queue.enqueue(job("a", body))
        assert queue.check().pending == [job("a", body)]

    def test_each_prioritised_job_pushes_a_nudge(self, queue: Driver) -> None:
        queue.enqueue(*(job(f"p{i}", priority=1) for i in range(3)), A)
        assert queue.check().nudges == 3

    def test_a_plain_job_pushes_no_nudge(self, queue: Driver) -> None:
        queue.enqueue(A)
        assert queue.check().nudges == 0

    def test_nudges_are_capped_and_expire(self, queue: Driver) -> None:
        for start in range(0, 1_500, 750):
            queue.enqueue(*(job(f"{start + i}", priority=1) for i in range(750)))
        assert queue.check().nudges == 1_000
        assert 0 < queue.redis.pttl(queue.k.nudge) <= 60_000

    def test_an_equal_job_gets_a_new_id(self, queue: Driver) -> None:
        twin = job("p", priority=1)
        queue.enqueue(twin, twin)
        queue.enqueue(twin)
        jobs = queue.check().places["priority"]
        assert jobs == [twin, job("p.1", priority=1), job("p.2", priority=1)]

    def test_a_new_id_of_a_long_one_stays_within_the_bound(self, queue: Driver) -> None:
        twin = job("p" * 128, priority=1)
        queue.enqueue(twin, twin)
        assert job("p" * 100 + ".1", priority=1) in queue.check().places["priority"]


class TestDue:
    def test_a_delay_counts_from_redis_own_clock(self, queue: Driver) -> None:
        before = queue.now_ms()
        queue.enqueue(A, due="+60000")
        [(delayed, due_ms)] = queue.check().delayed
        assert delayed == A
        assert before + 60_000 <= due_ms <= queue.now_ms() + 60_001

    def test_an_instant_is_kept_as_it_is(self, queue: Driver) -> None:
        at_ms = queue.now_ms() + 123_456
        queue.enqueue(A, job("p", priority=1), due=f"@{at_ms}")
        state = queue.check()
        assert state.delayed == [(A, at_ms), (job("p", priority=1), at_ms)]
        assert (state.priority, state.nudges) == ([], 0)

    @pytest.mark.parametrize("due", ["+0", "@0", "@1000000000000"])
    def test_what_is_due_already_waits_its_turn(self, queue: Driver, due: str) -> None:
        queue.enqueue(A, job("p", priority=1), due=due)
        state = queue.check()
        assert (state.pending, state.places["priority"]) == ([A], [job("p", priority=1)])

    def test_an_equal_delayed_job_gets_a_new_id(self, queue: Driver) -> None:
        queue.enqueue(A, A, due="+60000")
        assert queue.check().places["delayed"] == [A, job("a.1")]


class TestBound:
    def test_all_waiting_places_count(self, queue: Driver) -> None:
        queue.enqueue(A)
        queue.enqueue(job("p", priority=1))
        queue.enqueue(B, due="+60000")
        assert queue.enqueue(C, max_pending=3) == op.Enqueued("full", waiting=3)
        assert queue.enqueue(C, max_pending=4).word == "ok"
        queue.check()

    def test_claimed_and_dead_jobs_do_not_count(self, queue: Driver) -> None:
        queue.hold(A, B)
        queue.settle(A, "dead", job=A)
        assert queue.enqueue(C, max_pending=1).word == "ok"
        queue.check()

    def test_a_call_that_does_not_fit_as_a_whole_leaves_nothing(self, queue: Driver) -> None:
        queue.enqueue(A)
        before = queue.state()
        answer = queue.enqueue(B, C, max_pending=2, unique=Unique("k", "b", LONG_MS))
        assert answer == op.Enqueued("full", waiting=1)
        assert queue.state() == before
        assert not queue.redis.exists(queue.k.unique("k"))


class TestUnique:
    def test_the_second_with_a_key_is_told_the_id_of_the_first(self, queue: Driver) -> None:
        assert queue.enqueue(A, unique=Unique("k", "a", LONG_MS)).word == "ok"
        before = queue.state()
        answer = queue.enqueue(B, unique=Unique("k", "b", LONG_MS))
        assert answer == op.Enqueued("exists", existing_id="a")
        assert queue.state() == before

    @on_one_server
    def test_keys_are_the_queues_own(self, queue: Driver) -> None:
        other = Driver(queue.store, queue.redis, "emails")
        for one in (queue, other):
            assert one.enqueue(A, unique=Unique("k", "a", LONG_MS)).word == "ok"
            one.check()

    def test_a_key_is_free_again_when_it_expires(self, queue: Driver) -> None:
        queue.enqueue(A, unique=Unique("k", "a", 20))
        wait_until(lambda: queue.enqueue(B, unique=Unique("k", "b", LONG_MS)).word == "ok")
        assert queue.check().pending == [B, A]

    def test_it_holds_also_for_delayed_and_prioritised_jobs(self, queue: Driver) -> None:
        queue.enqueue(A, due="+60000", unique=Unique("k", "a", LONG_MS))
        twin = job("p", priority=1)
        assert queue.enqueue(twin, unique=Unique("k", "p", LONG_MS)).existing_id == "a"
        assert queue.check().priority == []


class TestFailure:
    def test_a_refused_job_takes_no_key(self, queue: Driver) -> None:
        queue.redis.set(queue.k.pending, "no list")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.enqueue(A, unique=Unique("k", "a", LONG_MS))
        queue.redis.delete(queue.k.pending)
        assert queue.enqueue(A, unique=Unique("k", "a", LONG_MS)).word == "ok"
        assert queue.check().pending == [A]

    @pytest.mark.parametrize("place", ["pending", "priority", "delayed", "nudge"])
    def test_a_place_of_a_wrong_type_leaves_nothing_half_done(
        self, queue: Driver, place: str
    ) -> None:
        key = getattr(queue.k, place)
        queue.redis.set(key, "wrong")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.enqueue(job("p", priority=1), A)
        queue.redis.delete(key)
        state = queue.check()
        assert not any(state.places.values())

    def test_a_full_redis_refuses_only_new_jobs(self, tmp_path: Path) -> None:
        with private_server(tmp_path / "data") as server, Redis.from_url(server.url) as redis:
            store = Store(server.url)
            queue = Driver(store, redis)
            done, retried, released, short = queue.hold(*map(job, "wxyz"))
            queue.enqueue(A, job("p", priority=1))
            queue.enqueue(B, due="+1")
            redis.config_set("maxmemory", 1)
            with pytest.raises(StoreRefused, match="maxmemory"):
                queue.enqueue(C)
            queue.until(queue.now_ms() + 2)
            assert queue.promote().moved == 1
            assert len(queue.claim()) == 3
            assert queue.extend(short, lease_ms=1) == op.Extended([], [])
            assert not queue.settle(done, "done", result_ttl_ms=LONG_MS, result=b"1")
            assert not queue.settle(retried, "retry", delay_ms=LONG_MS, job=job("x", attempt=1))
            assert not queue.settle(released, "release")
            assert queue.crash().back == 1
            assert queue.pause()
            assert queue.pause(paused=False)
            assert queue.cancel(job("x", attempt=1)) == "cancelled"
            assert store.run(op.lead(ME, LONG_MS)) == ME
            assert queue.snapshot().foreign == 0
            redis.config_set("maxmemory", 0)  # Redis 7.0 lets nothing into a MULTI when it is full
            queue.check()
            store.close()
