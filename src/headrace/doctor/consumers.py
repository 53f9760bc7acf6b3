"""Who runs jobs: the consumers that are connected, and those that hold claims."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace import operations as op
from headrace.doctor.connections import read
from headrace.errors import StoreRefused
from headrace.flows import PAGE, Flow
from headrace.holders import consumer_of
from headrace.keys import CONNECTION_PREFIX, keys_of

_MADE_UP = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{6}(-[0-9a-f]{4})?")
_CLAIMS: Final = 10_000  # of a queue are read at most: each comes with its job's bytes
_NOBODY: Final = "-"  # holds a lease that the sweep gave


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerFacts:
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
        over_http: it claims through the server, and has no connection of its own.
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
    over_http: bool

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if self.over_http:
            return "over HTTP"
        if self.connected_s is None:
            return "not connected"
        return "waiting" if self.waiting else "busy"


Broken = dict[str, StoreRefused]
"""Queues that cannot be read, and why."""


def look(queues: Sequence[str]) -> Flow[tuple[list[ConsumerFacts], Broken]]:
    """Return all consumers, by name, and of which queues the claims cannot be read.

    Raises:
        StoreError: Redis did not answer, or this user may not ask who is connected.
    """
    clients = yield op.clients()
    leader: str = yield op.leader()
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    far: set[str] = set()
    broken: Broken = {}
    for queue in queues:
        try:
            holders: list[str] = yield from _holders(queue)
        except StoreRefused as error:
            broken[queue] = error
            continue
        for holder in holders:
            name = consumer_of(holder)
            far.update([name] if name else [])
            held[name or holder][queue] += 1
    connections, by_name = read(clients), defaultdict(list)
    for client in clients:
        by_name[client.get("name", "")].append(client)

    def consumer(name: str) -> ConsumerFacts:
        made_up, own = _MADE_UP.fullmatch(name), by_name[CONNECTION_PREFIX + name]
        return ConsumerFacts(
            name=name,
            host=made_up["host"] if made_up else None,
            pid=int(made_up["pid"]) if made_up else None,
            address=own[-1].get("addr", "").rpartition(":")[0] if own else None,
            connected_s=max((int(client.get("age", 0)) for client in own), default=None),
            jobs=held[name].total(),
            queues=dict(sorted(held[name].items())),
            waiting=name in connections.idle,
            leader=name == leader,
            over_http=name in far and not own,
        )

    names = sorted(connections.consumers | held.keys())
    return [consumer(name) for name in names], broken


def _holders(queue: str) -> Flow[list[str]]:
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
