"""How a claim ends: from what a run gave, and the task's options, to an outcome."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from headrace import Headrace, InvalidArguments, InvalidJob, Reject, Retry, results, wire
from headrace.clock import now_ms
from headrace.consumer import outcomes
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.outcomes import OutcomePolicy, ProcessDied
from headrace.consumer.run import failure, success
from headrace.context import StopReason
from headrace.errors import JobStopped
from headrace.keys import keys_of
from headrace.operations import Outcome
from headrace.retry import Backoff
from headrace.wire import Error, Head
from headrace.workflows.commit import Commit
from headrace.workflows.member import Failed, Member, read_failure

K = keys_of("queue")
DAY_MS = 86_400_000
PLAIN = b',"task":"plain"}'
THREE_CENTURIES_MS = 10_000_000_000_000

app = Headrace("redis://127.0.0.1:1")
steady = Backoff(base_s=10, factor=3, max_s=1_000)


@app.task(backoff=steady)
def plain() -> None: ...


@app.task(backoff=steady, result_ttl=60)
def kept() -> None: ...


@app.task(dead_letter=False, max_attempts=1, result_ttl=60)
def dropped() -> None: ...


@app.task(drop_expired=True)
def fleeting() -> None: ...


@app.task(retry_on=ValueError, give_up_on=UnicodeError)
def choosy() -> None: ...


@app.task(backoff=Backoff(base_s=1e300, max_s=1e300, jitter=False))
def patient() -> None: ...


class Own(Backoff):
    """A backoff of the application's own; tests let it answer what they like."""

    answer: Any = 0

    def delay_s(self, failures: int, uniform: Callable[[], float] = random.random) -> float:
        return Own.answer  # type: ignore[no-any-return]


@app.task(backoff=Own())
def odd() -> None: ...


def policy(**options: Any) -> OutcomePolicy:
    return OutcomePolicy("host-1-x", DAY_MS, **({"uniform": lambda: 0.5} | options))


def claimed(task: str = "plain", more: bytes = b"", **head: Any) -> ClaimedJob:
    raw = wire.join(Head("a", **head), b',"task":"%b"%b}' % (task.encode(), more))
    return read(raw, K, 7, tasks=app.tasks, leased_until=0.0, moved=False)


def stopped(why: StopReason, task: str = "plain") -> ClaimedJob:
    job = claimed(task)
    assert job.context is not None
    job.context.stop_reason = why
    return job


def failed(job: ClaimedJob, error: BaseException, **options: Any) -> Outcome:
    if isinstance(error, ProcessDied):
        return outcomes.of_death(job, error, policy(**options))
    return outcomes.of_run(job, failure(job, error), policy(**options))


def letter_of(outcome: Outcome) -> tuple[Head, bytes, Error]:
    """Read a dead letter: the head, the body as it was, the error."""
    assert outcome.verb == "dead"
    parts, error = wire.split(outcome.job), wire.read_error(outcome.job)
    assert parts is not None
    assert error is not None
    return parts[0], wire.without_error(parts[1]), error


class TestDone:
    def test_a_value_that_nobody_wants_is_not_written(self) -> None:
        assert outcomes.of_run(claimed(), success(claimed(), "x"), policy()) == Outcome(
            "a", 7, "done"
        )

    def test_a_task_that_keeps_results_has_its_value_told(self) -> None:
        outcome = outcomes.of_run(claimed("kept"), success(claimed("kept"), {"x": [1]}), policy())
        assert outcome == Outcome(
            "a", 7, "done", result_ttl_ms=60_000, result=results.encode_value({"x": [1]})
        )

    @pytest.mark.parametrize(
        ("wish", "ttl_ms"),
        [(b"2.5", 2_500), (b"0", 0), (b"-1", 0), (b"1e300", THREE_CENTURIES_MS), (b"0.0004", 0)],
    )
    def test_a_jobs_own_wish_wins_within_reason(self, wish: bytes, ttl_ms: int) -> None:
        for task in ("plain", "kept"):
            job = claimed(task, b',"result_ttl":%b' % wish)
            outcome = outcomes.of_run(job, success(job, 1), policy())
            assert outcome.result_ttl_ms == ttl_ms
            assert bool(outcome.result) is bool(ttl_ms)

    def test_one_that_was_done_while_it_was_told_to_stop_is_done(self) -> None:
        assert outcomes.of_run(stopped("timeout"), b"", policy()).verb == "done"


class TestMember:
    """A job that belongs to a workflow, which is told of its end in the same step."""

    IT = Member("w", 3, ("queue",), keep=1)

    def member(self, task: str = "plain", **head: Any) -> ClaimedJob:
        field = b',"workflow":{"id":"w","n":3,"queues":["queue"],"keep":1}'
        return claimed(task, field, **head)

    def test_what_it_returned_is_told(self) -> None:
        outcome = outcomes.of_run(self.member(), success(self.member(), "x"), policy())
        assert outcome == Outcome("a", 7, "done", commit=Commit((), 3, self.IT, value=b'"x"'))

    @pytest.mark.parametrize(("task", "verb"), [("plain", "dead"), ("dropped", "drop")])
    def test_how_it_failed_is_told(self, task: str, verb: str) -> None:
        outcome = failed(self.member(task, attempt=9), ValueError("no"))
        assert outcome.verb == verb
        assert isinstance(outcome.commit, Commit)
        assert (outcome.commit.member, outcome.commit.value) == (self.IT, b"")
        failure = read_failure(outcome.commit.why)
        assert failure == Failed("max_attempts", "ValueError", "no", "w-000003", "queue")

    @pytest.mark.parametrize("stop", ["shutdown", "lost"])
    def test_one_that_is_given_back_has_not_ended(self, stop: StopReason) -> None:
        job = self.member()
        assert job.context is not None
        job.context.stop_reason = stop
        assert failed(job, JobStopped("x")).commit is None

    def test_one_that_is_tried_again_has_not_ended(self) -> None:
        assert failed(self.member(), ValueError("no")).commit is None


@pytest.mark.parametrize("task", ["plain", "kept"])
def test_a_run_that_is_over_hands_nothing_on_any_more(task: str) -> None:
    job = claimed(task)
    assert job.context is not None
    outcomes.of_run(job, b"", policy())
    with pytest.raises(InvalidJob, match="ended"):
        job.context.enqueue(app.call("plain"))


def test_one_that_its_limits_hold_back_goes_into_its_lane_in_the_same_step() -> None:
    job, lane = claimed(), Commit((), 0)
    job.unrunnable, job.hold = "no_slot", lane
    assert outcomes.of_unrunnable(job, policy()) == Outcome("a", 7, "release", commit=lane)


def test_a_task_that_drops_what_expires_drops_nothing_else() -> None:
    for unrunnable, verb in (("expired", "drop"), ("rejected", "dead")):
        job = claimed("fleeting")
        job.unrunnable = unrunnable  # type: ignore[assignment]
        assert outcomes.of_unrunnable(job, policy()).verb == verb


class TestStopped:
    @pytest.mark.parametrize("why", ["shutdown", "lost"])
    @pytest.mark.parametrize("error", [asyncio.CancelledError(), JobStopped("x")])
    def test_it_is_given_back_uncharged(self, why: StopReason, error: BaseException) -> None:
        assert failed(stopped(why, "kept"), error) == Outcome("a", 7, "release")

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), JobStopped("x")])
    def test_a_cancelled_one_is_over(self, error: BaseException) -> None:
        assert failed(stopped("cancelled"), error) == Outcome("a", 7, "cancel")
        assert failed(stopped("cancelled", "kept"), error) == Outcome(
            "a", 7, "cancel", result_ttl_ms=60_000, result=results.CANCELLED
        )

    def test_one_that_ran_out_of_time_has_failed(self) -> None:
        outcome = failed(stopped("timeout"), asyncio.CancelledError())
        assert (outcome.verb, outcome.job) == (
            "retry",
            wire.join(Head("a", attempt=1, delivery=1), PLAIN),
        )

    def test_its_last_letter_says_timeout(self) -> None:
        job = claimed(more=b',"max_attempts":1')
        assert job.context is not None
        job.context.stop_reason = "timeout"
        _, _, error = letter_of(failed(job, JobStopped("timeout")))
        assert (error.reason, error.type) == ("timeout", "TimeoutError")
        assert error.message == "the job ran out of time"

    def test_the_soft_one_is_a_bound_of_time_as_well(self) -> None:
        outcome = failed(stopped("soft_timeout"), JobStopped("soft_timeout"))
        assert outcome.verb == "retry"
        job = claimed(more=b',"max_attempts":1')
        assert job.context is not None
        job.context.stop_reason = "soft_timeout"
        _, _, error = letter_of(failed(job, JobStopped("soft_timeout")))
        assert (error.reason, error.type) == ("timeout", "TimeoutError")

    def test_its_letter_tells_where_it_was_when_its_time_was_over(self) -> None:
        job = claimed(more=b',"max_attempts":1')
        assert job.context is not None
        job.context.stop_reason = "timeout"
        try:
            raise JobStopped("timeout")
        except JobStopped as raised:
            _, _, error = letter_of(failed(job, raised))
        first, *_, last = error.traceback.splitlines()
        assert first == "Traceback (most recent call last):"
        assert 'raise JobStopped("timeout")' in error.traceback
        assert last == "TimeoutError: the job ran out of time"

    def test_its_letter_keeps_what_was_noted_of_its_thread(self) -> None:
        job = claimed(more=b',"max_attempts":1')
        assert job.context is not None
        job.context.stop_reason = "timeout"
        stop = JobStopped("timeout")
        stop.add_note("its thread is in read()")
        stop.add_note("and has been for 3 s")
        _, _, error = letter_of(failed(job, stop))
        assert error.traceback == (
            "TimeoutError: the job ran out of time\nits thread is in read()\nand has been for 3 s\n"
        )

    def test_time_runs_out_for_a_task_that_retries_on_other_errors_alone(self) -> None:
        assert failed(stopped("timeout", "choosy"), JobStopped("timeout")).verb == "retry"

    def test_what_it_raised_itself_counts_however_it_was_told_to_stop(self) -> None:
        assert failed(stopped("shutdown"), ValueError("no")).verb == "retry"
        assert failed(stopped("cancelled"), ValueError("no")).verb == "retry"

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), JobStopped("x")])
    def test_one_that_nobody_stopped_has_failed(self, error: BaseException) -> None:
        assert failed(claimed(), error).verb == "retry"


class TestFailed:
    def test_it_is_tried_again_with_one_more_attempt_and_delivery(self) -> None:
        job = claimed(more=b',"args":[1e5]', priority=3, delivery=8, crashes=2, unknown_since=5)
        outcome = failed(job, ValueError("no"))
        again = Head("a", priority=3, delivery=9, crashes=2, attempt=1)
        assert outcome.job == wire.join(again, b',"task":"plain","args":[1e5]}')
        assert (outcome.verb, outcome.job_id, outcome.claim) == ("retry", "a", 7)
        assert (outcome.result_ttl_ms, outcome.result) == (0, b"")

    @pytest.mark.parametrize(("attempt", "delay_ms"), [(0, 5_000), (1, 15_000)])
    def test_it_waits_as_its_backoff_says(self, attempt: int, delay_ms: int) -> None:
        assert failed(claimed(attempt=attempt), ValueError()).delay_ms == delay_ms

    def test_the_last_attempt_ends_in_the_dead_letters(self) -> None:
        job = claimed(more=b',"args":[1e5]', delivery=8, crashes=1, attempt=2, unknown_since=5)
        before = now_ms()
        try:
            raise ValueError("no")
        except ValueError as raised:
            outcome = failed(job, raised)
            story = "".join(traceback.format_exception(raised))
        head, body, error = letter_of(outcome)
        assert head == Head("a", delivery=9, crashes=1, attempt=3, unknown_since=5)
        assert body == b',"task":"plain","args":[1e5]}'
        assert (error.reason, error.type, error.message) == ("max_attempts", "ValueError", "no")
        assert error.consumer == "host-1-x"
        assert before <= error.failed_at <= now_ms()
        assert error.traceback == story
        assert (error.signal, error.exit_code, error.peak_mib) == ("", None, 0)
        assert (outcome.job_id, outcome.claim, outcome.delay_ms) == ("a", 7, 0)

    def test_attempts_beyond_the_bound_do_too(self) -> None:
        assert failed(claimed(attempt=50), ValueError()).verb == "dead"

    def test_the_time_of_a_letter_is_redis_own_as_far_as_it_is_known(self) -> None:
        before = now_ms()
        _, _, error = letter_of(failed(claimed(attempt=2), ValueError(), clock_ahead_ms=DAY_MS))
        assert before + DAY_MS <= error.failed_at <= now_ms() + DAY_MS

    def test_whoever_waits_is_told(self) -> None:
        outcome = failed(claimed("kept", attempt=2), ValueError("no"))
        assert outcome.result_ttl_ms == 60_000
        told = msgspec.json.decode(outcome.result, type=results.End)
        assert told.error == letter_of(outcome)[2]
        assert told.raised is not None
        assert (told.raised.name, told.raised.args) == ("ValueError", ["no"])

    def test_a_task_without_dead_letters_drops_it_and_tells_whoever_waits(self) -> None:
        outcome = failed(claimed("dropped"), ValueError("no"))
        assert (outcome.verb, outcome.job, outcome.result_ttl_ms) == ("drop", b"", 60_000)
        assert results.state_of(outcome.result) == "dead"

    def test_an_exception_that_was_not_raised_has_no_traceback(self) -> None:
        assert letter_of(failed(claimed(attempt=2), ValueError("no")))[2].traceback == ""

    def test_what_utf_8_cannot_write_is_written_all_the_same(self) -> None:
        try:
            raise OSError("a\udcffb")
        except OSError as raised:
            _, _, error = letter_of(failed(claimed(attempt=2), raised))
        assert (error.type, error.message) == ("OSError", r"a\udcffb")
        assert r"OSError: a\udcffb" in error.traceback

    def test_one_whose_text_cannot_be_read_keeps_its_name(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        _, _, error = letter_of(failed(claimed(attempt=2), Mute()))
        assert (error.type, error.message) == (
            "Mute",
            "its text could not be made: RuntimeError was raised",
        )

    def test_a_note_on_one_that_was_not_raised_is_told(self) -> None:
        error = ValueError("no")
        error.add_note("of row 7")
        told = letter_of(failed(claimed(attempt=2), error))[2]
        assert told.traceback == "ValueError: no\nof row 7\n"


class TestOwnBackoff:
    """A class of the application's own may answer anything."""

    @pytest.mark.parametrize(("delay_s", "delay_ms"), [(0, 0), (0.5, 500), ("2.5", 2_500)])
    def test_what_is_a_time_counts(
        self, monkeypatch: pytest.MonkeyPatch, delay_s: object, delay_ms: int
    ) -> None:
        monkeypatch.setattr(Own, "answer", delay_s)
        assert failed(claimed("odd"), ValueError()).delay_ms == delay_ms

    @pytest.mark.parametrize("answer", [-1, -0.001, float("nan"), -float("inf"), None, "soon"])
    def test_for_what_is_none_the_default_one_decides(
        self, monkeypatch: pytest.MonkeyPatch, answer: object
    ) -> None:
        monkeypatch.setattr(Own, "answer", answer)
        # Half of 2 s after the first failure, and of twice as much after the second.
        assert failed(claimed("odd"), ValueError()).delay_ms == 1_000
        assert failed(claimed("odd", attempt=1), ValueError()).delay_ms == 2_000
        assert failed(claimed("odd", crashes=2), ProcessDied("", 3, 0, "")).delay_ms == 4_000


class TestUnjudged:
    """Something of ours, or of the task's options, failed while a run was judged."""

    def test_its_letter_says_what_went_wrong(self) -> None:
        job = claimed(more=b',"args":[1e5]', delivery=8, crashes=1)
        outcome = outcomes.unjudged(job, ValueError("no"), policy())
        head, body, error = letter_of(outcome)
        assert (outcome.job_id, outcome.claim, outcome.delay_ms) == ("a", 7, 0)
        assert head == Head("a", delivery=9, crashes=1, attempt=1)
        assert body == b',"task":"plain","args":[1e5]}'
        assert (error.reason, error.type) == ("max_attempts", "ValueError")
        assert error.message == "the end of its run could not be judged: no"
        assert (error.consumer, error.traceback) == ("host-1-x", "")

    def test_one_whose_text_cannot_be_read_ends_all_the_same(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        _, _, error = letter_of(outcomes.unjudged(claimed(), Mute(), policy()))
        assert error.type == "Mute"
        assert error.message == (
            "the end of its run could not be judged: "
            "its text could not be made: RuntimeError was raised"
        )

    def test_a_task_without_dead_letters_drops_it_and_tells_whoever_waits(self) -> None:
        outcome = outcomes.unjudged(claimed("dropped"), ValueError("no"), policy())
        assert (outcome.verb, outcome.job, outcome.result_ttl_ms) == ("drop", b"", 60_000)
        assert results.state_of(outcome.result) == "dead"


class TestKey:
    def test_the_key_of_a_job_is_told_however_it_ends(self) -> None:
        job = claimed(key="order 7")
        assert outcomes.of_run(job, b"", policy()) == Outcome("a", 7, "done", key="order 7")
        assert failed(job, ValueError()).key == "order 7"
        assert failed(job, Reject("no")).key == "order 7"
        assert outcomes.of_unrunnable(claimed("unheard", key="order 7"), policy()).key == "order 7"

    def test_a_job_that_is_tried_again_keeps_its_key(self) -> None:
        again = Head("a", delivery=1, attempt=1, key="order 7")
        assert failed(claimed(key="order 7"), ValueError()).job == wire.join(again, PLAIN)


class TestRetryOn:
    def test_only_these_are_tried_again(self) -> None:
        assert failed(claimed("choosy"), ValueError()).verb == "retry"
        head, _, error = letter_of(failed(claimed("choosy"), KeyError("x")))
        assert (head.attempt, error.reason, error.type) == (1, "rejected", "KeyError")

    def test_what_it_gives_up_on_is_not_even_where_it_is_one_of_these(self) -> None:
        error = UnicodeDecodeError("utf-8", b"", 0, 1, "x")
        assert letter_of(failed(claimed("choosy"), error))[2].reason == "rejected"

    @pytest.mark.parametrize("task", ["plain", "choosy"])
    def test_a_reject_ends_it(self, task: str) -> None:
        assert letter_of(failed(claimed(task), Reject("no")))[2].reason == "rejected"

    def test_a_retry_is_tried_again_whatever_the_task_says(self) -> None:
        assert failed(claimed("choosy"), Retry()).verb == "retry"

    @pytest.mark.parametrize(("in_s", "delay_ms"), [(0, 0), (2.5, 2_500), (90_000, 90_000_000)])
    def test_a_retry_may_say_when(self, in_s: float, delay_ms: int) -> None:
        assert failed(claimed(), Retry(in_=in_s)).delay_ms == delay_ms

    def test_one_that_says_nothing_waits_as_the_backoff_says(self) -> None:
        assert failed(claimed(), Retry()).delay_ms == 5_000

    @pytest.mark.parametrize(
        "in_s", [-1, -0.001, float("nan"), float("inf"), -float("inf"), 1.1e10]
    )
    def test_so_does_one_that_says_what_is_no_time(self, in_s: float) -> None:
        retry = Retry()
        retry.in_s = in_s
        assert failed(claimed(), retry).delay_ms == 5_000

    def test_three_centuries_are_the_longest(self) -> None:
        assert failed(claimed(), Retry(in_=1e10)).delay_ms == THREE_CENTURIES_MS
        assert failed(claimed("patient"), ValueError()).delay_ms == THREE_CENTURIES_MS

    def test_a_retry_counts_against_the_attempts(self) -> None:
        assert letter_of(failed(claimed(attempt=2), Retry(in_=1)))[2].reason == "max_attempts"


class TestInvalidArguments:
    def test_a_call_that_does_not_fit_is_not_tried_again(self) -> None:
        error = InvalidArguments("no")
        error.__cause__ = TypeError()
        _, _, told = letter_of(failed(claimed(), error))
        assert (told.reason, told.type, told.message) == (
            *("invalid_arguments", "InvalidArguments", "no"),
        )

    def test_one_that_the_task_got_itself_is_a_failure_like_any_other(self) -> None:
        assert failed(claimed(), InvalidArguments("of another job")).verb == "retry"

    def test_a_type_error_of_the_task_is_too(self) -> None:
        error = RuntimeError()
        error.__cause__ = TypeError()
        assert failed(claimed(), error).verb == "retry"


class TestDeath:
    """The process that ran it alone died."""

    def test_how_long_it_computed_is_told_where_that_was_seen(self) -> None:
        assert ProcessDied("", 3, 0, "").cpu_s == 0.0
        assert ProcessDied("SIGXCPU", None, 0, "", 2.5).cpu_s == 2.5

    def test_it_is_charged_a_crash_and_no_attempt(self) -> None:
        job = claimed(priority=1, delivery=4, crashes=2, attempt=1, unknown_since=5)
        outcome = failed(job, ProcessDied("SIGSEGV", None, 42, "stack"))
        again = Head("a", priority=1, delivery=5, crashes=3, attempt=1)
        assert (outcome.verb, outcome.job) == ("retry", wire.join(again, PLAIN))
        assert (outcome.job_id, outcome.claim) == ("a", 7)

    def test_it_waits_as_the_backoff_says_after_so_many_crashes(self) -> None:
        died = ProcessDied("", 3, 0, "")
        assert failed(claimed(crashes=0), died).delay_ms == 5_000
        assert failed(claimed(crashes=2), died).delay_ms == 45_000

    def test_three_centuries_are_the_longest(self) -> None:
        outcome = failed(claimed("patient"), ProcessDied("", 3, 0, ""))
        assert outcome.delay_ms == THREE_CENTURIES_MS

    @pytest.mark.parametrize(("crashes", "verb"), [(1, "retry"), (2, "dead"), (3, "dead")])
    def test_too_many_end_in_the_dead_letters(self, crashes: int, verb: str) -> None:
        outcome = failed(claimed(crashes=crashes), ProcessDied("", 3, 0, ""), max_crashes=3)
        assert outcome.verb == verb

    def test_five_are_too_many(self) -> None:
        assert OutcomePolicy("c", 1).max_crashes == 5

    def test_its_letter_says_how_it_died(self) -> None:
        job = claimed(delivery=4, crashes=4, attempt=1, unknown_since=5)
        outcome = failed(job, ProcessDied("SIGSEGV", None, 42, "the stack"))
        head, body, error = letter_of(outcome)
        assert head == Head("a", delivery=5, crashes=5, attempt=1)
        assert (body, error.reason, error.type) == (PLAIN, "crashed", "ProcessDied")
        assert (error.signal, error.exit_code, error.peak_mib) == ("SIGSEGV", None, 42)
        assert error.traceback == "the stack"
        assert error.message == (
            "the process that ran it alone was ended by SIGSEGV, 42 MiB at most"
        )

    def test_an_exit_code_is_told_too(self) -> None:
        _, _, error = letter_of(failed(claimed(crashes=4), ProcessDied("", 3, 0, "")))
        assert (error.signal, error.exit_code, error.peak_mib) == ("", 3, 0)
        assert error.message == "the process that ran it alone ended with exit code 3"

    def test_a_task_without_dead_letters_drops_it(self) -> None:
        outcome = failed(claimed("dropped", crashes=4), ProcessDied("", 3, 0, ""))
        assert (outcome.verb, outcome.job, outcome.result_ttl_ms) == ("drop", b"", 60_000)


class TestUnknownTask:
    def parked(self, since_ms_ago: int | None, **options: Any) -> Outcome:
        since = now_ms() - since_ms_ago if since_ms_ago is not None else 0
        return outcomes.of_unrunnable(
            claimed("unheard", delivery=3, unknown_since=since), policy(**options)
        )

    def test_it_waits_a_second_first_and_remembers_since_when(self) -> None:
        before = now_ms()
        outcome = self.parked(None)
        assert (outcome.verb, outcome.delay_ms) == ("park", 1_000)
        assert (outcome.job_id, outcome.claim) == ("a", 7)
        parts = wire.split(outcome.job)
        assert parts is not None
        head, body = parts
        assert before <= head.unknown_since <= now_ms()
        assert (head.delivery, body) == (4, b',"task":"unheard"}')

    def test_since_when_is_told_by_redis_own_clock(self) -> None:
        before = now_ms()
        parts = wire.split(self.parked(None, clock_ahead_ms=DAY_MS).job)
        assert parts is not None
        assert before + DAY_MS <= parts[0].unknown_since <= now_ms() + DAY_MS

    @pytest.mark.parametrize(
        ("ago_ms", "least_ms"),
        [(-500, 1_000), (400, 1_000), (20_000, 20_000), (60_000, 60_000), (900_000, 60_000)],
    )
    def test_it_waits_as_long_again_up_to_a_minute(self, ago_ms: int, least_ms: int) -> None:
        before = now_ms()
        outcome = self.parked(ago_ms)
        passed_ms = now_ms() - before
        assert least_ms <= outcome.delay_ms <= min(60_000, least_ms + passed_ms)

    def test_since_when_does_not_change(self) -> None:
        job = claimed("unheard", unknown_since=now_ms() - 5_000)
        parts = wire.split(outcomes.of_unrunnable(job, policy()).job)
        assert parts is not None
        assert parts[0].unknown_since == job.head.unknown_since

    def test_after_its_time_it_is_dead(self) -> None:
        job = claimed("unheard", delivery=3, attempt=2, unknown_since=now_ms() - DAY_MS)
        head, body, error = letter_of(outcomes.of_unrunnable(job, policy()))
        assert head == Head("a", 0, 4, 0, 2, job.head.unknown_since)
        assert (body, error.reason, error.type) == (
            *(b',"task":"unheard"}', "unknown_task", "LookupError"),
        )
        assert error.message == "no consumer knew task 'unheard' for 86400 s"
        assert error.traceback == ""

    def test_until_then_it_lives(self) -> None:
        assert self.parked(DAY_MS - 60_000).verb == "park"


class TestFlaw:
    def test_what_no_slot_is_free_for_is_given_back(self) -> None:
        job = claimed()
        job.unrunnable = "no_slot"
        assert outcomes.of_unrunnable(job, policy()) == Outcome("a", 7, "release")

    def test_a_malformed_job_is_wrapped_in_its_letter(self) -> None:
        raw = wire.join(Head("a", delivery=2, attempt=1), b',"task":7}')
        job = read(raw, K, 7, tasks=app.tasks, leased_until=0.0, moved=False)
        outcome = outcomes.of_unrunnable(job, policy())
        head, _, error = letter_of(outcome)
        assert (outcome.job_id, outcome.claim) == ("a", 7)
        assert head == Head("a", delivery=3, attempt=1)
        assert (error.reason, error.payload) == ("malformed", raw.decode())
        assert (error.type, error.consumer) == ("ValidationError", "host-1-x")
        assert error.message == str(job.problem)
        assert error.traceback == ""
        assert wire.redriven(outcome.job) == raw

    def test_bytes_that_are_no_job_come_back_exactly(self) -> None:
        job = read(b"\xff", K, 7, tasks=app.tasks, leased_until=0.0, moved=False)
        outcome = outcomes.of_unrunnable(job, policy())
        assert wire.redriven(outcome.job) == b"\xff"
        assert outcome.job_id == job.head.id
        assert letter_of(outcome)[0] == Head(job.head.id, delivery=1)

    def test_a_reason_that_utf_8_cannot_write_is_written_all_the_same(self) -> None:
        job = read(b"\xff", K, 7, tasks=app.tasks, leased_until=0.0, moved=False)
        job.problem = ValueError("a\udcffb")
        _, _, error = letter_of(outcomes.of_unrunnable(job, policy()))
        assert (error.type, error.message) == ("ValueError", r"a\udcffb")

    def test_a_job_that_is_too_large_keeps_its_bytes(self) -> None:
        raw = wire.join(Head("a"), PLAIN)
        job = read(raw, K, 7, tasks=app.tasks, leased_until=0.0, moved=False, max_bytes=3)
        head, body, error = letter_of(outcomes.of_unrunnable(job, policy()))
        assert (head.delivery, body) == (1, PLAIN)
        assert (error.reason, error.type) == ("too_large", "ValueError")

    def test_whoever_waits_for_it_is_told(self) -> None:
        raw = wire.join(Head("a"), b',"task":"plain","result_ttl":5}')
        job = read(raw, K, 7, tasks=app.tasks, leased_until=0.0, moved=False, max_bytes=3)
        outcome = outcomes.of_unrunnable(job, policy())
        assert outcome.result_ttl_ms == 5_000
        assert results.state_of(outcome.result) == "dead"


def test_the_time_is_redis_own_as_far_as_it_is_known() -> None:
    before = now_ms()
    assert before - 5_000 <= policy(clock_ahead_ms=-5_000).now_ms() <= now_ms() - 5_000
    assert before <= policy().now_ms() <= now_ms()


def test_chance_decides_on_the_jitter_unless_told_otherwise() -> None:
    uniform: Callable[[], float] = OutcomePolicy("c", 1).uniform
    assert all(0 <= uniform() < 1 for _ in range(100))
    assert len({uniform() for _ in range(10)}) > 1
