"""Judges a queue: is every job in one place, and will each that waits be run? A row is a check. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from headrace.doctor.finding import Check, Finding, judge
from headrace.doctor.humanize import command, counted, failure, some, span, subject, verb
from headrace.doctor.keyspace import WrongType
from headrace.doctor.queue import CheckedQueue, QueueFacts
from headrace.keys import keys_of
from headrace.workflows.keys import unfinished_of

_LATE_S: Final = 5.0
"""How late the leader may be. It looks every second; a change of leader takes three more."""

_OLD_S: Final = 3_600.0
_LETTER: Final = 200  # characters that are shown of why a job is dead


def _about(q: QueueFacts) -> str:
    """What is read in steps is not read at one instant."""
    return "" if q.fit.steps == 1 else "about "


def _unless_nobody_leads(why: str) -> Callable[[QueueFacts], str]:
    return lambda q: why if q.server.leader else "Nobody leads: no consumer and no server runs."


def _start(q: QueueFacts) -> str:
    start = "start a consumer (headrace consume) or a server (headrace serve)"
    return "" if q.server.leader else start


def _twins(q: QueueFacts) -> list[str]:
    return [f"{i} ({', '.join(where)})" for i, where in sorted(q.scan.twins.items())]


def _malformed(q: QueueFacts) -> int:
    """Count what is no job among those that wait."""
    places = q.scan.malformed.items()
    return sum(n for place, n in places if place not in {"dead", "processing"})


def _waits(q: QueueFacts) -> str:
    return subject(q.snapshot.waiting, "job", "waits", "wait")


def _waits_since(q: QueueFacts) -> str:
    age_s = q.snapshot.oldest_s
    return _waits(q) + ("" if age_s is None else f", the oldest for {span(age_s)}")


def _is_served(q: QueueFacts) -> bool:
    """Whether jobs wait, and there may be consumers for them."""
    return q.snapshot.waiting > 0 and not q.server.connections.no_consumer


def _newest(q: QueueFacts) -> str:
    if q.newest is None:
        return ""
    said = ", ".join(filter(None, (q.newest.reason, failure(q.newest))))
    return f", the newest: {said}".partition("\n")[0][:_LETTER]


def _foreign(q: QueueFacts) -> str:
    brought, took = ("brought", "took") if q.snapshot.foreign > 0 else ("took", "brought")
    return (
        f"plain clients {brought} {counted(abs(q.snapshot.foreign), 'job')} more than they {took}"
    )


_QUEUE: Final[tuple[Check[QueueFacts], ...]] = (
    Check("claim_without_lease", "problem", lambda q: q.fit.unleased,
          lambda q: f"{_about(q)}{counted(q.fit.unleased, 'claim')} in processing "
          f"{verb(q.fit.unleased)} without a lease",
          "If its consumer dies, such a job never runs again.", mends=True),
    Check("lease_without_claim", "warning", lambda q: q.fit.unclaimed,
          lambda q: f"{_about(q)}{subject(q.fit.unclaimed, 'lease')} without a claim",
          "Its job is looked after by nobody until the sweep finds it.", mends=True),
    Check("claim_without_item", "note", lambda q: q.fit.gone,
          lambda q: f"{_about(q)}{subject(q.fit.gone, 'claimed job')} not in processing any more",
          "A plain LREM took it; the claim goes when its lease ends.", mends=True),
    Check("claim_unreadable", "problem", lambda q: q.fit.unreadable,
          lambda q: f"{counted(q.fit.unreadable, 'claim')} cannot be read",
          "Another program writes there; what it means nobody knows.",
          lambda q: f"redis-cli HGETALL {keys_of(q.snapshot.queue).claims}"),
    Check("bare", lambda q: "note" if q.server.leader else "problem", lambda q: q.fit.bare,
          lambda q: f"{_about(q)}{counted(q.fit.bare, 'job')} in processing {verb(q.fit.bare)} "
          "without a lease",
          lambda q: "Moved there a moment ago, or by a plain client: the sweep gives it a lease."
          if q.server.leader else "Nobody sweeps, so such a job never runs again if its consumer died.",
          mends=True),
    Check("fit", "ok", lambda q: not q.fit.bare and not q.fit.wrong,
          lambda q: f"{counted(q.fit.items, 'job')} in processing, each with its claim and its lease"
          if q.fit.items else "nothing is in processing"),
    Check("lease_expired", "problem", lambda q: q.expired and q.expired_s > _LATE_S,
          lambda q: f"{counted(q.expired, 'lease')} ran out, the first {span(q.expired_s)} ago, "
          "and nothing came of it",
          _unless_nobody_leads(
              "The leader waits a grace after a pause of Redis, or does not sweep this queue."),
          _start, mends=True),
    Check("delayed_overdue", "problem", lambda q: q.overdue and q.overdue_s > _LATE_S,
          lambda q: f"{subject(q.overdue, 'delayed job')} due, the first since {span(q.overdue_s)}",
          _unless_nobody_leads("The leader does not promote the jobs of this queue."),
          _start, mends=True),
    Check("equal_ids", "warning", lambda q: q.scan.twins,
          lambda q: f"{subject(len(q.scan.twins), 'id', 'stands', 'stand')} more than once: "
          f"{some(_twins(q))}",
          "Somebody pushed a copy; each of them runs.",
          "look at them, and LREM what should not be: headrace explain ID"),
    Check("malformed", "warning", _malformed,
          lambda q: f"{counted(_malformed(q), 'entry', 'entries')} among those that wait "
          f"{verb(_malformed(q))} no job",
          "A consumer puts such bytes into the dead letters, exactly as they are.",
          "mend the producer: a job is a JSON object with a task"),
    Check("sample", "note", lambda q: q.scan.looked_at < q.scan.total,
          lambda q: f"of its jobs, {q.scan.looked_at:,} of {q.scan.total:,} were read",
          "Equal ids among the others are not seen.", "--sample 0"),
    Check("paused", lambda q: "warning" if q.snapshot.waiting else "note", lambda q: q.snapshot.paused,
          lambda q: f"it is paused, and {_waits(q)}",
          todo=lambda q: command("resume", of=q.snapshot.queue)),
    Check("no_consumer", "problem",
          lambda q: q.snapshot.waiting and q.server.connections.no_consumer,
          lambda q: f"{_waits_since(q)}, and no consumer is connected",
          todo="headrace consume, with your application"),
    Check("old", "warning", lambda q: _is_served(q) and (q.snapshot.oldest_s or 0) > _OLD_S,
          _waits_since, "Consumers are too few, too slow, or serve other queues.",
          lambda q: command("info", "--watch", of=q.snapshot.queue)),
    Check("waiting", "ok", lambda q: _is_served(q) and (q.snapshot.oldest_s or 0) <= _OLD_S,
          _waits_since),
    Check("holder_away", "note", lambda q: q.away,
          lambda q: f"{subject(len(q.away), 'consumer', 'holds', 'hold')} jobs "
          f"without a connection: {some(q.away)}",
          "Their jobs run again when their leases end, sooner if the leader saw them connected."),
    Check("dead", "note", lambda q: q.snapshot.dead,
          lambda q: f"{counted(q.snapshot.dead, 'dead letter')}{_newest(q)}",
          todo=lambda q: command("dlq", "list", of=q.snapshot.queue)),
    Check("workflows", "note", lambda q: q.workflows,
          lambda q: f"{subject(q.workflows, 'workflow')} not over, the first began "
          f"{span(q.workflows_s)} ago",
          "Each stays until its last member has ended, or it is cancelled.",
          lambda q: f"redis-cli ZRANGE {unfinished_of(keys_of(q.snapshot.queue))} 0 9 WITHSCORES; "
          "headrace workflow ID"),
    Check("moving", "warning", lambda q: q.moving,
          lambda q: f"{subject(q.moving, 'job')} on the way to another server",
          "Unless somebody moves the queue now, they wait until somebody goes on.",
          lambda q: command("move", q.snapshot.queue, "--to", "URL") + ", as before: it goes on there"),
    Check("foreign", "note", lambda q: q.snapshot.foreign, _foreign,
          "With Headrace alone this is 0.", lambda q: command("audit", of=q.snapshot.queue)),
    Check("endless", "warning", lambda q: q.endless,
          lambda q: f"{subject(len(q.endless), 'key', 'lacks', 'lack')} an expiry: {some(q.endless)}",
          "They stay for ever.", mends=True),
)  # fmt: skip

_ACCESS: Final[tuple[Check[CheckedQueue], ...]] = (
    Check("unregistered", "problem", lambda q: q.is_stray, "it holds jobs, and is not in the registry",
          "Only plain clients have used it, so nobody sweeps it, and headrace info does not show it.",
          lambda q: f"{command('consume', f'--queues={q.name}')}, if its name is no mistake",
          mends=True),
    Check("unreadable", "problem", lambda q: q.refused,
          lambda q: f"it cannot be looked at: {q.refused}"),
)  # fmt: skip

_WRONG_TYPE: Final[tuple[Check[WrongType], ...]] = (
    Check("wrong_type", "problem", bool,
          lambda w: f"the key {w.key} is a {w.found}, and should be a {w.expected}",
          "Another program uses that name; Headrace's scripts refuse to touch it.",
          lambda w: f"redis-cli RENAME {w.key} {w.key}.old, if nobody needs it; or use another "
          "database"),
)  # fmt: skip


def judge_queue(checked: CheckedQueue) -> Iterator[Finding]:
    """Judge a queue."""
    yield from judge(_ACCESS, checked, checked.name)
    yield from judge_types(checked.wrong, checked.name)
    if checked.facts is not None:
        yield from judge(_QUEUE, checked.facts, checked.name)


def judge_types(wrong: Iterable[WrongType], queue: str = "") -> Iterator[Finding]:
    """Judge keys that are of a wrong type."""
    for one in wrong:
        yield from judge(_WRONG_TYPE, one, queue)
