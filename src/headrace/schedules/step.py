"""What a leader does about a schedule whose tick is due. Pure; the script ``tick`` carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace.schedules.definition import Definition
from headrace.scripts import MAX_BYTES

MISSED_AFTER_MS: Final = 10_000
"""With ``skip`` a tick fires so late at most: longer than it takes until another one leads, 5 s."""

_LOOKS: Final = 500  # ticks that one step looks at: 25 ms for a cron expression
_JOBS: Final = 100  # that one step enqueues


@dataclass(frozen=True, slots=True)
class Step:
    """One call of ``tick``.

    Attributes:
        due_ms: the tick that was due.
        fires: the ticks that fire.
        missed: how many do not.
        last_ms: the last of all these.
        next_ms: the tick after it.
    """

    due_ms: int
    fires: tuple[int, ...]
    missed: int
    last_ms: int
    next_ms: int


def step(definition: Definition, due_ms: int, now_ms: int) -> Step:
    """Decide which of the ticks up to now fire.

    Usually one is due. After a time without a leader there are more: of these, ``latest`` fires the
    last one, ``skip`` does so only if it is still in time, and ``all`` fires each. A step is bounded;
    when it leaves ticks that are due, another one follows at once.

    Args:
        definition: the schedule.
        due_ms: its tick that is due.
        now_ms: the time by Redis' clock.

    Raises:
        InvalidSetting: there is no next tick.
    """
    after, most = definition.timing.after, _LOOKS
    if definition.missed == "all":
        most = max(1, min(_JOBS, MAX_BYTES // (len(bytes(definition.job)) + 200)))
    ticks = [due_ms]
    while (following := after(ticks[-1])) <= now_ms and len(ticks) < most:
        ticks.append(following)
    fires = tuple(ticks)
    if definition.missed != "all":
        late_ms = now_ms - ticks[-1]
        in_time = definition.missed == "latest" or late_ms <= MISSED_AFTER_MS
        # One that is not the last before now is overtaken by those that follow.
        fires = fires[-1:] if in_time and following > now_ms else ()
    return Step(due_ms, fires, len(ticks) - len(fires), ticks[-1], following)
