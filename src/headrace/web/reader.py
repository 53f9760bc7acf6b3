"""Reads queues, however many there are: all of them, or again and again those that matter."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace import operations as op
from headrace.app import Headrace
from headrace.clock import monotonic
from headrace.doctor.places import PLACES
from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.operations import Operation, Snapshot
from headrace.partitions.requests import all_counts, counts, divided
from headrace.partitions.view import Parts, expanded, folded, parts_among, total
from headrace.store import AsyncStore
from headrace.timings import tally
from headrace.timings.requests import totals
from headrace.timings.tally import Tally

SHOWN: Final = 100
"""So many queues are shown one by one, on the page and to Prometheus; the others as a sum."""

MOST_QUEUES: Final = 10_000
"""Over HTTP nobody can make more of them."""

_UNASKED: Final = 100  # queues that a server takes jobs for without asking how many there are
_A_LOOK: Final = 500  # queues: 10 ms of Redis' time, and as much of ours
_UP_WITHIN_S: Final = 1.0
_TURNS: Final = 20
"""Turns of our own loop that Redis has at least, of which a ping takes five or six: where many send us
much, the second may be over before we have looked."""

_LEARN_EVERY_S: Final = 1.5  # as long as a producer may not know of more partitions


class Reader:
    """Reads the queues of one Redis.

    Args:
        store: the Redis.
        headrace: names queues that are shown before anybody has used them.
    """

    def __init__(self, store: AsyncStore, headrace: Headrace) -> None:
        self._store = store
        self._headrace = headrace
        self._known: set[str] = set()
        self._learn_at: dict[str, float] = {}  # by queue: when to ask again whether it is divided
        self._parts: Parts = {}  # as they were when the queues were listed last

    async def ask(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one round trip.

        Raises:
            StoreError: Redis did not answer, or answered one of them with an error.
        """
        return op.unfailed(await self._store.run_all(operations))

    async def names(self) -> list[str]:
        """List the queues: those that were used, and those of the application. One that is divided is one."""
        own = {self._headrace.queue, *(t.config.queue for t in self._headrace.tasks.values())}
        used, there = await self.ask([op.queues(), all_counts()])
        self._parts = parts_among(there, used)
        return folded(sorted({*own, *used, *self._parts}), self._parts)

    def parts(self, queue: str) -> Sequence[str]:
        """Return the partitions of a queue; itself if it is not divided."""
        return self._parts.get(queue, (queue,))

    async def read(self, names: Sequence[str]) -> list[Snapshot]:
        """Count these queues."""
        asked = [keys_of(name) for name in expanded(names, self._parts)]
        answers = await self._store.run_all(op.snapshots(asked))
        found = {one.queue: one for one in op.snapshots_of(answers)}
        return [total(name, [found[part] for part in self.parts(name)]) for name in names]

    async def timings(self, names: Sequence[str]) -> dict[str, dict[str, Tally]]:
        """Return what the jobs of these queues came to, by task; nothing of those without jobs."""
        asked = [(name, keys_of(part)) for name in names for part in self.parts(name)]
        answers = await self.ask([totals(k) for _, k in asked])
        found: dict[str, dict[str, list[Tally]]] = {}
        for (name, _), tasks in zip(asked, answers, strict=True):
            for task, one in tasks.items():
                found.setdefault(name, {}).setdefault(task, []).append(one)
        return {
            name: {task: tally.total(some) for task, some in tasks.items()}
            for name, tasks in found.items()
        }

    async def excess(self, wanted: set[str]) -> set[str]:
        """Return which of these queues would be new, if there would then be too many.

        Raises:
            StoreError: Redis did not answer.
        """
        if wanted <= self._known or len(self._known | wanted) <= _UNASKED:
            self._known |= wanted
            return set()
        before = set(self._known)
        found = set(await self.names())
        self._known = found | (self._known - before)  # what others have added meanwhile
        new = wanted - self._known
        if len(self._known) + len(new) > MOST_QUEUES:
            return new
        self._known |= new
        return set()

    async def learn_partitions(self, queues: set[str]) -> bool:
        """Have the jobs of these queues divided as Redis says, where the application does not say so.

        Return whether there was anything to learn.

        Raises:
            StoreError: Redis did not answer.
        """
        now, app = monotonic(), self._headrace
        due = [
            queue
            for queue in queues - app.partitions.declared.keys()
            if self._learn_at.get(queue, 0) <= now
        ]
        if not due:
            return False
        self._learn_at |= dict.fromkeys(due, now + _LEARN_EVERY_S)
        found = divided(await self._store.run(counts(due)))
        for queue, count in found.items():
            app.partition_queue(queue, count)
        return bool(found)

    async def why_down(self) -> str:
        """Say why Redis does not answer at all; "" if it does: what is slow is not down."""
        ping = asyncio.create_task(self._store.run(op.command("PING", parse=bool)))
        try:
            for _ in range(_TURNS):
                if (await asyncio.wait({ping}, timeout=_UP_WITHIN_S / _TURNS))[0]:
                    ping.result()
                    return ""
        except StoreError as error:
            return str(error)
        finally:
            ping.cancel()
            await asyncio.gather(ping, return_exceptions=True)
        return f"Redis does not answer within {_UP_WITHIN_S:g} s"


@dataclass(frozen=True, slots=True)
class Overview:
    """All queues, of which only so many are shown one by one.

    Attributes:
        shown: those with the most jobs, and those that were asked for; by name.
        others: the sums of all that are not shown: jobs by place, and ``queues``, how many they are.
    """

    shown: list[Snapshot]
    others: dict[str, int]


class Poller:
    """Reads all queues again and again, at a bounded cost.

    What is shown is read at each look; of the others some are, in turn, so that with very many queues
    a sum or a newcomer to those with the most jobs may be late by as many looks as they take.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seen: dict[str, Snapshot] = {}
        self._shown: list[str] = []
        self._at = 0

    async def look(self, also: Collection[str]) -> Overview:
        """Look once; show these in any case."""
        names = sorted({*await self._reader.names(), *also})
        self._at = self._at if self._at < len(names) else 0
        turn = names[self._at : self._at + _A_LOOK]
        self._at += _A_LOOK
        asked = {*turn, *also, *(name for name in names if name not in self._seen)}
        asked.update(set(self._shown).intersection(names))
        snapshots = await self._reader.read(sorted(asked))
        self._seen |= {one.queue: one for one in snapshots}
        self._seen = {name: self._seen[name] for name in names}
        overview = overview_of(self._seen.values(), also)
        self._shown = [one.queue for one in overview.shown]
        return overview


def overview_of(snapshots: Collection[Snapshot], also: Collection[str] = ()) -> Overview:
    """Choose what is shown of queues: those with the most jobs, and these."""
    if len(snapshots) <= SHOWN:
        return Overview(list(snapshots), {})
    largest = heapq.nlargest(SHOWN, snapshots, key=lambda one: one.size)
    names = {*also, *(one.queue for one in largest)}
    others = [one for one in snapshots if one.queue not in names]
    sums: dict[str, int] = {place: sum(getattr(one, place) for one in others) for place in PLACES}
    shown = [one for one in snapshots if one.queue in names]
    return Overview(shown, {"queues": len(others)} | sums)
