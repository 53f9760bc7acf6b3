"""The sum of invariant I3: every job that was accepted is in one place, or has ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from headrace.operations import Snapshot


@dataclass(frozen=True, slots=True)
class Sum:
    """Where a queue's jobs are, at one instant: accepted + foreign is the sum of all others.

    Attributes:
        accepted: jobs that Headrace's producers enqueued.
        foreign: jobs that plain clients brought, less those that they took.
        pending: wait in the list.
        priority: wait by priority.
        delayed: wait for an instant.
        processing: are claimed.
        dead: are dead letters.
        done: ended well.
        cancelled: were cancelled.
        dropped: failed for good, and their task keeps no dead letters.
        purged: dead letters that an operator deleted.
    """

    accepted: int
    foreign: int
    pending: int
    priority: int
    delayed: int
    processing: int
    dead: int
    done: int
    cancelled: int
    dropped: int
    purged: int

    def parts(self) -> Iterator[tuple[str, int]]:
        """Return what accepted and foreign add up to, by name."""
        yield from ((f.name, getattr(self, f.name)) for f in fields(self)[2:])


def of(s: Snapshot) -> Sum:
    """Add up a queue."""
    count = s.counters.get
    return Sum(
        accepted=count("enqueued", 0),
        foreign=s.foreign,
        pending=s.pending,
        priority=s.priority,
        delayed=s.delayed,
        processing=s.processing,
        dead=s.dead,
        done=count("done", 0),
        cancelled=count("cancel", 0),
        dropped=count("drop", 0),
        purged=count("purged", 0),
    )


def total(sums: Sequence[Sum]) -> Sum:
    """Add up queues."""
    return Sum(*(sum(getattr(one, f.name) for one in sums) for f in fields(Sum)))


def equation(one: Sum) -> str:
    """Write it: 1,204 accepted = 3 pending + 1,201 done. What is 0 is left out, but for ``done``."""
    left = f"{one.accepted:,} accepted"
    if one.foreign:
        left += f" {'+' if one.foreign > 0 else '−'} {abs(one.foreign):,} foreign"  # noqa: RUF001
    right = [f"{count:,} {name}" for name, count in one.parts() if count or name == "done"]
    return f"{left} = {' + '.join(right)}"
