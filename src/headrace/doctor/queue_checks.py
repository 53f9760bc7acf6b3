"""Judges a queue: is every job in one place, and will each that waits for somebody be run? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from headrace.doctor.connections import Connections
from headrace.doctor.finding import Finding
from headrace.doctor.queue import QueueFacts
from headrace.doctor.words import be, command, counted, span
from headrace.keys import keys_of

PATIENCE_S: Final = 5.0
"""How late the leader may be. It looks every second; a change of leader takes three more."""

OLD_S: Final = 3_600.0
_NAMED: Final = 3  # of many ids, keys or consumers, so many are named


def judge(facts: QueueFacts, *, leader: str, connections: Connections | None) -> list[Finding]:
    """Judge a queue.

    Args:
        facts: the queue.
        leader: who sweeps; "" if nobody.
        connections: who is connected; None if unknown.
    """
    found = [
        *_fit(facts),
        *_bare(facts, leader),
        *_time(facts, leader),
        *_jobs(facts),
        *_waiting(facts, connections),
        *_holders(facts, connections),
        *_rest(facts),
    ]
    return [_of(facts.snapshot.queue, finding) for finding in found]


def _of(queue: str, finding: Finding) -> Finding:
    fields: dict[str, Any] = {name: getattr(finding, name) for name in finding.__slots__}
    return Finding(**fields | {"queue": queue})


def _fit(facts: QueueFacts) -> Iterator[Finding]:
    fit, about = facts.fit, "" if facts.at_once else "about "
    if fit.unleased:
        yield Finding(
            "problem",
            "claim_without_lease",
            f"{about}{counted(fit.unleased, 'claim')} in processing {be(fit.unleased)} without a lease",
            "If its consumer dies, such a job never runs again.",
            mends=True,
        )
    if fit.unclaimed:
        yield Finding(
            "warning",
            "lease_without_claim",
            f"{about}{counted(fit.unclaimed, 'lease')} {be(fit.unclaimed)} without a claim",
            "Its job is looked after by nobody until the sweep finds it.",
            mends=True,
        )
    if fit.gone:
        yield Finding(
            "note",
            "claim_without_item",
            f"{about}{counted(fit.gone, 'claimed job')} {be(fit.gone)} not in processing any more",
            "A plain LREM took it; the claim goes when its lease ends.",
            mends=True,
        )
    if fit.unreadable:
        yield Finding(
            "problem",
            "claim_unreadable",
            f"{counted(fit.unreadable, 'claim')} cannot be read",
            "Another program writes there; what it means nobody knows.",
            f"redis-cli HGETALL {keys_of(facts.snapshot.queue).claims}",
        )


def _bare(facts: QueueFacts, leader: str) -> Iterator[Finding]:
    fit, about = facts.fit, "" if facts.at_once else "about "
    if facts.bare:
        found = (
            f"{about}{counted(facts.bare, 'job')} in processing {be(facts.bare)} without a lease"
        )
        why = "Moved there a moment ago, or by a plain client: the sweep gives it a lease."
        if not leader:
            why = "Nobody sweeps, so such a job never runs again if its consumer died."
        yield Finding("note" if leader else "problem", "bare", found, why, mends=True)
    elif not (fit.unleased or fit.unclaimed or fit.gone or fit.unreadable):
        items = f"{counted(fit.items, 'job')} in processing, each with its claim and its lease"
        yield Finding("ok", "fit", items if fit.items else "nothing is in processing")


def _time(facts: QueueFacts, leader: str) -> Iterator[Finding]:
    nobody = "Nobody leads: no consumer and no server runs." if not leader else ""
    todo = "start a consumer (headrace consume) or a server (headrace serve)" if not leader else ""
    if facts.expired and facts.expired_s > PATIENCE_S:
        ago = span(facts.expired_s)
        yield Finding(
            "problem",
            "lease_expired",
            f"{counted(facts.expired, 'lease')} ran out, the first {ago} ago, and nothing came of it",
            nobody
            or "The leader waits a grace after a pause of Redis, or does not sweep this queue.",
            todo,
            mends=True,
        )
    due_at_ms, now_ms = facts.snapshot.due_at_ms, facts.snapshot.now_ms
    if facts.overdue and due_at_ms is not None and now_ms - due_at_ms > PATIENCE_S * 1000:
        yield Finding(
            "problem",
            "delayed_overdue",
            f"{counted(facts.overdue, 'delayed job')} {be(facts.overdue)} due, "
            f"the first since {span((now_ms - due_at_ms) / 1000)}",
            nobody or "The leader does not promote the jobs of this queue.",
            todo,
            mends=True,
        )


def _jobs(facts: QueueFacts) -> Iterator[Finding]:
    census = facts.census
    if census.twins:
        named = [f"{i} ({', '.join(where)})" for i, where in sorted(census.twins.items())[:_NAMED]]
        more = "…" if len(census.twins) > _NAMED else ""
        yield Finding(
            "warning",
            "equal_ids",
            f"{counted(len(census.twins), 'id')} "
            f"{'stands' if len(census.twins) == 1 else 'stand'} more than once: {', '.join(named)}{more}",
            "Somebody pushed a copy; each of them runs.",
            "look at them, and LREM what should not be: headrace explain ID",
        )
    waiting = sum(n for place, n in census.malformed.items() if place not in ("dead", "processing"))
    if waiting:
        yield Finding(
            "warning",
            "malformed",
            f"{counted(waiting, 'entry', 'entries')} among those that wait {be(waiting)} no job",
            "A consumer puts such bytes into the dead letters, exactly as they are.",
            "mend the producer: a job is a JSON object with a task",
        )
    if census.looked_at < census.total:
        found = f"of its jobs, {census.looked_at:,} of {census.total:,} were read"
        yield Finding(
            "note", "sample", found, "Equal ids among the others are not seen.", "--sample 0"
        )


def _waiting(facts: QueueFacts, connections: Connections | None) -> Iterator[Finding]:
    s = facts.snapshot
    jobs = counted(s.waiting, "job")
    if s.paused:
        found = f"it is paused, and {jobs} {'waits' if s.waiting == 1 else 'wait'}"
        severity = "warning" if s.waiting else "note"
        yield Finding(severity, "paused", found, "", command("resume", of=s.queue))  # type: ignore[arg-type]
    if not s.waiting:
        return
    age_s = s.oldest_s
    age = "" if age_s is None else f", the oldest for {span(age_s)}"
    found = f"{jobs} {'waits' if s.waiting == 1 else 'wait'}{age}"
    if connections is not None and not connections.consumers:
        todo = "headrace consume, with your application"
        yield Finding("problem", "no_consumer", f"{found}, and no consumer is connected", "", todo)
    elif age_s is not None and age_s > OLD_S:
        why = "Consumers are too few, too slow, or serve other queues."
        yield Finding("warning", "old", found, why, command("info", "--watch", of=s.queue))
    else:
        yield Finding("ok", "waiting", found)


def _holders(facts: QueueFacts, connections: Connections | None) -> Iterator[Finding]:
    away = sorted(facts.owners - connections.consumers) if connections is not None else []
    if away:
        named = ", ".join(away[:_NAMED]) + ("…" if len(away) > _NAMED else "")
        yield Finding(
            "note",
            "holder_away",
            f"{counted(len(away), 'consumer')} {'holds' if len(away) == 1 else 'hold'} jobs "
            f"without a connection: {named}",
            "Their jobs run again when their leases end, sooner if the leader saw them connected.",
        )


def _rest(facts: QueueFacts) -> Iterator[Finding]:
    s = facts.snapshot
    if s.dead:
        newest = ""
        if facts.newest is not None:
            what = ": ".join(part for part in (facts.newest.type, facts.newest.message) if part)
            newest = f", the newest: {facts.newest.reason}{f', {what}' if what else ''}"
        found = f"{counted(s.dead, 'dead letter')}{newest.partition(chr(10))[0][:200]}"
        yield Finding("note", "dead", found, "", command("dlq", "list", of=s.queue))
    if s.foreign:
        verb = "brought" if s.foreign > 0 else "took"
        yield Finding(
            "note",
            "foreign",
            f"plain clients {verb} {counted(abs(s.foreign), 'job')} more than they "
            f"{'took' if s.foreign > 0 else 'brought'}",
            "With Headrace alone this is 0.",
            command("audit", of=s.queue),
        )
    if facts.endless:
        count, named = len(facts.endless), ", ".join(facts.endless[:_NAMED])
        yield Finding(
            "warning",
            "endless",
            f"{counted(count, 'key')} {'lacks' if count == 1 else 'lack'} an expiry: {named}"
            f"{'…' if count > _NAMED else ''}",
            "They stay for ever.",
            mends=True,
        )
