"""Reads places of the rings of queues, very many if need be, and adds up what stands there.

They are read some at a time, each time in a round trip, so that an event loop serves others between; and
decoded and summed in bulk: a page of charts may be of 100,000 of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import command, unfailed
from headrace.timings import tally
from headrace.timings.keys import minutes_of
from headrace.timings.tally import Tally

AT_ONCE: Final = 1_000
"""So many places are read in one round trip: about a hundredth of a second to make sense of."""


class Row(NamedTuple):
    """Places of one ring that belong together, ``AT_ONCE`` at most.

    Attributes:
        k: the queue.
        fields: what they are called there.
        of: of when each is wanted.
        whole: to what all are added, beside the sum of their time; None: to nothing.
    """

    k: Keys
    fields: Sequence[bytes]
    of: Sequence[int]
    whole: Tally | None


def add_up(rows: Iterable[Row], by_time: Mapping[int, Tally]) -> Flow[None]:
    """Read places, and add them to their sums, and to those of their times, if there are any."""
    some, size = list[Row](), 0
    for row in rows:
        if size + len(row.fields) > AT_ONCE:
            yield from _add(some, by_time)
            some, size = [], 0
        some.append(row)
        size += len(row.fields)
    if some:
        yield from _add(some, by_time)


def _add(rows: Sequence[Row], by_time: Mapping[int, Tally]) -> Flow[None]:
    reads = [command("HMGET", minutes_of(row.k), *row.fields, parse=list) for row in rows]
    parts = defaultdict[int, list[Tally]](list)
    for row, raws in zip(rows, unfailed((yield reads)), strict=True):
        dated = zip(row.of, tally.read_dated(raws), strict=True)
        found = [one for at, one in dated if one[0] == at]  # else it is of another day
        if row.whole is not None:
            tally.add_dated(row.whole, found)
        if by_time:
            for one in found:
                parts[one[0]].append(one)
    for at, some in parts.items():
        tally.add_dated(by_time[at], some)
