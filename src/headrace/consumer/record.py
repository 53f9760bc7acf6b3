"""Records each run of a job whose result is kept: with how it ended, or beside that."""

from __future__ import annotations

from typing import Final

from headrace import history
from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import OutcomePolicy
from headrace.history import Run
from headrace.operations import Outcome

_OPEN_MS: Final = 86_400_000
"""How long a run outlives what is tried again after it, beside the result's time."""

_MOST_TEXT: Final = 200  # characters of an error


def with_run(
    claimed: ClaimedJob, outcome: Outcome, error: BaseException | None, policy: OutcomePolicy
) -> Outcome:
    """Return the outcome of a run with that run in it, if the job's result is kept.

    ``error``: a plain copy of what it raised, if it did.
    """
    ttl_ms = claimed.result_ttl_ms
    if not ttl_ms:
        return outcome
    if outcome.verb == "retry":
        told = history.encode(_run(claimed, outcome, error, policy))
        kept_ms = ttl_ms + outcome.delay_ms + _OPEN_MS
        return outcome._replace(result_ttl_ms=kept_ms, result=told)
    if not outcome.result:
        return outcome
    end = history.with_run(outcome.result, _run(claimed, outcome, error, policy))
    return outcome._replace(result=end)


def _run(
    claimed: ClaimedJob, outcome: Outcome, error: BaseException | None, policy: OutcomePolicy
) -> Run:
    now_ms = policy.now_ms()
    took_s = monotonic() - claimed.started if claimed.started else 0.0
    return Run(
        policy.consumer,
        now_ms - round(took_s * 1000),
        now_ms,
        outcome.verb,
        claimed.head.delivery,
        claimed.context.attempt if claimed.context is not None else 1,
        type(error).__name__ if error is not None else "",
        str(error)[:_MOST_TEXT] if error is not None else "",
    )
