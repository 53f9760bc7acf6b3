"""What a consumer writes into the log: one line for each transition, with the job's fields on it.

Success is DEBUG, for a busy consumer has thousands a second, and summed up once a minute; whatever an operator may have to look
at is INFO and above.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterable, MutableMapping
from contextlib import suppress
from typing import Any

from headrace import redaction
from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.context import StopReason
from headrace.hooks import ConsumerHooks, Event
from headrace.hooks.events import Listeners
from headrace.keys import Keys
from headrace.logs import job_fields
from headrace.operations import AdoptAnswer, Outcome, Verb
from headrace.workflows.commit import Commit


class _Log(logging.LoggerAdapter[logging.Logger]):
    """The consumer's logger. A handler of the application's own may fail; no job depends on that."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, Any]:
        """Leave the line's ``extra`` as it is."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a line, if its handlers let us."""
        with suppress(BaseException):
            super().log(level, msg, *args, stacklevel=2, **kwargs)


log: _Log = _Log(logging.getLogger("headrace.consumer"))


def ended(
    claimed: ClaimedJob,
    outcome: Outcome,
    error: BaseException | None,
    hooks: ConsumerHooks | None = None,
) -> None:
    """Log how a run ended, and note it for those who are told of events."""
    verb = outcome.verb
    if hooks is not None and claimed.task is not None and claimed.task.listeners:
        _note_end(claimed, outcome, error, hooks)
    if verb == "done":
        if claimed.context is not None and claimed.context.stop_reason == "timeout":
            log.warning("done, but late: beyond its timeout", extra=_fields(claimed))
        elif log.isEnabledFor(logging.DEBUG):
            log.debug("done", extra=_fields(claimed))
    elif verb == "retry":
        log.info(
            "attempt failed, again in %.1f s: %s: %s",
            outcome.delay_ms / 1000,
            type(error).__name__,
            redaction.masked(str(error), claimed.job),
            extra=_fields(claimed),
        )
    elif verb in ("dead", "drop"):
        _failed(claimed, outcome, error)
    else:
        log.info("%s", {"cancel": "cancelled"}.get(verb, verb), extra=_fields(claimed))


def unrunnable(claimed: ClaimedJob, outcome: Outcome) -> None:
    """Log why a job was not run."""
    if outcome.verb == "release":
        why = "it waits in its lane" if claimed.hold else "no slot is free"
        log.debug("given back: %s", why, extra=_fields(claimed))
    elif outcome.verb == "park":
        log.warning(
            "no such task here: parked for %.0f s. If it is another application's, give each of the "
            "two a queue of its own: Headrace(queue=…)",
            outcome.delay_ms / 1000,
            extra=_fields(claimed),
        )
    else:
        _failed(claimed, outcome, claimed.problem or LookupError("no consumer knows its task"))


def stopped(claimed: ClaimedJob, reason: StopReason) -> None:
    """Log that a running job was told to end."""
    text = {
        "soft_timeout": "has reached its soft timeout, and is told to end",
        "timeout": "ran out of time",
        "lost": "lost its lease: another consumer may run it too",
        "cancelled": "is cancelled",
        "shutdown": "is told to end and is given back: the consumer ends",
    }[reason]
    log.warning("%s", text, extra=_fields(claimed))


def given_up(claimed: ClaimedJob, lost: int) -> None:
    """Log that the thread of a job is left to itself; ``lost``: how many are by now."""
    log.error(
        "does not end: its thread is given up, and a new one takes its place; %d given up run on",
        lost,
        extra=_fields(claimed),
    )


def suspected(claimed: ClaimedJob, *, welcome: bool) -> None:
    """Log that a job will run alone; ``welcome``: here and now."""
    log.warning(
        "%d consumers were lost with it: %s",
        claimed.head.crashes,
        "it runs alone, in a process of its own" if welcome else "it goes back until others end",
        extra=_fields(claimed),
    )


def not_isolated(claimed: ClaimedJob, error: BaseException) -> None:
    """Log that a suspect runs in this process after all."""
    log.warning("it runs in the consumer's own process: %s", error, extra=_fields(claimed))


def settled(
    pairs: Iterable[tuple[ClaimedJob, Outcome]], lost: Container[str], hooks: ConsumerHooks
) -> None:
    """Tell of the outcomes that Redis has taken; log those that changed nothing, for the claim was lost."""
    for claimed, outcome in pairs:
        if outcome is not claimed.outcome:
            continue  # of a lease that was left over it says nothing that anybody has to know
        if outcome.job_id in lost:
            text = "%s came too late: the claim was lost"
            log.warning(text, outcome.verb, extra=_fields(claimed))
            continue
        if claimed.task is not None and claimed.task.listeners:
            if claimed.unrunnable is not None:
                _tell_refused(claimed, outcome, claimed.task.listeners, hooks)
            hooks.known(claimed, claimed.task.listeners)
        if isinstance(outcome.commit, Commit):
            hooks.handed_on(outcome.commit.jobs)


def _tell_refused(
    claimed: ClaimedJob, outcome: Outcome, listeners: Listeners, hooks: ConsumerHooks
) -> None:
    if outcome.verb in ("dead", "drop"):
        about = claimed.head.id, claimed.k.queue, claimed.task.name if claimed.task else ""
        event = Event("dead", *about, claimed.head.attempt, claimed.problem)
        hooks.tell(event, listeners.get("dead", ()))


def _note_end(
    claimed: ClaimedJob, outcome: Outcome, error: BaseException | None, hooks: ConsumerHooks
) -> None:
    if claimed.context is not None:
        hooks.decide(
            claimed,
            claimed.context,
            outcome.verb,
            error,
            took_s=monotonic() - claimed.started if claimed.started else 0.0,
            again_in_s=outcome.delay_ms / 1000,
        )


def not_ours(claimed: ClaimedJob, answer: AdoptAnswer) -> None:
    """Log that a moved job could not be adopted."""
    log.info("moved, but not adopted: %s", answer, extra=_fields(claimed))


def _failed(claimed: ClaimedJob, outcome: Outcome, error: BaseException | None) -> None:
    raised = error is not None and claimed.unrunnable is None
    log.error(
        "failed for good: %s: %s%s",
        type(error).__name__,
        redaction.masked(str(error), claimed.job),
        # Nothing else keeps a dropped job: the log has it.
        f"; dropped: {redaction.shown(claimed.job)!r}" if outcome.verb == "drop" else "",
        extra=_fields(claimed),
        # The lines of a traceback may show anything.
        exc_info=error if raised and redaction.rule() is None else None,
    )


def _fields(claimed: ClaimedJob) -> dict[str, object]:
    decoded = claimed.decoded
    return job_fields(
        job_id=claimed.head.id,
        queue=claimed.k.queue,
        task=decoded.task if decoded is not None else "-",
        attempt=claimed.head.attempt + 1,
    )


def stopping(running: int, grace_s: float) -> None:
    """Log that nothing more is claimed, and what a second signal does."""
    if running:
        log.info(
            "stopping: %d running jobs have %g s to end; a second signal, as by Ctrl-C, gives them "
            "back at once",
            running,
            grace_s,
        )
    else:
        log.info("stopping: no job is running")


def grace_over(running: int, *, early: bool) -> None:
    """Log that what still runs is given back; ``early``: it was told so a second time."""
    why = "told again to end" if early else "the grace period is over"
    log.warning("%s: the %d jobs that still run are given back", why, running)


def over(ends: Counter[Verb], since: Counter[Verb]) -> None:
    """Log what a consumer has done; ``since``: since it was told to end."""
    log.info(
        "ended: %d jobs finished, %d of them since it was told to end; %d given back since",
        ends.total() - ends["release"],
        since.total() - since["release"],
        since["release"],
    )


def sum_up(ends: Counter[Verb], period_s: float) -> None:
    """Log what became of jobs in a while; nothing when there were none."""
    if ends:
        parts = ", ".join(f"{verb} {count:,}" for verb, count in ends.most_common())
        log.info("jobs in the last %.0f s: %s", period_s, parts)


def new_queue(k: Keys) -> None:
    """Warn of a queue that nobody has used before, and that no task here uses."""
    log.warning(
        "queue %s is new, and no task of this application uses it: is its name right?", k.queue
    )
