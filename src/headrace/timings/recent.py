"""The last minutes of a queue: what its jobs came to, minute by minute, and task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace import operations as op
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation, command, unfailed
from headrace.timings import tally
from headrace.timings.keys import minutes_of, timings_of
from headrace.timings.requests import KEPT_MIN, STEP_MIN
from headrace.timings.tally import Tally

_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Recent:
    """What the jobs came to that have ended lately.

    Attributes:
        now_ms: the instant, by Redis' clock, ms since 1970.
        minutes: by the minute, ms since 1970 of its begin; the oldest first, one for each.
        tasks: by task; of whole steps of ten minutes, so of up to ten minutes more.
    """

    now_ms: int
    minutes: dict[int, Tally]
    tasks: dict[str, Tally]


def recent(queues: Sequence[Keys], minutes: int) -> Flow[Recent]:
    """Read the last minutes of queues, as one: so many, the one under way among them."""
    now, *names = unfailed((yield [op.time_ms(), *map(_tasks, queues)]))
    minute = int(now) // _MINUTE_MS
    asked = range(minute - minutes + 1, minute + 1)
    parts = range(asked[0] // STEP_MIN, minute // STEP_MIN + 1)
    parts = parts[
        -(KEPT_MIN // STEP_MIN) :
    ]  # of a day that begins within a step, the ring has no more
    by_minute = [(at, str(at % KEPT_MIN)) for at in asked]
    reads: list[Operation[Any]] = []
    for k, tasks in zip(queues, names, strict=True):
        of_tasks = [_part(at, task) for task in tasks for at in parts]
        reads.append(
            command("HMGET", minutes_of(k), *(f for _, f in by_minute), *of_tasks, parse=list)
        )
    found: dict[int, list[Tally]] = {at: [] for at in asked}
    of_task: dict[bytes, list[Tally]] = {}
    for tasks, answers in zip(names, unfailed((yield reads)), strict=True):
        cells = iter(answers)
        for at in asked:
            found[at] += _of(next(cells), at)
        for task in tasks:
            of_task.setdefault(task, []).extend(one for at in parts for one in _of(next(cells), at))
    return Recent(
        int(now),
        {at * _MINUTE_MS: tally.total(some) for at, some in found.items()},
        {
            task.decode(errors="replace"): tally.total(some)
            for task, some in sorted(of_task.items())
            if some
        },
    )


def _tasks(k: Keys) -> Operation[list[bytes]]:
    return command("HKEYS", timings_of(k), parse=list)


def _part(at: int, task: bytes) -> bytes:
    return b"%d %b" % (at % (KEPT_MIN // STEP_MIN), task)


def _of(raw: bytes | None, at: int) -> list[Tally]:
    """Read a place in the ring; nothing if what stands there is of another day."""
    of, _, numbers = (raw or b"").partition(b" ")
    return [tally.read(numbers)] if of == str(at).encode() else []
