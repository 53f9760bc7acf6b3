"""A schedule as people see it: what it says, what it has done, and when its next ticks are. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from headrace.errors import InvalidSetting
from headrace.schedules.definition import Definition, read
from headrace.schedules.requests import Stored

UNDECLARED_AFTER_MS: Final = 120_000
"""So long after an application was last heard of, nobody declares its schedules: four of its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule, at one instant by Redis' clock.

    Attributes:
        name: its name.
        task: the task of its jobs; "" if the definition cannot be read.
        queue: where its jobs go.
        when: its cron expression and time zone, or its period, in words.
        missed_policy: what becomes of missed ticks: ``latest``, ``skip`` or ``all``.
        paused: it has no ticks until it goes on.
        next_at: its next tick; None while it is paused.
        fired: how many ticks fired.
        missed: how many did not.
        last_due_at: the last tick that fired …
        last_fired_at: … and when it did; None if none has.
        missed_at: when it was last noted that ticks are missed; None if none are.
        declared: it stands in the code of an application.
        declared_at: when a running application last said so; None if none has.
        undeclared: it stands in no code any more, as far as is known: no application says so.
        broken: why it has no ticks, or "".
        definition: what stands in Redis; None if that cannot be read.
    """

    name: str
    task: str = ""
    queue: str = ""
    when: str = ""
    missed_policy: str = ""
    paused: bool = False
    next_at: datetime | None = None
    fired: int = 0
    missed: int = 0
    last_due_at: datetime | None = None
    last_fired_at: datetime | None = None
    missed_at: datetime | None = None
    declared: bool = False
    declared_at: datetime | None = None
    undeclared: bool = False
    broken: str = ""
    definition: Definition | None = None

    @property
    def drift_s(self) -> float | None:
        """How late the last tick fired, seconds; None if none has."""
        if self.last_due_at is None or self.last_fired_at is None:
            return None
        return (self.last_fired_at - self.last_due_at).total_seconds()

    def ticks(self, count: int) -> list[datetime]:
        """Return the next ticks, in UTC; none while it is paused."""
        if self.next_at is None or self.definition is None:
            return []
        return [instant(ms) for ms in islice(_ticks(self.definition, _ms(self.next_at)), count)]


def schedule_of(name: str, stored: Stored, now_ms: int) -> Schedule:
    """Describe what stands in Redis."""
    state = stored.state
    broken, definition = "", None
    try:
        definition = read(stored.raw)
    except InvalidSetting as error:
        broken = str(error) if stored.raw else "it has ticks, and no definition"
    if not broken and stored.due_ms is None and not state.paused:
        broken = "it has no next tick, and is not paused"
    declared = definition is not None and definition.declared
    return Schedule(
        name=name,
        task=definition.task if definition else "",
        queue=definition.queue if definition else "",
        when=str(definition.timing) if definition else "",
        missed_policy=definition.missed if definition else "",
        paused=state.paused,
        next_at=None if stored.due_ms is None else instant(stored.due_ms),
        fired=state.fired,
        missed=state.missed,
        last_due_at=_instant_or_none(state.last_due),
        last_fired_at=_instant_or_none(state.last_fired_at),
        missed_at=_instant_or_none(state.missed_at),
        declared=declared,
        declared_at=_instant_or_none(state.declared_at),
        undeclared=declared and now_ms - state.declared_at > UNDECLARED_AFTER_MS,
        broken=broken,
        definition=definition,
    )


def instant(ms: int) -> datetime:
    """Return an instant, in UTC; one that no calendar has is the last that it has."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _instant_or_none(ms: int) -> datetime | None:
    return instant(ms) if ms else None


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _ticks(definition: Definition, first_ms: int) -> Iterator[int]:
    tick_ms = first_ms
    while True:
        yield tick_ms
        tick_ms = definition.timing.after(tick_ms)
