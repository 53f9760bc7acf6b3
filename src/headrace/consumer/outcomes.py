"""How a claim ends: from the end of its run, and the task's options, to an outcome. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from headrace import results, wire
from headrace.clock import now_ms
from headrace.consumer.claimed import LONGEST_S, ClaimedJob
from headrace.consumer.run import End, Failure, failure
from headrace.errors import LimitExceeded
from headrace.handoff import CLOSED
from headrace.operations import Outcome, Verb
from headrace.plain import make, plain_copy, traceback_of
from headrace.policy import LeasePolicy
from headrace.retry import Backoff
from headrace.wire import Head, Reason
from headrace.workflows.commit import commit_of

_PARK_FIRST_MS: Final = 1_000
_PARK_LONGEST_MS: Final = 60_000


@dataclass
class OutcomePolicy:
    """What the outcome of a job depends on, beside the job.

    Attributes:
        consumer: this consumer's name.
        unknown_task_ttl_ms: how long a job waits for a consumer that knows its task.
        max_crashes: lost processes after which a job is dead.
        clock_ahead_ms: Redis' clock against this machine's.
        uniform: gives random numbers in [0, 1) for the jitter.
    """

    consumer: str
    unknown_task_ttl_ms: int
    max_crashes: int = LeasePolicy().max_crashes
    clock_ahead_ms: int = 0
    uniform: Callable[[], float] = random.random

    def now_ms(self) -> int:
        """Return the time by Redis' clock, as far as it is known, ms since 1970."""
        return now_ms() + self.clock_ahead_ms


class ProcessDied(Exception):
    """The process that ran a job alone ended without an answer.

    Args:
        signal: the signal that ended it, as SIGSEGV, or "".
        exit_code: its exit code, when there was no signal.
        peak_mib: the most memory it held, MiB; 0 if unknown.
        stack: where it last was seen, as text.
        cpu_s: the processor time that it took, seconds; 0 if unknown.
    """

    def __init__(
        self, signal: str, exit_code: int | None, peak_mib: int, stack: str, cpu_s: float = 0.0
    ) -> None:
        how = f"was ended by {signal}" if signal else f"ended with exit code {exit_code}"
        memory = f", {peak_mib} MiB at most" if peak_mib else ""
        super().__init__(f"the process that ran it alone {how}{memory}")
        self.signal: str = signal
        self.exit_code: int | None = exit_code
        self.peak_mib: int = peak_mib
        self.stack: str = stack
        self.cpu_s: float = cpu_s


class IsolationUnavailable(Exception):
    """The job cannot run in a process of its own; the message says why. It has not begun."""


@dataclass(frozen=True)
class IsolatedOutcome:
    """A run that was judged where it ran, in another process: its outcome, and what it raised."""

    outcome: Outcome
    error: BaseException | None


class Isolation(Protocol):
    """Runs jobs in processes of their own."""

    def run(self, claimed: ClaimedJob) -> IsolatedOutcome | Failure:
        """Run a job, and wait for how it ends. Called in threads.

        Gives:
            How it was judged; or how it failed, if its process was ended for what it took.

        Raises:
            IsolationUnavailable: it was not begun.
            JobStopped: it was told to end, and did.
            ProcessDied: its process ended without an answer.
        """

    def close(self) -> None:
        """End what is left of its processes."""


def of_run(claimed: ClaimedJob, end: End, policy: OutcomePolicy) -> Outcome:
    """Judge a run by its end."""
    if not isinstance(end, Failure):
        return _outcome(claimed, "done", claimed.result_ttl_ms, end)
    stop = claimed.context.stop_reason if claimed.context is not None else None
    if end.stopped:
        if stop in ("shutdown", "lost"):
            return _outcome(claimed, "release")
        if stop == "cancelled":
            return _outcome(claimed, "cancel", claimed.result_ttl_ms, results.CANCELLED)
        if stop in ("timeout", "soft_timeout"):
            error = TimeoutError("the job ran out of time").with_traceback(end.error.__traceback__)
            for note in getattr(end.error, "__notes__", ()):  # where its thread is
                error.add_note(note)
            return _of_failure(claimed, failure(claimed, error), policy, "timeout")
    return _of_failure(claimed, end, policy, end.final)


def unjudged(claimed: ClaimedJob, problem: Exception, policy: OutcomePolicy) -> Outcome:
    """End a job whose run could not be judged: something of ours, or of its options, has failed."""
    name, text = type(problem).__name__, str(plain_copy(problem))
    error = make(name, f"the end of its run could not be judged: {text}")
    return _dead(claimed, "max_attempts", error, policy)


def of_unrunnable(claimed: ClaimedJob, policy: OutcomePolicy) -> Outcome:
    """Judge a job that cannot be run."""
    head = claimed.head
    if claimed.unrunnable == "no_slot":
        return _outcome(claimed, "release")._replace(commit=claimed.hold)
    if claimed.unrunnable != "unknown_task":
        problem = claimed.problem and plain_copy(claimed.problem)
        return _dead(claimed, claimed.unrunnable or "malformed", problem, policy)
    now = policy.now_ms()
    since = head.unknown_since or now
    waited_ms = now - since
    if waited_ms >= policy.unknown_task_ttl_ms:
        name = claimed.decoded.task if claimed.decoded is not None else ""
        unknown = LookupError(f"no consumer knew task {name!r} for {waited_ms // 1000} s")
        return _dead(claimed, "unknown_task", unknown, policy)
    # As long again as it has waited: a consumer that is just being deployed gets it soon.
    delay_ms = min(max(waited_ms, _PARK_FIRST_MS), _PARK_LONGEST_MS)
    parked = wire.join(head._replace(delivery=head.delivery + 1, unknown_since=since), claimed.body)
    return _outcome(claimed, "park")._replace(delay_ms=delay_ms, job=parked)


def _of_failure(
    claimed: ClaimedJob, failed: Failure, policy: OutcomePolicy, final: Reason
) -> Outcome:
    context, error = claimed.context, failed.error
    assert context is not None
    if failed.unfit:
        return _dead(claimed, failed.unfit, error, policy)
    if failed.given_up or not (failed.wanted or final != "max_attempts"):
        return _dead(claimed, "rejected", error, policy)
    if context.attempt >= context.max_attempts:
        return _dead(claimed, final, error, policy)
    delay_s = failed.again_s
    if delay_s is None or not 0 <= delay_s <= LONGEST_S:
        delay_s = _backoff_s(claimed, context.attempt, policy)
    again = claimed.head._replace(
        attempt=context.attempt, delivery=claimed.head.delivery + 1, unknown_since=0
    )
    return _retry(claimed, again, delay_s)


def _backoff_s(claimed: ClaimedJob, failures: int, policy: OutcomePolicy) -> float:
    assert claimed.task is not None
    try:
        delay_s = float(claimed.task.config.backoff.delay_s(failures, policy.uniform))
    except Exception:  # a class of the application's own
        delay_s = -1.0
    return delay_s if delay_s >= 0 else Backoff().delay_s(failures, policy.uniform)


def _retry(claimed: ClaimedJob, head: Head, delay_s: float) -> Outcome:
    delay_ms, job = round(min(delay_s, LONGEST_S) * 1000), wire.join(head, claimed.body)
    return _outcome(claimed, "retry")._replace(delay_ms=delay_ms, job=job)


def of_death(claimed: ClaimedJob, death: ProcessDied, policy: OutcomePolicy) -> Outcome:
    """Charge a crash, as the sweep does for a lost consumer; no attempt: the task did not fail."""
    head = _charged(claimed)
    if head.crashes >= policy.max_crashes:
        return _dead(claimed, "crashed", death, policy)
    return _retry(claimed, head, _backoff_s(claimed, head.crashes, policy))


def _charged(claimed: ClaimedJob) -> Head:
    head = claimed.head
    return head._replace(crashes=head.crashes + 1, delivery=head.delivery + 1, unknown_since=0)


def _dead(
    claimed: ClaimedJob, reason: Reason, problem: BaseException | None, policy: OutcomePolicy
) -> Outcome:
    config = claimed.task.config if claimed.task is not None else None
    text = ""
    told = bool(problem and (problem.__traceback__ or getattr(problem, "__notes__", None)))
    if problem is not None and told and claimed.unrunnable is None:
        text = traceback_of(problem)
    died = problem if isinstance(problem, ProcessDied) else None
    seen = problem if isinstance(problem, ProcessDied | LimitExceeded) else None
    error = wire.error_of(
        reason,
        problem,
        traceback=(seen and seen.stack) or text,
        failed_at=policy.now_ms(),
        consumer=policy.consumer,
        signal=died.signal if died else "",
        exit_code=died.exit_code if died else None,
        peak_mib=seen.peak_mib if seen else 0,
    )
    ttl_ms = claimed.result_ttl_ms
    wanted = ttl_ms or (claimed.context is not None and claimed.context.hand_off)
    result = results.encode_error(error, problem) if wanted else b""
    if config is not None and not config.keeps(reason):
        return _outcome(claimed, "drop", ttl_ms, result)
    attempt = claimed.context.attempt if claimed.context is not None else claimed.head.attempt
    counted = claimed.head._replace(attempt=attempt, delivery=claimed.head.delivery + 1)
    head = _charged(claimed) if died else counted
    if claimed.unrunnable == "malformed":
        _, body = wire.split(wire.malformed_letter(claimed.body, error)) or (head, claimed.body)
        letter = wire.join(head, body)
    else:
        letter = wire.letter(head, claimed.body, error)
    return _outcome(claimed, "dead", ttl_ms, result)._replace(job=letter)


def _outcome(claimed: ClaimedJob, verb: Verb, ttl_ms: int = 0, result: bytes = b"") -> Outcome:
    kept, head = result if ttl_ms else b"", claimed.head
    context, commit = claimed.context, None
    if context is not None:
        if context.hand_off is not None:
            commit = commit_of(context.hand_off, verb, result, claimed.k.queue)
        else:
            context.hand_off = CLOSED
    return Outcome(head.id, claimed.number, verb, 0, b"", ttl_ms, kept, head.key, commit)
