"""The last minutes of a queue: what its jobs came to, minute by minute, and task by task.

A day of many tasks in many partitions is millions of numbers. They are read some at a time, each time in a
round trip, so that an event loop serves others between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Final, NamedTuple

from headrace import operations as op
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation, command, unfailed
from headrace.timings import tally
from headrace.timings.keys import minutes_of, timings_of
from headrace.timings.requests import KEPT_MIN, STEP_MIN
from headrace.timings.tally import Tally

AT_ONCE: Final = 500
"""So many places of rings are read in one round trip: about a hundredth of a second to make sense of."""

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


class _Place(NamedTuple):
    """A place in the ring of a queue: what its field is, of when it is wanted, and to which sums it is added."""

    k: Keys
    field: bytes
    at: int
    sums: tuple[Tally, ...]


def recent(queues: Sequence[Keys], minutes: int) -> Flow[Recent]:
    """Read the last minutes of queues, as one: so many, the one under way among them."""
    now, *names = unfailed((yield [op.time_ms(), *map(_tasks, queues)]))
    minute = int(now) // _MINUTE_MS
    by_minute = {at: tally.empty() for at in range(minute - minutes + 1, minute + 1)}
    steps = range((minute - minutes + 1) // STEP_MIN, minute // STEP_MIN + 1)
    # Of a day that begins within a step, the ring has no more.
    steps = steps[-(KEPT_MIN // STEP_MIN) :]
    by_task = _nothing_of(names)
    of_minutes = (
        _Place(k, b"%d" % (at % KEPT_MIN), at, (into,))
        for k in queues
        for at, into in by_minute.items()
    )
    of_tasks = _of_tasks(queues, names, dict.fromkeys(steps), by_task)
    yield from _add_up(chain(of_minutes, of_tasks))
    return Recent(
        int(now),
        {at * _MINUTE_MS: one for at, one in by_minute.items()},
        _named(by_task),
        steps[0] * STEP_MIN * _MINUTE_MS,
        any(names),
    )


def recent_by_ten(queues: Sequence[Keys], minutes: int) -> Flow[Recent]:
    """Read the last minutes of queues, as one, by ten: the same numbers, and a fraction of the reading."""
    now, *names = unfailed((yield [op.time_ms(), *map(_tasks, queues)]))
    step = int(now) // _MINUTE_MS // STEP_MIN
    by_step = {at: tally.empty() for at in range(step - minutes // STEP_MIN + 1, step + 1)}
    by_task = _nothing_of(names)
    yield from _add_up(_of_tasks(queues, names, by_step, by_task))
    length_ms = STEP_MIN * _MINUTE_MS
    by_ten = {at * length_ms: one for at, one in by_step.items()}
    return Recent(int(now), by_ten, _named(by_task), min(by_ten), any(names))


def _add_up(places: Iterable[_Place]) -> Flow[None]:
    """Read places, ``AT_ONCE`` in a round trip, and add what stands there to their sums."""
    rest = iter(places)
    while some := list(islice(rest, AT_ONCE)):
        reads = [
            command("HMGET", minutes_of(k), *(one.field for one in asked), parse=list)
            for k, asked in groupby(some, key=lambda one: one.k)
        ]
        found = chain.from_iterable(unfailed((yield reads)))
        for place, raw in zip(some, found, strict=True):
            of, _, numbers = (raw or b"").partition(b" ")
            if of == b"%d" % place.at:  # else it is of another day
                counts = tally.read(numbers)
                for into in place.sums:
                    tally.add(into, counts)


def _of_tasks(
    queues: Sequence[Keys],
    names: Sequence[list[bytes]],
    steps: Mapping[int, Tally | None],
    by_task: Mapping[bytes, Tally],
) -> Iterator[_Place]:
    """Return the places of tasks: to the sums of which tasks they are added, and of which steps, if of any."""
    for k, tasks in zip(queues, names, strict=True):
        for task in tasks:
            for at, step in steps.items():
                sums = (by_task[task],) if step is None else (by_task[task], step)
                yield _Place(k, b"%d %b" % (at % (KEPT_MIN // STEP_MIN), task), at, sums)


def _nothing_of(names: Iterable[Iterable[bytes]]) -> dict[bytes, Tally]:
    return {task: tally.empty() for task in sorted({*chain.from_iterable(names)})}


def _named(by_task: Mapping[bytes, Tally]) -> dict[str, Tally]:
    """Return the sums of the tasks that have anything."""
    return {task.decode(errors="replace"): one for task, one in by_task.items() if any(one)}


def _tasks(k: Keys) -> Operation[list[bytes]]:
    return command("HKEYS", timings_of(k), parse=list)
