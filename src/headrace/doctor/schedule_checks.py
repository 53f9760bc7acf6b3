"""Schedules: do their ticks fire, and does anybody declare those that stood in code?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from headrace import keys
from headrace import operations as op
from headrace.doctor.finding import Check, Finding, judge
from headrace.doctor.humanize import command, counted, instant, span
from headrace.doctor.keyspace import Keyspace
from headrace.errors import StoreRefused
from headrace.flows import Flow
from headrace.schedules import Schedule, changes

_OVERDUE_S: Final = 10.0
"""Twice the time that it takes until another one leads."""

_KEYS: Final = {keys.SCHEDULES, keys.SCHEDULE_DUE, keys.SCHEDULE_STATE}


class CheckedSchedule(NamedTuple):
    """A schedule, and when it was looked at, by Redis' clock."""

    schedule: Schedule
    now_ms: float

    @property
    def overdue_s(self) -> float:
        """For how long its next tick has been due, seconds; 0 if it is not."""
        at = self.schedule.next_at
        return 0.0 if at is None else max(0.0, self.now_ms / 1000 - at.timestamp())

    @property
    def ahead(self) -> bool:
        """Whether its next tick is later than the first one after now."""
        at, definition = self.schedule.next_at, self.schedule.definition
        if at is None or definition is None:
            return False
        return at.timestamp() * 1000 > definition.timing.after(int(self.now_ms)) + 1


def look(space: Keyspace) -> Flow[tuple[CheckedSchedule, ...]]:
    """Read all schedules, if their keys can be read."""
    if any(one.key in _KEYS for one in space.wrong):
        return ()
    try:
        found: list[Schedule] = yield from changes.all_schedules()
        now_ms: float = yield op.time_ms()
    except StoreRefused:  # it is told of the keys
        return ()
    return tuple(CheckedSchedule(one, now_ms) for one in found)


def judge_schedules(checked: tuple[CheckedSchedule, ...]) -> Iterator[Finding]:
    """Return what was found: of all together, then of each."""
    if checked:
        paused = sum(one.schedule.paused for one in checked)
        said = f"{counted(len(checked), 'schedule')}, {paused:,} of them paused"
        yield Finding("ok", "schedules", said)
    for one in checked:
        yield from judge(_CHECKS, one)


_CHECKS: Final[tuple[Check[CheckedSchedule], ...]] = (
    Check("schedule_broken", "problem", lambda c: c.schedule.broken,
          lambda c: f"schedule {c.schedule.name} has no ticks: {c.schedule.broken}",
          "Its jobs are not enqueued until that is mended.",
          lambda c: f"{command('schedule', 'add', '--replace', of=c.schedule.name)} …, or remove it"),
    Check("schedule_overdue", "problem",
          lambda c: c.overdue_s > _OVERDUE_S and not c.schedule.broken,
          lambda c: f"schedule {c.schedule.name} has been due for {span(c.overdue_s)}",
          "Nobody fires it: nobody leads, or Redis refuses to whoever does, as its log says.",
          "headrace consume, with your application; or headrace serve"),
    Check("schedule_ahead", "warning", lambda c: c.ahead,
          lambda c: f"schedule {c.schedule.name} passes over ticks: its next one is in {_until(c)}",
          "Redis' clock was ahead for a while, and its ticks up to then have fired or are missed.",
          lambda c: f"{command('schedule', 'pause', of=c.schedule.name)}, and resume it"),
    Check("schedule_undeclared", "warning", lambda c: c.schedule.undeclared,
          lambda c: f"schedule {c.schedule.name} is not declared by any application that runs",
          "It stood in code, and goes on: its jobs may find nobody who knows their task.",
          lambda c: command("schedule", "remove", of=c.schedule.name)),
    Check("schedule_missed", "note", lambda c: c.schedule.missed_at,
          lambda c: f"{counted(c.schedule.missed, 'tick')} of schedule {c.schedule.name} "
          f"did not fire, the last known of at {_instant(c)}",
          lambda c: f"Its policy is {c.schedule.missed_policy}: nobody led when they were due."),
)  # fmt: skip


def _until(c: CheckedSchedule) -> str:
    at = c.schedule.next_at
    return "" if at is None else span(at.timestamp() - c.now_ms / 1000)


def _instant(c: CheckedSchedule) -> str:
    at = c.schedule.missed_at
    return "" if at is None else instant(round(at.timestamp() * 1000))
