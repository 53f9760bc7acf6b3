"""The last minutes of a queue: what its jobs came to, minute by minute, and task by task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from headrace import operations as op
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation, command, unfailed
from headrace.timings import tally
from headrace.timings.keys import timings_of
from headrace.timings.places import Row, add_up
from headrace.timings.requests import KEPT_MIN, STEP_MIN
from headrace.timings.tally import Tally

MOST_PLACES: Final = 100_000
"""So many places are read for one answer, half a second to one in all; of queues beyond that none is."""

_LEAST_EACH: Final = (
    10  # places that a task counts as at least: its name and its sum stay in memory
)
_NAMES_AT_ONCE: Final = 100  # queues whose tasks are asked for in one round trip
_MINUTE_MS: Final = 60_000
_SLICE_MIN: Final = 60  # of a queue, then of the next: so those of one time are added at once
_MOST_KEPT: Final = 4  # of a MB and a half at the very most


@dataclass(frozen=True, slots=True)
class Recent:
    """What the jobs came to that have ended lately.

    Attributes:
        now_ms: the instant, by Redis' clock, ms since 1970.
        minutes: by the minute, or by ten of them, ms since 1970 of its begin; the oldest first, one for each.
        tasks: by task; of whole steps of ten minutes, so of up to ten minutes more.
        tasks_from_ms: when the first of those began, ms since 1970.
        told: whether anything was told, however long ago.
        queues: how many of the queues were read, from the first: ``MOST_PLACES``, or one.
    """

    now_ms: int
    minutes: dict[int, Tally]
    tasks: dict[str, Tally]
    tasks_from_ms: int
    told: bool
    queues: int = 1


class _Sums(NamedTuple):
    """Sums of steps of ten minutes: by step, and by task."""

    by_step: dict[int, Tally]
    by_task: dict[bytes, Tally]


class Kept:
    """What was over when it was read, of the last few that were asked for: nobody tells of the past.

    So a page that is looked at again and again reads a day once, and then what is new.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, tuple[str, ...]], tuple[range, _Sums]] = {}

    def find(self, queues: Sequence[Keys], steps: range, tasks: Iterable[bytes]) -> _Sums | None:
        """Return the sums of these steps; None if they are not kept, or of tasks that are forgotten since."""
        key = len(steps), tuple(k.queue for k in queues)
        found = self._sums.pop(key, None)
        if found is None or found[0] != steps or not found[1].by_task.keys() <= {*tasks}:
            return None
        self._sums[key] = found  # the last that was used
        return found[1]

    def keep(self, queues: Sequence[Keys], steps: range, sums: _Sums) -> None:
        """Keep sums in place of those that were used longest ago."""
        self._sums[len(steps), tuple(k.queue for k in queues)] = steps, sums
        while len(self._sums) > _MOST_KEPT:
            del self._sums[next(iter(self._sums))]


def recent(queues: Sequence[Keys], minutes: int) -> Flow[Recent]:
    """Read the last minutes of queues, as one: so many, the one under way among them."""
    now, names = yield from _begin(queues, minutes, minutes // STEP_MIN + 1)
    queues, minute = queues[: len(names)], now // _MINUTE_MS
    by_minute = {at: tally.empty() for at in range(minute - minutes + 1, minute + 1)}
    steps = range((minute - minutes + 1) // STEP_MIN, minute // STEP_MIN + 1)
    # Of a day that begins within a step, the ring has no more.
    steps = steps[-(KEPT_MIN // STEP_MIN) :]
    by_task = _nothing_of(names)
    yield from add_up(_of_minutes(queues, [*by_minute]), by_minute)
    yield from add_up(_of_tasks(queues, names, steps, by_task), {})
    return Recent(
        now,
        {at * _MINUTE_MS: one for at, one in by_minute.items()},
        _named(by_task),
        steps[0] * STEP_MIN * _MINUTE_MS,
        any(names),
        len(names),
    )


def recent_by_ten(queues: Sequence[Keys], minutes: int, kept: Kept | None = None) -> Flow[Recent]:
    """Read the last minutes of queues, as one, by ten: the same numbers, and a fraction of the reading.

    Args:
        queues: they.
        minutes: so many, whole tens.
        kept: what was read before, and what is read now, for the next time.
    """
    now, names = yield from _begin(queues, 0, minutes // STEP_MIN)
    queues, minute = queues[: len(names)], now // _MINUTE_MS
    last = minute // STEP_MIN
    first = last - minutes // STEP_MIN + 1
    # Other nodes of a cluster have clocks of their own: a step that ended just now may be told of yet.
    over = range(first, max(first, (minute - 1) // STEP_MIN))
    kept = kept or Kept()
    before = kept.find(queues, over, chain.from_iterable(names))
    if before is None:
        before = yield from _summed(queues, names, over)
        kept.keep(queues, over, before)
    lately = yield from _summed(queues, names, range(over.stop, last + 1))
    by_task = {
        task: tally.total([one, before.by_task.get(task, tally.empty())])
        for task, one in lately.by_task.items()
    }
    length_ms = STEP_MIN * _MINUTE_MS
    by_step = before.by_step | lately.by_step
    by_ten = {at * length_ms: one for at, one in by_step.items()}
    return Recent(now, by_ten, _named(by_task), first * length_ms, any(names), len(names))


def _begin(
    queues: Sequence[Keys], of_minutes: int, of_task: int
) -> Flow[tuple[int, list[list[bytes]]]]:
    """Return the instant, ms since 1970, and the tasks of as many queues as may be read; of one in any case.

    Args:
        queues: they.
        of_minutes: so many places are read of each, …
        of_task: … and so many of each of its tasks.
    """
    now_ms, names, left = 0, list[list[bytes]](), MOST_PLACES
    for start in range(0, len(queues), _NAMES_AT_ONCE):
        asked = map(_tasks, queues[start : start + _NAMES_AT_ONCE])
        now, *found = unfailed((yield [op.time_ms(), *asked]))
        now_ms = now_ms or int(now)
        for tasks in found:
            left -= of_minutes + len(tasks) * max(of_task, _LEAST_EACH)
            if left < 0 and names:
                return now_ms, names
            names.append(tasks)
    return now_ms, names


def _summed(queues: Sequence[Keys], names: Sequence[list[bytes]], steps: range) -> Flow[_Sums]:
    sums = _Sums({at: tally.empty() for at in steps}, _nothing_of(names))
    yield from add_up(_of_tasks(queues, names, steps, sums.by_task), sums.by_step)
    return sums


def _of_minutes(queues: Sequence[Keys], minutes: Sequence[int]) -> Iterator[Row]:
    for start in range(0, len(minutes), _SLICE_MIN):
        some = minutes[start : start + _SLICE_MIN]
        fields = [b"%d" % (at % KEPT_MIN) for at in some]
        for k in queues:
            yield Row(k, fields, some, None)


def _of_tasks(
    queues: Sequence[Keys],
    names: Sequence[list[bytes]],
    steps: range,
    by_task: Mapping[bytes, Tally],
) -> Iterator[Row]:
    numbers = [b"%d " % (at % (KEPT_MIN // STEP_MIN)) for at in steps]
    for k, tasks in zip(queues, names, strict=True):
        for task in tasks if numbers else ():
            yield Row(k, [number + task for number in numbers], steps, by_task[task])


def _nothing_of(names: Iterable[Iterable[bytes]]) -> dict[bytes, Tally]:
    return {task: tally.empty() for task in sorted({*chain.from_iterable(names)})}


def _named(by_task: Mapping[bytes, Tally]) -> dict[str, Tally]:
    """Return the sums of the tasks that have anything."""
    return {task.decode(errors="replace"): one for task, one in by_task.items() if any(one)}


def _tasks(k: Keys) -> Operation[list[bytes]]:
    return command("HKEYS", timings_of(k), parse=list)
