"""A unique key goes with its job: in the same script in which the job ends, and only if it names it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1

import pytest
from hypothesis import HealthCheck, given, settings

from headrace import operations as op
from headrace import scripts, wire
from headrace.operations import Operation, Unique
from headrace.scripts import Script
from tests.integration.transitions.driver import LONG_MS, Driver, again, job
from tests.integration.transitions.strategies import jobs
from tests.support.wait import wait_until

A, B = job("a", key="k"), job("b", key="k")
WEEK_MS = 7 * 86_400_000


def enqueue(queue: Driver, job: bytes, due: str = "", ttl_ms: int = 0) -> op.Enqueued:
    parts = wire.split(job)
    assert parts is not None
    return queue.enqueue(job, due=due, unique=Unique("k", parts[0].id, ttl_ms))


def holder(queue: Driver) -> bytes | None:
    """Give the id of the job that has the key."""
    found = queue.redis.get(queue.k.unique("k"))
    assert found is None or isinstance(found, bytes)
    return found


def done(queue: Driver) -> None:
    queue.claim()
    queue.settle(A, "done")


def dropped(queue: Driver) -> None:
    queue.claim()
    queue.settle(A, "drop")


def dead(queue: Driver) -> None:
    queue.claim()
    queue.settle(A, "dead", job=A)


def cancelled(queue: Driver) -> None:
    assert queue.cancel(A) == "cancelled"


def cancelled_while_it_runs(queue: Driver) -> None:
    queue.claim()
    assert queue.cancel(A) == "requested"
    queue.settle(A, "cancel")


def cancelled_instead_of_tried_again(queue: Driver) -> None:
    queue.claim()
    assert queue.cancel(A) == "requested"
    queue.settle(A, "retry", job=again(A), delay_ms=LONG_MS)


def cancelled_before_its_adoption(queue: Driver) -> None:
    queue.move()
    assert queue.cancel(A) == "requested"
    assert queue.adopt(A, A) == "cancelled"


def cancelled_with_a_lost_consumer(queue: Driver) -> None:
    queue.claim(lease_ms=1)
    assert queue.cancel(A) == "requested"
    queue.crash()


def crashed_too_often(queue: Driver) -> None:
    queue.claim(lease_ms=1)
    assert queue.crash(max_crashes=1).died == 1


def taken_by_a_plain_client_before_it_ended(queue: Driver) -> None:
    queue.claim()
    queue.remove(A)
    assert queue.settle(A, "done") == ["a"]


def done_by_a_plain_client(queue: Driver) -> None:
    item = queue.move()
    queue.sweep(bare_lease_ms=1)
    queue.remove(item)
    queue.crash()


ENDS = [
    *(done, dropped, dead, cancelled, cancelled_while_it_runs, cancelled_instead_of_tried_again),
    *(cancelled_before_its_adoption, cancelled_with_a_lost_consumer, crashed_too_often),
    *(taken_by_a_plain_client_before_it_ended, done_by_a_plain_client),
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_key_is_free_when_its_job_has_ended(queue: Driver, end: Callable[[Driver], None]) -> None:
    assert enqueue(queue, A).word == "ok"
    end(queue)
    assert holder(queue) is None
    assert enqueue(queue, B).word == "ok"
    assert holder(queue) == b"b"
    queue.check()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_key_that_another_job_has_by_now_stays(
    queue: Driver, end: Callable[[Driver], None]
) -> None:
    enqueue(queue, A)
    queue.redis.set(queue.k.unique("k"), "b")
    end(queue)
    assert holder(queue) == b"b"


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_key_of_a_foreign_type_stops_no_job_from_ending(
    queue: Driver, end: Callable[[Driver], None]
) -> None:
    enqueue(queue, A)
    queue.redis.delete(queue.k.unique("k"))
    queue.redis.lpush(queue.k.unique("k"), "x")
    end(queue)
    state = queue.check()
    assert (state.pending, state.processing, state.claims) == ([], [], {})


@pytest.mark.parametrize("verb", ["retry", "park", "release"])
def test_a_key_is_held_while_its_job_is_tried_again(queue: Driver, verb: op.Verb) -> None:
    enqueue(queue, A)
    queue.claim()
    queue.settle(A, verb, job=again(A, attempt=1), delay_ms=LONG_MS)
    assert enqueue(queue, B).existing_id == "a"
    queue.check()


def test_a_key_is_held_while_a_lost_consumers_job_comes_back(queue: Driver) -> None:
    enqueue(queue, A)
    queue.claim(lease_ms=1)
    assert queue.crash().back == 1
    assert enqueue(queue, B).existing_id == "a"
    queue.check()


def test_a_late_claim_frees_no_key(queue: Driver) -> None:
    enqueue(queue, A)
    queue.claim()
    assert queue.settle(A, "done", claim=999) == ["a"]
    assert holder(queue) == b"a"


def test_every_counter_may_stand_before_the_key(queue: Driver) -> None:
    whole = job(
        "a", priority=-3, delivery=1, crashes=4, attempt=2, unknown_since=1_700_000_000_000, key="k"
    )
    enqueue(queue, whole)
    queue.claim(lease_ms=1)
    assert queue.crash(max_crashes=5).died == 1
    assert holder(queue) is None


def test_a_key_for_which_a_time_was_asked_is_held_whatever_becomes_of_its_job(
    queue: Driver,
) -> None:
    plain = job("a")
    enqueue(queue, plain, ttl_ms=LONG_MS)
    queue.claim()
    queue.settle(plain, "done")
    assert enqueue(queue, job("b")).existing_id == "a"
    assert 0 < queue.redis.pttl(queue.k.unique("k")) <= LONG_MS
    queue.redis.pexpire(queue.k.unique("k"), 1)
    wait_until(lambda: enqueue(queue, job("b")).word == "ok")


def test_a_key_has_an_end_a_week_after_its_job_is_due(queue: Driver) -> None:
    enqueue(queue, A, due=f"+{WEEK_MS}")
    left = queue.redis.pttl(queue.k.unique("k"))
    assert 2 * WEEK_MS - LONG_MS < left <= 2 * WEEK_MS


def test_one_call_frees_the_keys_of_all_jobs_that_end_in_it(queue: Driver) -> None:
    jobs = [job(f"j{n}", key=f"k{n}") for n in range(6)]
    for n, one in enumerate(jobs):
        queue.enqueue(one, unique=Unique(f"k{n}", f"j{n}", 0))
    queue.claim()
    verbs: list[op.Verb] = ["done", "retry", "dead", "release", "drop", "done"]
    outcomes = [
        queue.outcome(one, verb, job=again(one), result_ttl_ms=LONG_MS * (n % 2), result=b"x")
        for n, (one, verb) in enumerate(zip(jobs, verbs, strict=True))
    ]
    assert queue.settle_all(*outcomes) == []
    held = [n for n in range(6) if queue.redis.exists(queue.k.unique(f"k{n}"))]
    assert held == [1, 3]
    names = queue.k.history, queue.k.result
    told = [name(f"j{n}") for name in names for n in range(6)]
    there = [key for key in told if queue.redis.exists(key)]
    assert there == ["queue:history:j1", "queue:result:j3", "queue:result:j5"]
    queue.check()


HEAD = (
    scripts.script("reclaim").source.partition("local pending")[0] + "return key_of(ARGV[1]) or ''"
)
READ_KEY = Script("key", HEAD, sha1(HEAD.encode(), usedforsecurity=False).hexdigest())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs)
def test_the_scripts_read_the_key_that_a_consumer_reads(queue: Driver, job: bytes) -> None:
    read = Operation("key", READ_KEY, (), (job,), parse=lambda raw: raw.decode())
    parts = wire.split(job)
    assert parts is not None
    assert queue.store.run(read) == parts[0].key
