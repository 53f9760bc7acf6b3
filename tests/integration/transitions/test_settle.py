"""Settle ends claims: under the current token alone, and all or nothing for each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from headrace import operations as op
from headrace.errors import StoreRefused
from headrace.operations import Verb
from tests.integration.transitions.driver import LONG_MS, OTHER, Driver, again, job
from tests.integration.transitions.strategies import jobs

A, B, C = job("a"), job("b"), job("c")
RETRIED = job("a", attempt=1, delivery=1)
LETTER = job("a", b',"task":"t","error":{"reason":"rejected"}}')

# Each verb, with what it needs and the place where the job is then.
VERBS: dict[Verb, tuple[dict[str, Any], str | None]] = {
    "done": ({}, None),
    "drop": ({}, None),
    "cancel": ({}, None),
    "retry": ({"job": RETRIED}, "pending"),
    "park": ({"job": RETRIED, "delay_ms": LONG_MS}, "delayed"),
    "release": ({}, "pending"),
    "dead": ({"job": LETTER}, "dead"),
}
each_verb = pytest.mark.parametrize("verb", VERBS)


class TestVerbs:
    @each_verb
    def test_the_job_is_then_in_its_one_place_and_counted(self, queue: Driver, verb: Verb) -> None:
        fields, place = VERBS[verb]
        queue.hold(A)
        assert queue.settle(A, verb, **fields) == []
        state = queue.check()
        assert {name: len(jobs) for name, jobs in state.places.items() if jobs} == (
            {place: 1} if place else {}
        )
        assert (state.leases, state.claims) == ({}, {})
        assert state.counters == {"enqueued": 1, verb: 1}

    def test_a_retry_without_delay_goes_behind_the_others(self, queue: Driver) -> None:
        queue.hold(A)
        queue.enqueue(B)
        queue.settle(A, "retry", job=RETRIED)
        assert queue.claim() == [B, RETRIED]

    def test_what_a_body_says_of_a_priority_is_no_priority(self, queue: Driver) -> None:
        body = b',"task":"t","args":[{"a":1,"priority":5}]}'
        queue.hold(job("a", body))
        retried = job("a", body, attempt=1, delivery=1)
        queue.settle(job("a", body), "retry", job=retried)
        state = queue.check()
        assert (state.pending, state.priority) == ([retried], [])

    def test_a_delayed_retry_counts_from_redis_own_clock(self, queue: Driver) -> None:
        queue.hold(A)
        before = queue.now_ms()
        queue.settle(A, "retry", delay_ms=5_000, job=RETRIED)
        [(delayed, due_ms)] = queue.check().delayed
        assert delayed == RETRIED
        assert before + 5_000 <= due_ms <= queue.now_ms() + 5_001

    def test_a_delayed_retry_is_due_no_part_of_a_millisecond_early(self, queue: Driver) -> None:
        for n in range(20):  # most are settled in the millisecond in which the clock is read
            held = job(f"m{n}")
            queue.hold(held)
            seconds, us = queue.redis.time()
            retried = job(f"m{n}", attempt=1, delivery=1)
            queue.settle(held, "retry", delay_ms=LONG_MS, job=retried)
            due_ms = queue.redis.zscore(queue.k.delayed, retried)
            assert due_ms is not None
            assert due_ms * 1_000 >= seconds * 1_000_000 + us + LONG_MS * 1_000

    def test_a_released_job_goes_to_the_front(self, queue: Driver) -> None:
        queue.hold(A)
        queue.enqueue(B)
        queue.settle(A, "release")
        assert queue.claim() == [again(A), B]

    def test_jobs_released_newest_first_keep_their_order(self, queue: Driver) -> None:
        queue.hold(A, B, C)
        queue.settle_all(*(queue.outcome(held, "release") for held in (C, B, A)))
        assert queue.claim() == [again(A), again(B), again(C)]

    def test_a_prioritised_job_goes_back_to_its_priority_with_a_nudge(self, queue: Driver) -> None:
        prioritised = job("p", priority=5)
        for verb, fields in (("release", {}), ("retry", {"job": job("p", priority=5, attempt=1)})):
            queue.hold(prioritised)
            queue.settle(prioritised, verb, **fields)  # type: ignore[arg-type]
            state = queue.check()
            assert (len(state.priority), state.nudges) == (1, 1)
            [prioritised] = queue.claim()
            queue.settle(prioritised, "done")

    def test_a_letter_stands_before_older_ones_with_its_exact_bytes(self, queue: Driver) -> None:
        queue.hold(A, B)
        queue.settle(B, "dead", job=b"\x00\xff no JSON")
        queue.settle(A, "dead", job=LETTER)
        assert queue.check().dead == [LETTER, b"\x00\xff no JSON"]

    def test_equal_bytes_of_a_priority_give_way_to_a_new_id_too(self, queue: Driver) -> None:
        prioritised, retried = job("p", priority=5), job("p", priority=5, attempt=1, delivery=1)
        queue.enqueue(retried)
        queue.push(prioritised)
        assert queue.claim(1) == [retried]
        queue.settle(retried, "drop")
        queue.enqueue(retried)
        queue.redis.rpoplpush(queue.k.pending, queue.k.processing)
        assert queue.adopt(prioritised, prioritised) == "ok"
        assert queue.settle(prioritised, "retry", job=retried) == []
        twin = job("p.1", priority=5, attempt=1, delivery=1)
        assert queue.check().places["priority"] == [retried, twin]

    def test_equal_bytes_that_wait_already_give_way_to_a_new_id(self, queue: Driver) -> None:
        queue.enqueue(RETRIED, due="+60000")
        queue.hold(A)
        queue.settle(A, "retry", delay_ms=LONG_MS, job=RETRIED)
        assert queue.check().places["delayed"] == [RETRIED, job("a.1", attempt=1, delivery=1)]


class TestToken:
    @each_verb
    def test_a_stale_token_settles_nothing(self, queue: Driver, verb: Verb) -> None:
        fields, _ = VERBS[verb]
        queue.hold(A)
        before = queue.state()
        stale = queue.outcome(A, verb, claim=99, result_ttl_ms=LONG_MS, result=b"1", **fields)
        assert queue.settle_all(stale) == ["a"]
        assert queue.settle(A, verb, consumer=OTHER, **fields) == ["a"]
        assert queue.state() == before
        assert queue.check().counters["lost"] == 2
        assert not queue.redis.exists(queue.k.result("a"), queue.k.history("a"))

    @each_verb
    def test_an_older_claim_of_the_same_consumer_settles_nothing(
        self, queue: Driver, verb: Verb
    ) -> None:
        fields, _ = VERBS[verb]
        queue.hold(A)
        first = queue.numbers["a"]
        queue.settle(A, "release")
        [newer] = queue.claim()
        before = queue.state()
        assert queue.settle(newer, verb, claim=first, **fields) == ["a"]
        assert queue.state() == before
        assert queue.settle(newer, "done") == []
        queue.check()

    def test_a_consumer_whose_name_begins_alike_is_another(self, queue: Driver) -> None:
        queue.hold(A, consumer="host-1")
        assert queue.settle(A, "done", consumer="host") == ["a"]
        queue.check()

    @each_verb
    def test_the_sweeps_lease_is_nobodys_to_settle(self, queue: Driver, verb: Verb) -> None:
        queue.move_bare(A)
        queue.sweep()
        assert queue.settle(A, verb, consumer="-", claim=1, **VERBS[verb][0]) == ["a"]
        assert queue.check().claims == {"a": ("-", A)}

    def test_a_lease_that_is_past_may_still_be_settled(self, queue: Driver) -> None:
        queue.hold(A, lease_ms=1)
        queue.expire()
        assert queue.settle(A, "done") == []
        queue.check()

    @each_verb
    def test_a_reclaimed_claim_settles_nothing(self, queue: Driver, verb: Verb) -> None:
        queue.hold(A, lease_ms=1)
        assert queue.crash().back == 1
        before = queue.state()
        assert queue.settle(A, verb, **VERBS[verb][0]) == ["a"]
        assert queue.state() == before


class TestRepeated:
    @each_verb
    def test_it_changes_nothing(self, queue: Driver, verb: Verb) -> None:
        fields, _ = VERBS[verb]
        queue.hold(A)
        once = queue.outcome(A, verb, result_ttl_ms=LONG_MS, result=b"1", **fields)
        assert queue.settle_all(once) == []
        before = queue.state()
        assert queue.settle_all(once) == ["a"]
        assert queue.state() == before
        told = queue.k.history("a") if verb == "retry" else queue.k.result("a")
        assert queue.redis.lrange(told, 0, -1) == [b"1"]
        queue.check()

    def test_an_id_twice_in_a_call_counts_once(self, queue: Driver) -> None:
        queue.hold(A)
        answer = queue.settle_all(
            queue.outcome(A, "retry", job=RETRIED), queue.outcome(A, "dead", job=LETTER)
        )
        assert answer == ["a"]
        assert queue.check().places["pending"] == [RETRIED]

    def test_a_former_claim_of_the_same_job_in_the_call_keeps_the_current_one_from_nothing(
        self, queue: Driver
    ) -> None:
        """The laboratory found it: both were told together, and what was done ran once more."""
        queue.hold(A)
        current = queue.numbers["a"]
        answer = queue.settle_all(
            queue.outcome(A, "release", claim=current + 1), queue.outcome(A, "done")
        )
        assert answer == ["a"]
        state = queue.check()
        assert not (state.pending or state.processing or state.claims)
        assert state.counters == {"enqueued": 1, "done": 1, "lost": 1}


class TestGone:
    @each_verb
    def test_an_item_that_a_plain_lrem_took_is_lost_and_not_resurrected(
        self, queue: Driver, verb: Verb
    ) -> None:
        queue.hold(A, B)
        queue.remove(A)
        assert queue.settle(A, verb, **VERBS[verb][0]) == ["a"]
        state = queue.check()
        assert (state.processing, set(state.leases)) == ([B], {"b"})
        assert not (state.pending or state.delayed or state.dead)

    def test_what_stands_where_its_result_would_is_left_alone(self, queue: Driver) -> None:
        queue.hold(A)
        queue.remove(A)
        queue.redis.set(queue.k.result("a"), "a")
        assert queue.settle(A, "done", result_ttl_ms=LONG_MS, result=b"1") == ["a"]
        assert queue.redis.get(queue.k.result("a")) == b"a"

    def test_the_others_of_the_call_end_all_the_same(self, queue: Driver) -> None:
        queue.hold(A, B, C)
        queue.remove(B)
        outcomes = [queue.outcome(held, "done") for held in (A, B, C)]
        assert queue.settle_all(*outcomes) == ["b"]
        assert queue.check().counters["done"] == 2


class TestBatch:
    def test_many_outcomes_end_in_one_call(self, queue: Driver) -> None:
        held = queue.hold(*map(job, "abcdefg"))
        outcomes = [
            queue.outcome(one, verb, **(fields | ({"job": one} if "job" in fields else {})))
            for one, (verb, (fields, _)) in zip(held, VERBS.items(), strict=True)
        ]
        assert queue.settle_all(*outcomes) == []
        state = queue.check()
        assert state.counters == {"enqueued": 7} | dict.fromkeys(VERBS, 1)

    def test_a_thousand_outcomes_fit_in_a_call(self, queue: Driver) -> None:
        held = queue.hold(*(job(f"{i:04}") for i in range(1_000)))
        assert queue.settle_all(*(queue.outcome(one, "done") for one in held)) == []
        assert queue.check().counters["done"] == 1_000

    def test_a_negative_claim_number_looks_from_the_old_end(self, queue: Driver) -> None:
        queue.hold(A, B, C)
        old = queue.outcome(A, "retry", claim=-queue.numbers["a"], job=RETRIED)
        assert queue.settle_all(old, queue.outcome(B, "done", claim=-queue.numbers["b"])) == []
        assert queue.check().processing == [C]

    def test_results_belong_to_the_outcomes_that_have_one(self, queue: Driver) -> None:
        queue.hold(A, B, C)
        keep = {"result_ttl_ms": LONG_MS}
        queue.settle_all(
            queue.outcome(A, "done", claim=99, result=b"stale", **keep),
            queue.outcome(B, "done"),
            queue.outcome(C, "done", result=b"\x00three", **keep),
        )
        assert queue.redis.lrange(queue.k.result("c"), 0, -1) == [b"\x00three"]
        assert 0 < queue.redis.pttl(queue.k.result("c")) <= LONG_MS
        assert not queue.redis.exists(queue.k.result("a"), queue.k.result("b"))
        queue.check()

    def test_a_newer_result_takes_the_place_of_an_older_one(self, queue: Driver) -> None:
        for result in (b"1", b"2"):
            queue.hold(A)
            queue.settle(A, "done", result_ttl_ms=LONG_MS, result=result)
        assert queue.redis.lrange(queue.k.result("a"), 0, -1) == [b"2"]

    def test_one_that_ends_at_once_leaves_no_older_one_behind(self, queue: Driver) -> None:
        for result, ttl_ms in ((b"1", LONG_MS), (b"2", 1)):
            queue.hold(A)
            queue.settle(A, "done", result_ttl_ms=ttl_ms, result=result)
        assert queue.redis.lrange(queue.k.result("a"), 0, -1) in ([], [b"2"])

    def test_a_result_that_ends_at_once_takes_no_other_ones_place(self, queue: Driver) -> None:
        queue.hold(A, B)
        queue.settle_all(
            queue.outcome(A, "done", result_ttl_ms=1, result=b"short"),
            queue.outcome(B, "done", result_ttl_ms=LONG_MS, result=b"long"),
        )
        assert queue.redis.lrange(queue.k.result("b"), 0, -1) == [b"long"]


class TestTriedAgain:
    """A run of a job whose result is kept is told beside that, in the step that has it tried again."""

    def test_its_runs_stand_in_their_order_and_nobody_hears_that_it_has_ended(
        self, queue: Driver
    ) -> None:
        queue.enqueue(A)
        for told in (b"1", b"2"):
            [held] = queue.claim()
            queue.settle(held, "retry", job=again(held), result_ttl_ms=LONG_MS, result=told)
        assert queue.redis.lrange(queue.k.history("a"), 0, -1) == [b"1", b"2"]
        assert 0 < queue.redis.pttl(queue.k.history("a")) <= LONG_MS
        assert not queue.redis.exists(queue.k.result("a"))
        [held] = queue.claim()
        assert held == job("a", delivery=2)
        queue.settle(held, "done", result_ttl_ms=LONG_MS, result=b"end")
        assert queue.redis.lrange(queue.k.history("a"), 0, -1) == [b"1", b"2"]
        assert queue.redis.lrange(queue.k.result("a"), 0, -1) == [b"end"]

    def test_the_last_nine_stay(self, queue: Driver) -> None:
        queue.enqueue(A)
        for n in range(12):
            [held] = queue.claim()
            told = b"%d" % n
            queue.settle(held, "retry", job=again(held), result_ttl_ms=LONG_MS, result=told)
        kept = [b"%d" % n for n in range(3, 12)]
        assert queue.redis.lrange(queue.k.history("a"), 0, -1) == kept

    def test_what_somebody_else_keeps_there_holds_no_job_up(self, queue: Driver) -> None:
        queue.redis.set(queue.k.history("a"), "mine")
        queue.hold(A)
        assert not queue.settle(A, "retry", job=RETRIED, result_ttl_ms=LONG_MS, result=b"1")
        assert queue.check().places["pending"] == [RETRIED]
        assert queue.redis.lrange(queue.k.history("a"), 0, -1) == [b"1"]

    def test_results_of_others_in_the_call_stay_theirs(self, queue: Driver) -> None:
        queue.hold(A, B)
        keep = {"result_ttl_ms": LONG_MS}
        queue.settle_all(
            queue.outcome(A, "retry", job=RETRIED, result=b"run", **keep),
            queue.outcome(B, "done", result=b"end", **keep),
        )
        assert queue.redis.lrange(queue.k.history("a"), 0, -1) == [b"run"]
        assert queue.redis.lrange(queue.k.result("b"), 0, -1) == [b"end"]
        assert not queue.redis.exists(queue.k.result("a"), queue.k.history("b"))


class TestCancelled:
    @pytest.mark.parametrize("verb", ["retry", "park", "release"])
    def test_a_job_that_should_stop_does_not_run_again(self, queue: Driver, verb: Verb) -> None:
        queue.hold(A)
        assert queue.cancel(A) == "requested"
        assert queue.settle(A, verb, **VERBS[verb][0]) == []
        state = queue.check()
        assert not any(state.places.values())
        assert state.counters == {"enqueued": 1, "cancel": 1}

    @pytest.mark.parametrize("verb", ["done", "drop", "dead"])
    def test_a_job_that_ended_by_itself_needs_no_cancelling_any_more(
        self, queue: Driver, verb: Verb
    ) -> None:
        queue.hold(A)
        queue.cancel(A)
        assert queue.settle(A, verb, **VERBS[verb][0]) == []
        assert queue.check().counters == {"enqueued": 1, verb: 1}
        assert queue.redis.zcard(queue.k.cancelled) == 0


class TestWrongType:
    """Lua has no rollback: what cannot be written has to fail before anything is."""

    @pytest.mark.parametrize(
        ("place", "verb"),
        [("dead", "dead"), ("pending", "release"), ("delayed", "park"), ("pending", "retry")],
    )
    def test_nothing_is_lost(self, queue: Driver, place: str, verb: Verb) -> None:
        queue.hold(A, B)
        key = getattr(queue.k, place)
        queue.redis.set(key, "wrong")
        outcomes = [queue.outcome(B, "done"), queue.outcome(A, verb, **VERBS[verb][0])]
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.settle_all(*outcomes)
        queue.redis.delete(key)
        state = queue.check()
        assert (state.processing, set(state.leases)) == ([B, A], {"a", "b"})
        assert queue.settle_all(*outcomes) == []
        assert not queue.check().processing

    @pytest.mark.parametrize("place", ["leases", "claims", "stats", "cancelled", "processing"])
    @pytest.mark.parametrize("verb", ["done", "release"])
    def test_nothing_is_written_beside_what_cannot_be(
        self, queue: Driver, place: str, verb: Verb
    ) -> None:
        queue.hold(A, B)
        key, kept = getattr(queue.k, place), f"{queue.k.queue}:kept"
        if queue.redis.exists(key):
            queue.redis.rename(key, kept)
        queue.redis.set(key, "wrong")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.settle_all(queue.outcome(B, verb), queue.outcome(A, verb))
        queue.redis.delete(key)
        if queue.redis.exists(kept):
            queue.redis.rename(kept, key)
        state = queue.check()
        assert (state.pending, state.processing) == ([], [B, A])
        assert state.claims.keys() == {"a", "b"}

    @pytest.mark.parametrize("verb", ["done", "drop", "cancel"])
    @pytest.mark.parametrize("place", ["dead", "priority", "delayed", "nudge"])
    def test_a_job_that_goes_nowhere_needs_no_place(
        self, queue: Driver, place: str, verb: Verb
    ) -> None:
        queue.hold(A)
        key = getattr(queue.k, place)
        queue.redis.set(key, "wrong")
        assert queue.settle(A, verb) == []
        queue.redis.delete(key)
        assert not queue.check().processing

    @pytest.mark.parametrize("place", ["priority", "nudge"])
    def test_nothing_prioritised_is_lost(self, queue: Driver, place: str) -> None:
        prioritised = job("p", priority=1)
        queue.hold(prioritised)
        key = getattr(queue.k, place)
        queue.redis.set(key, "wrong")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            queue.settle(prioritised, "release")
        queue.redis.delete(key)
        assert queue.check().processing == [prioritised]


class TestWrongArguments:
    """A consumer never sends them; of whoever does, nothing is done by half."""

    RIGHT = ("a", "1", "done", "0", b"", "0", b"")
    BEYOND = str(2**53 + 2)

    @pytest.mark.parametrize(
        "wrong",
        [
            ("b", "2", "XX", "0", b"", "0", b""),
            ("b", "2", "", "0", b"", "0", b""),
            *(("b", n, "done", "0", b"", "0", b"") for n in ("1.5", BEYOND, "nan", "inf", "x")),
            *(("b", "2", "park", n, b"", "0", b"") for n in ("0.5", BEYOND, "nan", "inf", "x")),
            *(("b", "2", "done", "0", b"", n, b"") for n in ("0.5", BEYOND, "nan", "inf", "x")),
            ("b", "2", "done", "0", b"", "0"),
            ("b", "2", "done", "0", b""),
            ("b",),
        ],
    )
    def test_nothing_is_settled(self, queue: Driver, wrong: tuple[str | bytes, ...]) -> None:
        queue.hold(A, B)
        before = queue.state()
        with pytest.raises(StoreRefused):
            queue.raw(op.settle(queue.k, "me", []), "me", *self.RIGHT, *wrong)
        assert queue.state() == before
        queue.check()

    def test_the_error_names_the_place(self, queue: Driver) -> None:
        queue.hold(A, B)
        wrong = ("b", "2", "XX", "0", b"", "0", b"")
        with pytest.raises(StoreRefused, match=r"\bno outcome at 9\b"):
            queue.raw(op.settle(queue.k, "me", []), "me", *self.RIGHT, *wrong)

    def test_a_delay_may_be_as_long_as_numbers_are_whole(self, queue: Driver) -> None:
        queue.hold(A)
        assert queue.settle(A, "park", delay_ms=2**53 - 1, job=RETRIED) == []
        assert queue.check().places["delayed"] == [RETRIED]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(jobs)
def test_a_released_job_is_what_the_wire_says(queue: Driver, released: bytes) -> None:
    queue.redis.flushall()
    queue.push(released)
    queue.claim()
    assert queue.settle(released, "release") == []
    assert queue.claim() == [again(released)]


def test_a_bare_job_has_no_id_to_settle(queue: Driver) -> None:
    queue.move_bare(b"bare")
    queue.sweep()
    [name] = queue.check().claims
    assert queue.settle_all(op.Outcome(name, 1, "done")) == [name]
    assert queue.check().claims.keys() == {name}
