"""How a consumer that runs elsewhere ends its claims, and what is made of that. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from headrace import results
from headrace.consumer import outcomes, record
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import OutcomePolicy
from headrace.consumer.run import Failure
from headrace.context import StopReason
from headrace.operations import Outcome
from headrace.plain import make

Verb: TypeAlias = Literal["ack", "retry", "dead", "release", "cancel"]
"""How a claim ends; ``ack``: the job is done."""

_TOKEN: Final = re.compile(r"([!-9;-~]{1,200}):([0-9]{1,9})")


class Ticket(NamedTuple):
    """What a consumer shows for a claim.

    Attributes:
        queue: the job's queue.
        job_id: its id.
        claim: the claim token.
    """

    queue: str
    job_id: str
    claim: str

    @property
    def parts(self) -> tuple[str, int] | None:
        """The holder, and the number of the claim; None if it is no token."""
        match = _TOKEN.fullmatch(self.claim)
        return (match[1], int(match[2])) if match else None


class Ending(NamedTuple):
    """How a consumer ends a claim.

    Attributes:
        ticket: the claim.
        verb: how.
        result: for ``ack``: what the task returned, as JSON.
        error: for ``retry`` and ``dead``: the type, the message and the traceback of what went wrong.
        delay_s: for ``retry``: seconds until then; None as the task's options say.
    """

    ticket: Ticket
    verb: Verb
    result: bytes = b"null"
    error: tuple[str, str, str] = ("", "", "")
    delay_s: float | None = None


def outcome_of(job: ClaimedJob, ending: Ending, policy: OutcomePolicy) -> Outcome:
    """Judge a run as its consumer tells it."""
    if job.unrunnable is not None or job.context is None:
        return outcomes.of_unrunnable(job, policy)
    if ending.verb == "ack":
        wanted = job.result_ttl_ms or job.wanted
        end = _result(ending.result) if wanted else b""
        return record.with_run(job, outcomes.of_run(job, end, policy), None, policy)
    stopped: StopReason | None = _STOPS.get(ending.verb)
    job.context.stop_reason = stopped
    type_, message, traceback = ending.error
    error = make(type_.replace("\0", "") or "Failed", message)
    if traceback:
        error.add_note(traceback)
    failed = Failure(
        error,
        stopped=stopped is not None,
        unfit=None,
        given_up=ending.verb == "dead",
        wanted=ending.verb == "retry",
        again_s=ending.delay_s,
    )
    outcome = outcomes.of_run(job, failed, policy)
    if outcome.result or outcome.verb == "retry":
        outcome = record.with_run(job, outcome, error, policy)
    return outcome


def _result(told: bytes) -> bytes:
    """Encode what a task returns, as its consumer tells it."""
    try:
        value = msgspec.json.decode(told)
    except Exception as error:  # a number out of every range: the job is done all the same
        return results.encode_unreadable(None, f"it cannot be read: {error}")
    return results.encode_value(value)


_STOPS: Final[dict[Verb, StopReason]] = {"release": "shutdown", "cancel": "cancelled"}
