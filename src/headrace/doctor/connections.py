"""Who is connected and who leads, by the names that Headrace's programs give their connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from headrace import operations as op
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import CONNECTION_PREFIX, PROGRAMS

_WAITING: Final = frozenset({"blmove", "blpop"})
"""What a consumer with a free slot and nothing to do has under way."""


class Connections(NamedTuple):
    """The consumers that have a connection.

    Attributes:
        consumers: their names.
        idle: those that wait for work.
        known: False where CLIENT LIST may not be used: then nobody is known.
    """

    consumers: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()
    known: bool = False

    @property
    def no_consumer(self) -> bool:
        """Whether no consumer is connected for certain."""
        return self.known and not self.consumers


def look() -> Flow[tuple[str, Connections]]:
    """Return who leads and who is connected; "" and nobody where this user may not ask."""
    leader, clients = yield [op.leader(), op.clients()]
    connected = Connections() if isinstance(clients, StoreError) else read(clients)
    return "" if isinstance(leader, StoreError) else leader, connected


def read(clients: Sequence[Mapping[str, str]]) -> Connections:
    """Read who is connected from the answer to CLIENT LIST."""
    ours = [
        (name.removeprefix(CONNECTION_PREFIX), client)
        for client in clients
        if (name := client.get("name", "")).startswith(CONNECTION_PREFIX)
    ]
    consumers = frozenset(name for name, _ in ours) - PROGRAMS
    idle = frozenset(
        name
        for name, client in ours
        if client.get("cmd") in _WAITING and "b" in client.get("flags", "")
    )
    return Connections(consumers, idle & consumers, known=True)
