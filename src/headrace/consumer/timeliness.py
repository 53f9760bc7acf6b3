"""Whether a job may still start, and when it is told to end: for those that have a bound of their own.

Jobs without ``expires_at``, and tasks without a soft timeout, never come here.
"""

from __future__ import annotations

from math import inf

from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import OutcomePolicy
from headrace.context import StopReason
from headrace.plain import make


def has_expired(claimed: ClaimedJob, policy: OutcomePolicy) -> bool:
    """Whether a job comes too late to be started: then it cannot be run any more, and says why."""
    expires_at = claimed.decoded.expires_at if claimed.decoded is not None else None
    if expires_at is None or (late_ms := policy.now_ms() - expires_at) < 0:
        return False
    claimed.unrunnable = "expired"
    claimed.problem = make("Expired", f"it was to start {late_ms / 1000:.1f} s ago at the latest")
    claimed.context = None  # it has made no attempt
    return True


def first_s(claimed: ClaimedJob) -> float | None:
    """Return how long a job runs before it is told to end, softly or not; seconds, None for ever."""
    first = min(_soft_s(claimed), _timeout_s(claimed))
    return first if first < inf else None


def passed(claimed: ClaimedJob) -> StopReason:
    """Return why a job is told to end whose deadline has passed; after the soft one another comes."""
    soft_s, timeout_s = _soft_s(claimed), _timeout_s(claimed)
    told = claimed.context is not None and claimed.context.stop_reason is not None
    if told or soft_s >= timeout_s:
        return "timeout"
    at = claimed.deadline or monotonic()
    claimed.deadline = at + timeout_s - soft_s if timeout_s < inf else None
    return "soft_timeout"


def _soft_s(claimed: ClaimedJob) -> float:
    own_s = claimed.decoded.soft_timeout if claimed.decoded is not None else None
    task_s = claimed.task.config.limits.soft_timeout_s if claimed.task is not None else None
    return _meant(own_s or task_s)


def _timeout_s(claimed: ClaimedJob) -> float:
    own_s = claimed.decoded.timeout if claimed.decoded is not None else None
    task_s = claimed.task.config.timeout_s if claimed.task is not None else None
    return _meant(own_s or task_s)


def _meant(seconds: float | None) -> float:
    return seconds if seconds and seconds > 0 else inf
