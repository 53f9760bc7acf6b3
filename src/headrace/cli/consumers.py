"""``headrace consumers``: who runs jobs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues, passing_over
from headrace.cli.flags import Json, help_page
from headrace.cli.output import Column, Line, Row, Table
from headrace.doctor.connections import read
from headrace.doctor.humanize import span
from headrace.flows import PAGE, Flow
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.store import Store

_COLUMNS: Final = (
    Column("Consumer", "cyan", least=16),
    Column("Connected"),
    Column("Jobs"),
    Column("Queues", least=8),
    Column("State"),
)
_MADE_UP = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{6}(-[0-9a-f]{4})?")
_CLAIMS: Final = 10_000  # of a queue are read at most: each comes with its job's bytes
_NOBODY: Final = "-"  # holds a lease that the sweep gave


@dataclass(frozen=True, slots=True, kw_only=True)
class _Consumer:
    """One consumer, as far as Redis knows it.

    Attributes:
        name: its name.
        host: the machine's name, when the consumer's name was made up from it.
        pid: its process, likewise.
        address: where its connections come from.
        connected_s: how long its oldest connection has been there; None if it has none.
        jobs: how many jobs it holds: those that run, and those that are about to.
        queues: how many in each queue; a queue of which it holds no job is not known.
        waiting: it has a free slot, and waits for a job.
        leader: it keeps the queues in order.
    """

    name: str
    host: str | None
    pid: int | None
    address: str | None
    connected_s: int | None
    jobs: int
    queues: dict[str, int]
    waiting: bool
    leader: bool

    def row(self) -> Row:
        since = None if self.connected_s is None else span(self.connected_s)
        state = "not connected" if since is None else "waiting" if self.waiting else "busy"
        leads = ", leads" if self.leader else ""
        return (self.name, since, self.jobs, ", ".join(self.queues) or None, f"{state}{leads}")


@help_page
def consumers(*, json: Json = False, connection: Connection = Connection()) -> int:
    """List the consumers: who is connected, and who holds jobs.

    $ headrace consumers
    $ headrace consumers --json

    A consumer's name begins with its host and process, unless --name says otherwise. Queues are
    those of which it holds jobs: from which others it would take some, Redis does not know. One
    that is not connected, and holds jobs, is gone, or cut off; its jobs run again when its leases
    have run out.
    """
    with connection.store() as store:
        found = _all(store)
    output.show([asdict(one) for one in found], _lines(found), json=json)
    return 0


def _lines(found: Sequence[_Consumer]) -> Iterator[Line]:
    if found or not output.on_terminal():
        yield Table(_COLUMNS, [one.row() for one in found])
    else:
        yield "No consumer is connected: headrace consume, with your application."


def _all(store: Store) -> list[_Consumer]:
    clients = store.run(op.clients())
    leader = store.run(op.leader())
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for queue in known_queues(store):
        with passing_over(queue):
            for name in store.follow(_holders(queue)):
                held[name][queue] += 1
    connections, by_name = read(clients), defaultdict(list)
    for client in clients:
        by_name[client.get("name", "")].append(client)

    def consumer(name: str) -> _Consumer:
        made_up, own = _MADE_UP.fullmatch(name), by_name[CONNECTION_PREFIX + name]
        return _Consumer(
            name=name,
            host=made_up["host"] if made_up else None,
            pid=int(made_up["pid"]) if made_up else None,
            address=own[-1].get("addr", "").rpartition(":")[0] if own else None,
            connected_s=max((int(client.get("age", 0)) for client in own), default=None),
            jobs=held[name].total(),
            queues=dict(sorted(held[name].items())),
            waiting=name in connections.idle,
            leader=name == leader,
        )

    return [consumer(name) for name in sorted(connections.consumers | held.keys())]


def _holders(queue: str) -> Flow[Iterable[str]]:
    """Name the holder of each claim of a queue."""
    names: list[str] = []
    cursor = b"0"
    while len(names) < _CLAIMS:
        page = op.command(
            "HSCAN", keys_of(queue).claims, cursor, "COUNT", PAGE, parse=lambda raw: raw
        )
        cursor, pairs = yield page
        for value in pairs[1::2]:
            name = value[:200].partition(b":")[0].decode(errors="replace")
            if not name.startswith(_NOBODY + " ") and name != _NOBODY:
                names.append(name)
        if cursor == b"0":
            break
    return names
