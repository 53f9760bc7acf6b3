"""Says where a job is and why it does not run, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from msgspec import to_builtins

from headrace import redaction, results, wire
from headrace.context import tick_of
from headrace.doctor.humanize import (
    command,
    counted,
    failure,
    instant,
    ordinal,
    span,
    subject,
    times,
    verb,
)
from headrace.doctor.lane import reasons
from headrace.doctor.location import Claim, Location, State
from headrace.errors import JobFailed
from headrace.expiry import NEVER_MS
from headrace.ids import time_ms_of
from headrace.policy import LEADER_LEASE_S, LeasePolicy
from headrace.workflows.member import of_job_id

_NOBODY_LEADS: Final = (
    "Nobody leads: no consumer and no server is running, so nothing changes that."
)
_START: Final = "headrace consume, with your application; or headrace serve"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a job is, in words.

    Attributes:
        queue: the queue.
        id: the job's id.
        state: one word.
        task: its task's name; "" if unknown.
        headline: where it is.
        reasons: why, and what comes next: a sentence each.
        todo: what to do; "" if nothing.
        facts: numbers for programs: position, due_at_ms, lease_ends_at_ms, consumer, delivery, …
    """

    queue: str
    id: str
    state: str
    task: str
    headline: str
    reasons: tuple[str, ...]
    todo: str
    facts: dict[str, Any]


def explain(at: Location, policy: LeasePolicy) -> Explanation:
    """Explain where a job is."""
    headline, *reasons = (*_WORDS[at.state](at, policy), *_workflow(at))
    return Explanation(
        at.snapshot.queue,
        at.job_id,
        _state(at),
        at.body.task if at.body else "",
        headline,
        (*reasons, *_schedule(at)),
        _todo(at),
        _facts(at),
    )


def _schedule(at: Location) -> Iterator[str]:
    if (tick := tick_of(at.job)) is not None:
        yield f"Schedule {tick[0]} enqueued it for {instant(tick[1])}."


def _state(at: Location) -> str:
    if at.state == "ended":
        return results.state_of(at.end)
    return "pending" if at.state == "priority" else at.state


def _waiting(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    yield f"pending, {ordinal(at.position or 1)} of {at.snapshot.waiting:,} that wait"
    if at.head.priority:
        yield f"Its priority is {at.head.priority}."
    if at.snapshot.paused:
        yield "The queue is paused: nothing is claimed until it is resumed."
    yield from _expiry(at)
    yield from _consumers(at)
    yield from _history(at)


def _consumers(at: Location) -> Iterator[str]:
    if not at.connections.known:
        yield "Who is connected is not known: this user may not give CLIENT LIST."
        return
    count, idle = len(at.connections.consumers), len(at.connections.idle)
    connected = f"{subject(count, 'consumer')} connected"
    if not count:
        yield "No consumer is connected."
    elif not idle:
        yield f"{connected}, and busy."
    elif not at.snapshot.paused:
        yield (
            f"{connected}, and {idle:,} {verb(idle, 'waits', 'wait')} for work: "
            "they take it in a moment, or do not serve this queue."
        )


def _history(at: Location) -> Iterator[str]:
    head, body = at.head, at.body
    if head.attempt:
        bound = f" of {body.max_attempts:,}" if body and body.max_attempts else ""
        yield f"It failed {times(head.attempt)}{bound} so far."
    if head.crashes:
        yield f"Its consumer was lost {times(head.crashes)} while it ran."
    if head.unknown_since:
        task, since = body.task if body else "", _ago(at, head.unknown_since)
        yield f"No consumer that had it knew its task {task!r}, for {since} now."
    if at.job and not head.id:
        yield "It has no id in front: the consumer that claims it writes one there."


def _expiry(at: Location) -> Iterator[str]:
    expires_at = at.body.expires_at if at.body else None
    if expires_at is None or expires_at >= NEVER_MS:
        return
    left_s = at.left_s(round(expires_at))
    if left_s > 0:
        yield f"It expires in {span(left_s)}."
    else:
        yield f"It has expired, {span(-left_s)} ago: when its turn comes it is not started."


def _limited(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    assert at.wait is not None
    yield from reasons(at.wait)
    if not any(bound.holds_back for bound in at.wait.bounds):
        yield from _consumers(at)
    yield from _history(at)


def _delayed(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    head, due_ms = at.head, at.due_at_ms or 0
    left_s = at.left_s(due_ms)
    if left_s > 0:
        yield f"delayed until {instant(due_ms)}, in {span(left_s)}"
        if not at.leader:
            yield "Nobody leads: without a consumer or a server it does not fall due."
    else:
        yield f"delayed, and due since {span(-left_s)}"
        leads = f"{at.leader} leads, and moves it within a second."
        yield leads if at.leader else _NOBODY_LEADS
    if not head.attempt and not head.unknown_since:
        yield "It was put off." if head.delivery else "It was enqueued so."
    yield from _expiry(at)
    yield from _history(at)
    if head.attempt and not head.unknown_since:
        yield "This is the wait before it is tried again."


def _processing(at: Location, policy: LeasePolicy) -> Iterator[str]:
    if at.claim is None:
        yield "processing, without a lease: moved there a moment ago, or by a plain client"
        after = f"The next sweep gives it a lease of {policy.bare_lease_s:g} s."
        yield after if at.leader else _NOBODY_LEADS
    else:
        yield from _claimed(at, at.claim, policy)


def _claimed(at: Location, claim: Claim, policy: LeasePolicy) -> Iterator[str]:
    ends_ms = claim.lease_ends_ms
    left_s = None if ends_ms is None else at.left_s(ends_ms)
    if left_s is None:
        lease = "it has no lease"
    else:
        ago = f"its lease ended {span(-left_s)} ago"
        lease = f"its lease ends in {span(left_s)}" if left_s > 0 else ago
    if claim.consumer:
        delivery = f", delivery {at.head.delivery + 1:,}" if at.head.id else ""
        yield f"processing at consumer {claim.consumer}{delivery}; {lease}"
        if left_s is not None:
            yield from _holder(at, claim, left_s, policy)
        yield from _progress(at)
    else:
        yield f"processing at a plain client; {lease}"
        yield "When that ends, and the client has not removed it, it goes back as it was."
    if not claim.present:
        yield "Its bytes are not in processing any more: a plain LREM took them. It is over."
    if left_s is None:
        yield "A claim without a lease never runs out: headrace doctor --repair gives it one."
    elif left_s <= 0:
        yield "It is made runnable within seconds." if at.leader else _NOBODY_LEADS
    if at.stop:
        yield "It was asked to stop, which its consumer learns when it extends the lease."
    yield from _history(at)


def _progress(at: Location) -> Iterator[str]:
    if at.progress is None:
        return
    before = " before that" if at.progress.delivery < at.head.delivery else ""
    yield f"It has done {at.progress}; it told so {_ago(at, at.progress.at_ms)} ago{before}."


def _holder(at: Location, claim: Claim, left_s: float, policy: LeasePolicy) -> Iterator[str]:
    if not at.connections.known:
        return
    if claim.consumer in at.connections.consumers:
        yield "Its consumer is connected, and extends the lease while it runs."
        return
    free_s = max(0.0, min(left_s, policy.gone_after_s) if claim.seen else left_s)
    within = span(free_s + 2 * policy.sweep_every_s + LEADER_LEASE_S)
    again = f": it runs again within {within}" if at.leader else ""
    yield f"Its consumer has no connection to Redis{again}."
    if not at.leader and free_s:
        yield "Nobody leads: it runs again when a consumer or a server is there to see to it."


def _dead(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    error = wire.read_error(redaction.shown(at.job))
    if error is None:
        yield "dead, and its letter does not say why"
        return
    ago = f" for {_ago(at, error.failed_at)}" if error.failed_at else ""
    yield f"dead{ago}: {error.reason}"
    if what := failure(error).partition("\n")[0].rstrip(": ."):
        yield f"{what}."
    attempt = at.head.attempt
    runs = f"It failed {times(attempt)}" if attempt else "No run of it failed by itself"
    yield f"{runs}{f'; consumer {error.consumer} gave it up' if error.consumer else ''}."


def _ended(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    kept = "for ever" if at.end_ttl_s is None else f"for {span(at.end_ttl_s)} more"
    state = results.state_of(at.end)
    if state != "dead":
        yield f"{state}; its result is kept {kept}"
        return
    try:
        results.value_of(at.job_id, at.end)
    except JobFailed as error:
        yield f"dead: {error.reason}; that is kept {kept}"
        yield f"{redaction.masked(str(error), at.job)}."
    yield "Its dead letter is gone: purged, or its task keeps none."
    yield from _searched(at)


def _cancelled(_at: Location, _policy: LeasePolicy) -> Iterator[str]:
    yield "cancelled, within the last hour"


def _unknown(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    queue, deeper = f"queue {at.snapshot.queue}", "" if at.complete else "It can lie deeper. Or: "
    read = f"among the {at.looked_at:,} jobs that were read, and {queue} has more"
    yield f"not {f'in {queue}' if at.complete else read}"
    yield f"{deeper}It never was, or it is done and no result of it is kept, or it was purged or cancelled."
    made_ms = time_ms_of(at.job_id)
    if made_ms is None:
        yield "Headrace did not make this id."
    else:
        yield f"Its id was made {instant(made_ms)}, {_ago(at, made_ms)} ago by its producer's clock."


def _searched(at: Location) -> Iterator[str]:
    if not at.complete:
        yield f"Only {at.looked_at:,} jobs were read; it can be among the others: --search 0 reads all."


def _held(at: Location, _policy: LeasePolicy) -> Iterator[str]:
    others = f"for {counted(at.waits_for, 'other member')} of it" if at.waits_for else ""
    yield f"waiting in its workflow, {others or 'until there is room in its window'}"


def _moving(_at: Location, _policy: LeasePolicy) -> Iterator[str]:
    yield "moving: on the way to another server; headrace move, run again, goes on with it"


def _workflow(at: Location) -> Iterator[str]:
    flow, of = at.workflow, of_job_id(at.job_id)
    if flow is None or of is None:
        return
    dead = f", {len(flow.failed):,} dead" if flow.failed else ""
    yield (
        f"It is member {of[1]:,} of workflow {of[0]}, which is {flow.state}: "
        f"{flow.ended:,} of {flow.total:,} have ended{dead}."
    )
    for one in flow.failed[:3] if at.state == "waiting" else ():
        yield f"Member {one.n:,} is dead ({one.reason}): headrace dlq redrive {one.job_id}"


_WORDS: Final[dict[State, Callable[[Location, LeasePolicy], Iterator[str]]]] = {
    "pending": _waiting,
    "priority": _waiting,
    "limited": _limited,
    "delayed": _delayed,
    "processing": _processing,
    "dead": _dead,
    "ended": _ended,
    "cancelled": _cancelled,
    "unknown": _unknown,
    "waiting": _held,
    "moving": _moving,
}


def _todo(at: Location) -> str:
    queue, waits = at.snapshot.queue, at.position is not None
    if waits and at.snapshot.paused:
        return command("resume", of=queue)
    if waits and at.connections.no_consumer:
        return "headrace consume, with your application"
    if at.state == "dead":
        show, back = (command("dlq", word, of=at.job_id) for word in ("show", "redrive"))
        return f"{show}; back: {back}"
    if at.claim is not None and at.claim.lease_ends_ms is None:
        return command("doctor", "--repair", of=queue)
    if at.state == "unknown" and not at.complete:
        return command("explain", "--search", "0", "--queue", queue, of=at.job_id)  # 0: all
    return _START if at.state in ("delayed", "processing") and not at.leader else ""


def _facts(at: Location) -> dict[str, Any]:
    head, claim = at.head, at.claim
    return {
        "position": at.wait.before + 1 if at.wait else at.position,
        "lane": at.wait.lane if at.wait else None,
        "due_at_ms": at.due_at_ms,
        "lease_ends_at_ms": claim.lease_ends_ms if claim else None,
        "consumer": (claim.consumer or None) if claim else None,
        "priority": head.priority,
        "delivery": head.delivery,
        "crashes": head.crashes,
        "attempt": head.attempt,
        "paused": at.snapshot.paused,
        "looked_at": at.looked_at,
        "complete": at.complete,
        "progress": None if at.progress is None else to_builtins(at.progress),
    }


def _ago(at: Location, ms: int) -> str:
    return span(-at.left_s(ms))
