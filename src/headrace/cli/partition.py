"""``headrace partition``: divide a queue, and see its partitions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues
from headrace.cli.flags import Json, help_page
from headrace.cli.output import Column, Line, Row, Table
from headrace.cli.overview import COUNTS, counts_of
from headrace.doctor.humanize import counted, subject
from headrace.errors import InvalidSetting
from headrace.forgetting import forget
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.partitions import changing, requests
from headrace.partitions.names import MOST, split
from headrace.partitions.requests import Count, Share, own_of
from headrace.store import Store

_COLUMNS: Final = (
    Column("Partition", "bold", least=16),
    *COUNTS,
    Column("At home", least=10),
)


@help_page
def partition(
    queue: Annotated[str, Parameter(name="QUEUE", help="This queue.")],
    number: Annotated[
        int | None, Parameter(name="N", help="Into so many; without it, show what there is.")
    ] = None,
    /,
    *,
    now: Annotated[bool, Parameter(help="Do not wait until consumers know of new ones.")] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Divide a queue into partitions, while it is used, or see them.

    $ headrace partition emails 16
    $ headrace partition emails

    Consumers take from new ones before any job goes there. Of fewer, those that are too many get no
    more jobs; run it again when they are empty, and they are forgotten. Who enqueues has to know that
    the queue is divided: app.partition_queue("emails", 16).
    """
    keys_of(queue)
    if split(queue)[1]:
        raise InvalidSetting(f"{queue} is a partition: say {split(queue)[0]}")
    if number is not None and not 1 <= number <= MOST:
        raise InvalidSetting(f"N must be from 1 to {MOST:,}")
    with connection.store() as store:
        left = 0 if number is None else _change(store, queue, number, wait=not now)
        seen = _look(store, queue)
    output.show(seen.as_json(), seen.lines(left), json=json)
    return 0


def _change(store: Store, queue: str, number: int, *, wait: bool) -> int:
    """Change how many there are; return how many jobs those still hold that are too many."""
    if wait_s := store.follow(changing.begin(queue, number)):
        if wait:
            output.note(f"consumers get to know of the new ones first: {wait_s:g} s")
            threading.Event().wait(wait_s)
        store.follow(changing.fill(queue, number))
    retired = store.follow(changing.retire(queue))
    store.follow(forget(retired.empty, 0))
    return retired.left


@dataclass(frozen=True, slots=True)
class _Partitions:
    """The partitions of a queue at one instant."""

    queue: str
    count: Count
    snapshots: Sequence[Snapshot]
    members: Sequence[str]

    def homes(self) -> Mapping[int, list[str]]:
        """Return who is at home in each partition, by its number."""
        homes: dict[int, list[str]] = {}
        for rank, member in enumerate(self.members):
            for number in own_of(len(self.snapshots), Share(rank, len(self.members))):
                homes.setdefault(number, []).append(member)
        return homes

    def as_json(self) -> dict[str, Any]:
        homes = self.homes()
        each = [
            {
                "partition": s.queue,
                "filled": number < self.count.filled,
                "waiting": s.waiting,
                "processing": s.processing,
                "delayed": s.delayed,
                "dead": s.dead,
                "done": s.counters.get("done", 0),
                "at_home": homes.get(number, []),
            }
            for number, s in enumerate(self.snapshots)
        ]
        return {"queue": self.queue, "partitions": self.count.filled, "each": each}

    def lines(self, left: int) -> Iterator[Line]:
        homes = self.homes()
        rows: list[Row] = []
        for number, s in enumerate(self.snapshots):
            home = _names(homes.get(number, []))
            rows.append(
                [s.queue, *counts_of(s), home if number < self.count.filled else "no new jobs"]
            )
        yield Table(_COLUMNS, rows)
        if output.on_terminal():
            yield ""
            consumers = counted(len(self.members), "consumer")
            yield f"{self.queue}: {counted(self.count.filled, 'partition')}, {consumers}"
        if left:
            yield (
                f"{subject(left, 'job')} still in partitions that are too many: run this again when they "
                "have ended"
            )


def _names(members: Sequence[str]) -> str:
    more = f" and {len(members) - 1} more" if len(members) > 1 else ""
    return f"{members[0]}{more}" if members else ""


def _look(store: Store, queue: str) -> _Partitions:
    names = known_queues(store, [queue])
    asked: list[op.Operation[Any]] = [requests.counts([queue]), requests.members(queue)]
    counts, members = op.unfailed(store.run_all(asked))
    found = store.run_all(op.snapshots([keys_of(name) for name in names]))
    return _Partitions(queue, counts[queue], op.snapshots_of(found), members)
