"""A job that takes the place of an earlier one with its key, or puts it off: one script, whatever that one does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace import operations as op
from headrace import unique
from headrace.errors import StoreRefused
from headrace.operations import Operation
from headrace.producer import Call
from headrace.unique import Look, searched
from tests.integration.transitions.driver import LONG_MS, ME, Driver, again, id_of, job

A, B, C = job("a", key="k"), job("b", key="k"), job("c", key="k")
LATER = "+60000"


def request(
    queue: Driver, new: bytes, mode: str, due: str, bound: int = 0
) -> Operation[op.Enqueued]:
    call = Call[None](queue.k.queue, id_of(new), new, due, key="k", if_exists=mode)
    return unique.replace(queue.k, call, bound)


def come(
    queue: Driver, new: bytes, mode: str = "replace", due: str = "", bound: int = 0
) -> op.Enqueued:
    """Let a job come in, as a producer does."""
    answers = [queue.store.run(request(queue, new, mode, due, bound))]
    answer: op.Enqueued
    (answer,) = queue.store.follow(unique.looked(answers, ()))
    return answer


def holder(queue: Driver) -> str:
    """Give the id of the job that has the key; "" if nobody has it."""
    found = queue.redis.get(queue.k.unique("k")) or b""
    assert isinstance(found, bytes)
    return found.partition(b" ")[0].decode()


def waiting(queue: Driver) -> list[bytes]:
    state = queue.check()
    return [*state.pending, *state.places["priority"], *state.places["delayed"]]


# — it waits —


def test_without_an_earlier_job_it_comes_in(queue: Driver) -> None:
    assert come(queue, A) == op.Enqueued("ok")
    assert (waiting(queue), holder(queue)) == ([A], "a")


@pytest.mark.parametrize("due", ["", LATER])
@pytest.mark.parametrize("old", [A, job("a", priority=5, key="k")], ids=["plain", "prioritised"])
def test_one_that_waits_is_taken_out_and_counts_as_cancelled(
    queue: Driver, old: bytes, due: str
) -> None:
    come(queue, old, due=due)
    assert come(queue, B) == op.Enqueued("ok")
    assert (waiting(queue), holder(queue)) == ([B], "b")
    counters = queue.check().counters
    assert (counters["enqueued"], counters["cancel"], counters["replaced"]) == (2, 1, 1)
    assert queue.find(A).word == "cancelled"


def test_one_that_a_plain_key_brought_is_found_and_taken_out(queue: Driver) -> None:
    queue.enqueue(A, due=LATER, unique=op.Unique("k", "a", 0))
    assert come(queue, B).word == "ok"
    assert waiting(queue) == [B]


def test_one_that_waits_to_be_tried_again_is_found_and_taken_out(queue: Driver) -> None:
    come(queue, A)
    queue.claim()
    queue.settle(A, "retry", job=again(A, attempt=1), delay_ms=LONG_MS)
    assert come(queue, B).word == "ok"
    assert (waiting(queue), holder(queue)) == ([B], "b")


def test_a_replaced_job_lets_another_in_where_the_queue_is_full(queue: Driver) -> None:
    come(queue, A)
    assert come(queue, B, bound=1).word == "ok"
    queue.redis.delete(queue.k.unique("k"))
    assert come(queue, C, bound=1) == op.Enqueued("full", waiting=1)
    assert (waiting(queue), holder(queue)) == ([B], "")


# — it has begun —


def claimed(queue: Driver) -> None:
    queue.claim()


def bare(queue: Driver) -> None:
    queue.move()


def leased_by_the_sweep(queue: Driver) -> None:
    queue.move()
    queue.sweep()


@pytest.mark.parametrize("mode", ["replace", "debounce"])
@pytest.mark.parametrize("begin", [claimed, bare, leased_by_the_sweep], ids=lambda f: f.__name__)
def test_one_that_has_begun_goes_on_and_the_new_one_has_the_key(
    queue: Driver, begin: Callable[[Driver], None], mode: str
) -> None:
    come(queue, A)
    begin(queue)
    assert come(queue, B, mode, LATER) == op.Enqueued("ok")
    assert holder(queue) == "b"
    if begin is not claimed:
        assert queue.adopt(A, A) == "ok"
    assert queue.settle(A, "done") == []
    assert (waiting(queue), holder(queue)) == ([B], "b")


def test_a_key_that_a_plain_client_left_behind_is_free(queue: Driver) -> None:
    come(queue, A)
    queue.remove(queue.move())
    assert come(queue, B).word == "ok"
    assert (waiting(queue), holder(queue)) == ([B], "b")


def test_one_that_begins_while_it_is_looked_for_goes_on(queue: Driver) -> None:
    queue.enqueue(A, unique=op.Unique("k", "a", 0))
    answer = queue.store.run(request(queue, B, "replace", ""))
    assert isinstance(answer, Look)
    request_again = queue.store.follow(searched(answer))
    queue.claim()
    assert queue.store.run(request_again) == op.Enqueued("ok")
    assert (waiting(queue), queue.check().processing) == ([B], [A])


def test_one_that_ends_while_it_is_looked_for_changes_nothing(queue: Driver) -> None:
    queue.enqueue(A, unique=op.Unique("k", "a", 0))
    answer = queue.store.run(request(queue, B, "replace", ""))
    assert isinstance(answer, Look)
    request_again = queue.store.follow(searched(answer))
    queue.claim()
    queue.settle(A, "done")
    come(queue, C)
    second = queue.store.run(request_again)
    assert second == op.Enqueued("ok")  # c waits under the bytes that stand at the key
    assert (waiting(queue), holder(queue)) == ([B], "b")


# — debounce —


def due_in_ms(queue: Driver) -> float:
    ((_, score),) = queue.check().delayed
    return score - queue.now_ms()


def test_one_that_is_delayed_is_put_off(queue: Driver) -> None:
    come(queue, A, "debounce", LATER)
    assert come(queue, B, "debounce", "+600000") == op.Enqueued("exists", existing_id="a")
    assert due_in_ms(queue) > 2 * LONG_MS
    assert (waiting(queue), holder(queue)) == ([A], "a")
    assert queue.check().counters["enqueued"] == 1
    assert queue.redis.pttl(queue.k.unique("k")) > 7 * 86_400_000 + 2 * LONG_MS


def test_one_that_waits_to_be_tried_again_is_put_off_too(queue: Driver) -> None:
    come(queue, A, "debounce", "+1")
    queue.until(queue.now_ms() + 3)
    queue.promote()
    queue.claim()
    queue.settle(A, "retry", job=again(A, attempt=1), delay_ms=LONG_MS)
    assert come(queue, B, "debounce", "+600000").existing_id == "a"
    assert waiting(queue) == [again(A, attempt=1)]
    assert due_in_ms(queue) > 2 * LONG_MS


@pytest.mark.parametrize("old", [A, job("a", priority=5, key="k")], ids=["plain", "prioritised"])
def test_one_that_is_due_stays_where_it_is(queue: Driver, old: bytes) -> None:
    come(queue, old)
    assert come(queue, B, "debounce", LATER).existing_id == "a"
    assert waiting(queue) == [old]


def test_one_may_be_put_off_to_an_instant_that_is_past(queue: Driver) -> None:
    come(queue, A, "debounce", LATER)
    assert come(queue, B, "debounce", "@1").existing_id == "a"
    assert queue.promote().moved == 1
    assert waiting(queue) == [A]


# — again, and refused —


@pytest.mark.parametrize("mode", ["replace", "debounce"])
def test_asked_again_after_a_lost_reply_nothing_changes(queue: Driver, mode: str) -> None:
    come(queue, A, mode, LATER)
    before = queue.state()
    assert come(queue, A, mode, LATER).existing_id == "a"
    assert queue.state() == before


@pytest.mark.parametrize("lock", ["pending", "delayed", "claims", "cancelled", "stats", "unique"])
def test_a_key_of_a_wrong_type_fails_before_anything_is_written(queue: Driver, lock: str) -> None:
    if lock != "unique":
        come(queue, A, due="" if lock == "delayed" else LATER)
    key = queue.k.unique("k") if lock == "unique" else str(getattr(queue.k, lock))
    kept = queue.redis.dump(key) if queue.redis.exists(key) else None
    queue.redis.delete(key)
    queue.redis.sadd(key, "x")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        come(queue, B)
    queue.redis.delete(key)
    if kept is not None:
        queue.redis.restore(key, 0, kept)
    assert B not in waiting(queue)


def test_a_full_redis_refuses_it_and_keeps_the_earlier_one(queue: Driver) -> None:
    come(queue, A)
    queue.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreRefused):
            come(queue, B)
    finally:
        queue.redis.config_set("maxmemory", 0)
    assert (waiting(queue), holder(queue)) == ([A], "a")


def test_an_unknown_mode_or_foreign_bytes_are_an_error(queue: Driver) -> None:
    come(queue, A)
    with pytest.raises(StoreRefused, match="no such mode"):
        come(queue, B, "keep")
    strange = Call[None](queue.k.queue, "x", B, key="k", if_exists="replace")
    with pytest.raises(StoreRefused, match="not the id"):
        queue.store.run(unique.replace(queue.k, strange, 0))
    assert waiting(queue) == [A]


# — a key that is free when its job begins —


def adopt(
    queue: Driver, moved: bytes, job: bytes, token: str, lease_ms: int = LONG_MS
) -> op.AdoptAnswer:
    request = op.adopt(
        queue.k,
        token=token,
        lease_ms=lease_ms,
        moved=moved,
        job_id=id_of(job),
        job=job,
        begun=False,
        key="k",
    )
    return queue.store.run(request)


@pytest.mark.parametrize("begin", [claimed, bare], ids=lambda f: f.__name__)
def test_an_adoption_frees_the_key_and_takes_it_out_of_the_job(
    queue: Driver, begin: Callable[[Driver], None]
) -> None:
    queue.enqueue(A, unique=op.Unique("k", "a", 0))
    begin(queue)
    assert adopt(queue, A, job("a"), f"{ME}:1") == "ok"
    assert (queue.check().processing, holder(queue)) == ([job("a")], "")
    queue.enqueue(B, unique=op.Unique("k", "b", 0))
    assert adopt(queue, A, job("a"), f"{ME}:1") == "ok"  # its answer was lost: it is sent again
    assert holder(queue) == "b"
    queue.numbers["a"] = 1
    assert queue.settle(job("a"), "done") == []
    assert (waiting(queue), holder(queue)) == ([B], "b")


def test_a_consumer_that_dies_before_its_job_begins_leaves_the_key_to_it(queue: Driver) -> None:
    queue.enqueue(A, unique=op.Unique("k", "a", 0))
    queue.claim(lease_ms=1)
    queue.crash()
    assert (waiting(queue), holder(queue)) == ([again(A, crashes=1)], "a")


def test_a_consumer_that_dies_after_its_job_has_begun_leaves_the_key_to_the_next(
    queue: Driver,
) -> None:
    queue.enqueue(A, unique=op.Unique("k", "a", 0))
    queue.claim()
    adopt(queue, A, job("a"), f"{ME}:1", lease_ms=1)
    come(queue, B)
    queue.crash()
    assert (waiting(queue), holder(queue)) == ([again(job("a"), crashes=1), B], "b")


@pytest.mark.parametrize("end", ["done", "dead"])
def test_a_replaceable_job_frees_its_key_when_it_ends(queue: Driver, end: op.Verb) -> None:
    come(queue, A)
    queue.claim()
    queue.settle(A, end, job=A)
    assert holder(queue) == ""
    queue.check()


def test_a_plain_key_answers_with_the_id_of_a_replaceable_job(queue: Driver) -> None:
    come(queue, A)
    answer = queue.enqueue(B, unique=op.Unique("k", "b", 0))
    assert answer == op.Enqueued("exists", existing_id="a")
