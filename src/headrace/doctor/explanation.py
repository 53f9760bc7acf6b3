"""Says where a job is and why it does not run, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from headrace import results, wire
from headrace.doctor.whereabouts import Whereabouts
from headrace.doctor.words import be, command, counted, ordinal, span
from headrace.errors import JobFailed
from headrace.ids import time_ms_of
from headrace.policy import LEADER_LEASE_S, LeasePolicy
from headrace.wire import Head

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
        todo: what to do; "" nothing.
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


def explain(w: Whereabouts, policy: LeasePolicy) -> Explanation:
    """Explain a job's whereabouts."""
    head = (wire.split(w.job) or (Head(""), b""))[0]
    words = {
        "pending": _waiting,
        "priority": _waiting,
        "delayed": _delayed,
        "processing": _processing,
        "dead": _dead,
        "ended": _ended,
        "cancelled": _cancelled,
        "unknown": _unknown,
    }[w.state]
    headline, *reasons = words(w, head, policy)
    state: str = "pending" if w.state == "priority" else w.state
    if w.state == "ended":
        state = results.state_of(w.end)
    facts = _facts(w, head)
    return Explanation(
        w.snapshot.queue,
        w.job_id,
        state,
        _task_of(w.job),
        headline,
        tuple(reasons),
        _todo(w),
        facts,
    )


def _waiting(w: Whereabouts, head: Head, _policy: LeasePolicy) -> Iterator[str]:
    place = position(w) or 1
    yield f"pending, {ordinal(place)} of {w.snapshot.waiting:,} that wait"
    if head.priority:
        yield f"Its priority is {head.priority}."
    if w.snapshot.paused:
        yield "The queue is paused: nothing is claimed until it is resumed."
    yield from _consumers(w)
    yield from _history(w, head)


def _consumers(w: Whereabouts) -> Iterator[str]:
    if w.connections is None:
        yield "Who is connected is not known: this user may not give CLIENT LIST."
        return
    count, idle = len(w.connections.consumers), len(w.connections.idle)
    if not count:
        yield "No consumer is connected."
    elif not idle:
        yield f"{counted(count, 'consumer')} {be(count)} connected, and busy."
    elif not w.snapshot.paused:
        verb = "waits" if idle == 1 else "wait"
        yield (
            f"{counted(count, 'consumer')} {be(count)} connected, and {idle:,} {verb} for work: "
            "they take it in a moment, or do not serve this queue."
        )


def _history(w: Whereabouts, head: Head) -> Iterator[str]:
    if head.attempt:
        yield f"It failed {_times(head.attempt)}{_bound(w)} so far."
    if head.crashes:
        yield f"Its consumer was lost {_times(head.crashes)} while it ran."
    if head.unknown_since:
        since = span((w.snapshot.now_ms - head.unknown_since) / 1000)
        yield f"No consumer that had it knew its task {_task_of(w.job)!r}, for {since} now."
    if w.job and not head.id:
        yield "It has no id in front: the consumer that claims it writes one there."


def _delayed(w: Whereabouts, head: Head, _policy: LeasePolicy) -> Iterator[str]:
    due_ms = w.due_at_ms or 0
    left_s = (due_ms - w.snapshot.now_ms) / 1000
    if left_s > 0:
        yield f"delayed until {_instant(due_ms)}, in {span(left_s)}"
    else:
        yield f"delayed, and due since {span(-left_s)}"
        yield _NOBODY_LEADS if not w.leader else f"{w.leader} leads, and moves it within a second."
    if left_s > 0 and not w.leader:
        yield "Nobody leads: without a consumer or a server it does not fall due."
    if not head.attempt and not head.unknown_since:
        yield "It was enqueued so." if not head.delivery else "It was put off."
    yield from _history(w, head)
    if head.attempt and not head.unknown_since:
        yield "This is the wait before it is tried again."


def _processing(w: Whereabouts, head: Head, policy: LeasePolicy) -> Iterator[str]:
    consumer = w.token.rpartition(":")[0]
    delivery = f", delivery {head.delivery + 1:,}" if head.id else ""
    left_s = None if w.lease_ends_ms is None else (w.lease_ends_ms - w.snapshot.now_ms) / 1000
    if not w.token:
        yield "processing, without a lease: moved there a moment ago, or by a plain client"
        after = f"The next sweep gives it a lease of {policy.bare_lease_s:g} s."
        yield after if w.leader else _NOBODY_LEADS
        return
    lease = (
        "it has no lease"
        if left_s is None
        else f"its lease ends in {span(left_s)}"
        if left_s > 0
        else f"its lease ended {span(-left_s)} ago"
    )
    if w.token == "-":  # noqa: S105  not a secret: a lease that the sweep gave
        yield f"processing at a plain client; {lease}"
        yield "When that ends, and the client has not removed it, it goes back as it was."
    else:
        yield f"processing at consumer {consumer}{delivery}; {lease}"
        yield from _holder(w, consumer, left_s, policy)
    if not w.present:
        yield "Its bytes are not in processing any more: a plain LREM took them. It is over."
    if left_s is None:
        yield "A claim without a lease never runs out: headrace doctor --repair gives it one."
    elif left_s <= 0:
        yield "It is made runnable within seconds." if w.leader else _NOBODY_LEADS
    if w.stop:
        yield "It was asked to stop, which its consumer learns when it extends the lease."
    yield from _history(w, head)


def _holder(
    w: Whereabouts, consumer: str, left_s: float | None, policy: LeasePolicy
) -> Iterator[str]:
    if w.connections is None or left_s is None:
        return
    if consumer in w.connections.consumers:
        yield "Its consumer is connected, and extends the lease while it runs."
        return
    left_s = min(left_s, policy.gone_after_s) if w.seen else left_s
    within_s = max(0.0, left_s) + 2 * policy.sweep_every_s + LEADER_LEASE_S
    again = f": it runs again within {span(within_s)}" if w.leader else ""
    yield f"Its consumer has no connection to Redis{again}."
    if not w.leader and left_s > 0:
        yield "Nobody leads: it runs again when a consumer or a server is there to see to it."


def _dead(w: Whereabouts, head: Head, _policy: LeasePolicy) -> Iterator[str]:
    error = wire.read_error(w.job)
    if error is None:
        yield "dead, and its letter does not say why"
        return
    ago = f" for {span((w.snapshot.now_ms - error.failed_at) / 1000)}" if error.failed_at else ""
    yield f"dead{ago}: {error.reason}"
    what = ": ".join(part for part in (error.type, error.message.partition("\n")[0]) if part)
    if what:
        yield f"{what.rstrip('.')}."
    runs = f"It failed {_times(head.attempt)}" if head.attempt else "No run of it failed by itself"
    yield f"{runs}{f'; consumer {error.consumer} gave it up' if error.consumer else ''}."


def _ended(w: Whereabouts, _head: Head, _policy: LeasePolicy) -> Iterator[str]:
    kept = "for ever" if w.end_ttl_s is None else f"for {span(w.end_ttl_s)} more"
    state = results.state_of(w.end)
    if state != "dead":
        yield f"{state}; its result is kept {kept}"
        return
    try:
        results.value_of(w.job_id, w.end)
    except JobFailed as error:
        yield f"dead: {error.reason}; that is kept {kept}"
        yield f"{error}."
    yield "Its dead letter is gone: purged, or its task keeps none."
    yield from _searched(w)


def _cancelled(_w: Whereabouts, _head: Head, _policy: LeasePolicy) -> Iterator[str]:
    yield "cancelled, within the last hour"


def _unknown(w: Whereabouts, _head: Head, _policy: LeasePolicy) -> Iterator[str]:
    yield f"not in queue {w.snapshot.queue}"
    yield "It never was, or it is done and no result of it is kept, or it was purged or cancelled."
    made_ms = time_ms_of(w.job_id)
    if made_ms is None:
        yield "Headrace did not make this id."
    else:
        ago = (w.snapshot.now_ms - made_ms) / 1000
        yield f"Its id was made {_instant(made_ms)}, {span(ago)} ago by its producer's clock."
    yield from _searched(w)


def _searched(w: Whereabouts) -> Iterator[str]:
    if not w.complete:
        yield f"Only {w.looked_at:,} jobs were read; it can be among the others: --search 0 reads all."


def _todo(w: Whereabouts) -> str:
    queue = w.snapshot.queue
    waits = w.state in ("pending", "priority")
    if waits and w.snapshot.paused:
        return command("resume", of=queue)
    if waits and w.connections is not None and not w.connections.consumers:
        return "headrace consume, with your application"
    if w.state == "dead":
        return (
            f"{command('dlq', 'show', of=w.job_id)}; back: {command('dlq', 'redrive', of=w.job_id)}"
        )
    if w.state == "processing" and w.token and w.lease_ends_ms is None:
        return command("doctor", "--repair", of=queue)
    if w.state in ("delayed", "processing") and not w.leader:
        return _START
    return ""


def position(w: Whereabouts) -> int | None:
    """Return its place among the jobs that wait, from 1; None when it is not one of them."""
    if w.state == "pending":
        return w.before + w.index + 1
    if w.state == "priority":
        behind = w.index >= w.before  # negative priorities go after the list
        return w.index + 1 + (w.snapshot.pending if behind else 0)
    return None


def _facts(w: Whereabouts, head: Head) -> dict[str, Any]:
    return {
        "position": position(w),
        "due_at_ms": w.due_at_ms,
        "lease_ends_at_ms": w.lease_ends_ms,
        "consumer": w.token.rpartition(":")[0] or None,
        "priority": head.priority,
        "delivery": head.delivery,
        "crashes": head.crashes,
        "attempt": head.attempt,
        "paused": w.snapshot.paused,
        "looked_at": w.looked_at,
        "complete": w.complete,
    }


def _task_of(job: bytes) -> str:
    try:
        return wire.read_body(job).task
    except Exception:  # whatever decoding raises: it has none
        return ""


def _bound(w: Whereabouts) -> str:
    try:
        most = wire.read_body(w.job).max_attempts
    except msgspec.MsgspecError:
        most = None
    return f" of {most:,}" if most else ""


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _instant(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
