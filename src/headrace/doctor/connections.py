"""Who is connected, by the names that Headrace's programs give their connections. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.keys import CONNECTION_PREFIX, PROGRAMS

_WAITING: Final = frozenset({"blmove", "blpop"})
"""What a consumer with a free slot and nothing to do has under way."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Headrace's connections at one instant.

    Attributes:
        consumers: the names of consumers that have one.
        idle: those that wait for work.
        servers: how many connections of servers there are.
        total: how many connections of any kind Redis has.
    """

    consumers: frozenset[str]
    idle: frozenset[str]
    servers: int
    total: int


def read(clients: Sequence[Mapping[str, str]]) -> Connections:
    """Read who is connected from the answer to CLIENT LIST."""
    names: set[str] = set()
    idle: set[str] = set()
    servers = 0
    for client in clients:
        name = client.get("name", "")
        if not name.startswith(CONNECTION_PREFIX):
            continue
        name = name.removeprefix(CONNECTION_PREFIX)
        servers += name == "server"
        if name not in PROGRAMS:
            names.add(name)
            if client.get("cmd") in _WAITING and "b" in client.get("flags", ""):
                idle.add(name)
    return Connections(frozenset(names), frozenset(idle), servers, len(clients))
