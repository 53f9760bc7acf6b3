"""The sum of a schedule: each of its ticks fired once, or is counted as missed; told by the jobs that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.keys import SCHEDULE_DUE, SCHEDULE_STATE
from headrace.schedules.requests import State, read_state
from headrace.schedules.timing import Timing


@dataclass(frozen=True)
class Ledger:
    """One schedule, from its first tick on.

    Attributes:
        name: its name.
        when: its ticks.
        first_ms: the first.
        loses_none: its policy is to fire each.
    """

    name: str
    when: Timing
    first_ms: int
    loses_none: bool = False

    def check(self, redis: Any, jobs: Iterable[bytes]) -> Iterator[str]:
        """Say what is wrong: jobs, as they were enqueued, and what Redis knows of the schedule.

        Nobody may fire meanwhile.
        """
        raw: bytes | None = redis.hget(SCHEDULE_STATE, self.name)
        due: float | None = redis.zscore(SCHEDULE_DUE, self.name)
        said = [msgspec.json.decode(job) for job in jobs]
        fired = [job["scheduled_at"] for job in said if job.get("schedule") == self.name]
        if due is None:
            yield f"{self.name} has no next tick"
        else:
            yield from self.faults(fired, read_state(raw or b""), int(due))

    def faults(self, fired: list[int], state: State, next_ms: int) -> Iterator[str]:
        """Say what is wrong, of ticks that fired, of its counters, and of its next tick."""
        expected, tick = [], self.first_ms
        while tick < next_ms:
            expected.append(tick)
            tick = self.when.after(tick)
        if tick != next_ms:
            yield f"{self.name}: {next_ms} is the next tick, and none of its ticks"
        for tick, count in Counter(fired).items():
            if count > 1:
                yield f"{self.name}: tick {tick} fired {count} times"
        if odd := set(fired).difference(expected):
            yield f"{self.name}: {sorted(odd)[:5]} fired, and are not its ticks, or not yet"
        if state.fired != len(fired):
            yield f"{self.name}: {state.fired} fired by Redis' count, and there are {len(fired)} jobs"
        if len(expected) != len(fired) + state.missed:
            lost = len(expected) - len(fired) - state.missed
            yield f"{self.name}: of {len(expected)} ticks {lost} neither fired nor are counted as missed"
        if self.loses_none and state.missed:
            yield f"{self.name}: {state.missed} are missed, and each was to fire"
