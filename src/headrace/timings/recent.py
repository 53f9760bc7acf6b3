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
        minutes: by the minute, or by ten of them, ms since 1970 of its begin; the oldest first, one for each.
        tasks: by task; of whole steps of ten minutes, so of up to ten minutes more.
        tasks_from_ms: when the first of those began, ms since 1970.
        told: whether anything was told, however long ago.
    """

    now_ms: int
    minutes: dict[int, Tally]
    tasks: dict[str, Tally]
    tasks_from_ms: int
    told: bool


def recent(queues: Sequence[Keys], minutes: int) -> Flow[Recent]:
    """Read the last minutes of queues, as one: so many, the one under way among them."""
    now, *names = unfailed((yield [op.time_ms(), *map(_tasks, queues)]))
    minute = int(now) // _MINUTE_MS
    asked = range(minute - minutes + 1, minute + 1)
    steps = range(asked[0] // STEP_MIN, minute // STEP_MIN + 1)
    # Of a day that begins within a step, the ring has no more.
    steps = steps[-(KEPT_MIN // STEP_MIN) :]
    reads = [
        command("HMGET", minutes_of(k), *(str(at % KEPT_MIN) for at in asked), parse=list)
        for k in queues
    ]
    found = unfailed((yield [*reads, *_of_tasks(queues, names, steps)]))
    by_minute = [
        tally.total(one for cells in found[: len(queues)] for one in _of(cells[n], at))
        for n, at in enumerate(asked)
    ]
    _, tasks = _together(names, steps, found[len(queues) :])
    return Recent(
        int(now),
        {at * _MINUTE_MS: one for at, one in zip(asked, by_minute, strict=True)},
        tasks,
        steps[0] * STEP_MIN * _MINUTE_MS,
        any(names),
    )


def recent_by_ten(queues: Sequence[Keys], minutes: int) -> Flow[Recent]:
    """Read the last minutes of queues, as one, by ten: the same numbers, and a fraction of the reading."""
    now, *names = unfailed((yield [op.time_ms(), *map(_tasks, queues)]))
    step = int(now) // _MINUTE_MS // STEP_MIN
    steps = range(step - minutes // STEP_MIN + 1, step + 1)
    found = unfailed((yield _of_tasks(queues, names, steps))) if any(names) else []
    by_step, tasks = _together(names, steps, found)
    length_ms = STEP_MIN * _MINUTE_MS
    minutes_of_steps = {at * length_ms: one for at, one in zip(steps, by_step, strict=True)}
    return Recent(int(now), minutes_of_steps, tasks, steps[0] * length_ms, any(names))


def _of_tasks(
    queues: Sequence[Keys], names: Sequence[list[bytes]], steps: range
) -> list[Operation[Any]]:
    """Return what reads the steps of each task, in their order; nothing for queues that have none."""
    return [
        command("HMGET", minutes_of(k), *(_part(at, task) for task in tasks for at in steps), parse=list)
        for k, tasks in zip(queues, names, strict=True)
        if tasks
    ]  # fmt: skip


def _together(
    names: Sequence[list[bytes]], steps: range, answers: Sequence[list[bytes | None]]
) -> tuple[list[Tally], dict[str, Tally]]:
    """Sum up what was read of the steps of tasks: by step, and by task; of those that have anything."""
    by_step: list[list[Tally]] = [[] for _ in steps]
    by_task: dict[bytes, list[Tally]] = {}
    for tasks, cells in zip(filter(None, names), answers, strict=True):
        rest = iter(cells)
        for task in tasks:
            for at, into in zip(steps, by_step, strict=True):
                some = _of(next(rest), at)
                into.extend(some)
                by_task.setdefault(task, []).extend(some)
    totals = {
        task.decode(errors="replace"): tally.total(some)
        for task, some in sorted(by_task.items())
        if some
    }
    return [tally.total(some) for some in by_step], totals


def _tasks(k: Keys) -> Operation[list[bytes]]:
    return command("HKEYS", timings_of(k), parse=list)


def _part(at: int, task: bytes) -> bytes:
    return b"%d %b" % (at % (KEPT_MIN // STEP_MIN), task)


def _of(raw: bytes | None, at: int) -> list[Tally]:
    """Read a place in the ring; nothing if what stands there is of another day."""
    of, _, numbers = (raw or b"").partition(b" ")
    return [tally.read(numbers)] if of == str(at).encode() else []
