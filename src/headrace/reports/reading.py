"""Reading: the items of a job, from its first one on, as they come. Pure but for what it asks.

Each item has the id run-number. A run that begins anew has a higher one, and its numbers begin with 1
again; so whoever reads sees that it did, and whether an item is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from headrace.errors import NoResult
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation, command
from headrace.reports.keys import stream_of
from headrace.reports.outgoing import ITEM

_MOST: Final = 100  # items in one answer

Entry = tuple[int, int, bool, bytes]
"""Run, number, whether it is an item, its JSON."""


class _Restarted:
    """The type of ``RESTARTED``."""

    def __repr__(self) -> str:
        return "RESTARTED"


RESTARTED: Final = _Restarted()
"""Stands among the items where the job began anew: those before it do not count."""

_decode = msgspec.json.Decoder().decode


class Reading:
    """One reading of the items of a job.

    Args:
        k: the job's queue.
        job_id: its id.

    Attributes:
        begun: something was there.
        over: the run has told all its items.
        end: how the job ended, encoded, when that is known.
        idle: how often nothing came, in a row.
        misses: how often the job was found nowhere, in a row.
    """

    def __init__(self, k: Keys, job_id: str) -> None:
        self._key = stream_of(k, job_id)
        self._job_id = job_id
        self._run, self._number = -1, 0
        self._told = 0  # items of this run
        self.over: bool = False
        self.end: bytes | None = None
        self.idle: int = 0
        self.misses: int = 0

    @property
    def begun(self) -> bool:
        """Whether something was there."""
        return self._run >= 0

    def ask(self, wait_s: float) -> Operation[list[Entry] | None]:
        """Return what to ask for the next items: it waits for some so long, seconds; 0 not at all."""
        last = f"{self._run}-{self._number}" if self.begun else "0-0"
        block = ("BLOCK", max(1, round(wait_s * 1000))) if wait_s else ()
        return command(
            *("XREAD", *block, "COUNT", _MOST, "STREAMS", self._key, last),
            parse=_entries,
            wait_s=wait_s,
        )

    def take(self, entries: list[Entry] | None) -> list[Any]:
        """Take the answer; return the items in it, and ``RESTARTED`` before those of another run.

        Raises:
            NoResult: items before these are not kept any more.
        """
        items: list[Any] = []
        for run, number, is_item, value in entries or ():
            if run != self._run:
                if self._told:
                    items.append(RESTARTED)
                self._run, self._number, self._told, self.over = run, 0, 0, False
            if number != self._number + 1:
                raise NoResult(
                    f"items {self._number + 1:,} to {number - 1:,} of job {self._job_id} are not kept "
                    "any more: the last 10,000 are, and at most 16 MiB"
                )
            self._number = number
            if is_item:
                self._told += 1
                items.append(_decode(value))
            else:
                self.over = True
        self.idle = 0 if entries else self.idle + 1
        return items


Items: TypeAlias = list[Any] | None


class Stream:
    """What a job yields, from its first item on, as it comes: for ``for`` or ``async for``.

    Args:
        begin: begins a reading.
        more: waits for its next items; gives None when there will be no more.
        follow, afollow: drive that, blocking or awaited.
    """

    def __init__(
        self,
        begin: Callable[[], Reading],
        more: Callable[[Reading], Flow[Items]],
        follow: Callable[[Flow[Items]], Items],
        afollow: Callable[[Flow[Items]], Awaitable[Items]],
    ) -> None:
        self._begin = begin
        self._more = more
        self._follow = follow
        self._afollow = afollow

    def __iter__(self) -> Iterator[Any]:
        """Give the items; each reading begins with the first one."""
        reading = self._begin()
        while (items := self._follow(self._more(reading))) is not None:
            yield from items

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Give the items, awaiting them."""
        reading = self._begin()
        while (items := await self._afollow(self._more(reading))) is not None:
            for item in items:
                yield item


def _entries(raw: Any) -> list[Entry] | None:
    if not raw:
        return None
    found: list[Entry] = []
    for entry_id, fields in raw[0][1]:
        run, _, number = entry_id.partition(b"-")
        found.append((int(run), int(number), fields[0] == ITEM, fields[1]))
    return found
