"""What a request needs, and what a role has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Right: TypeAlias = Literal["look", "produce", "consume", "operate", "administer"]
"""What a request needs: to see what is there; to enqueue; to claim; to change what waits; to delete."""

ALL: Final[tuple[Right, ...]] = get_args(Right)

Role: TypeAlias = Literal["viewer", "producer", "consumer", "operator", "admin"]

ROLES: Final[Mapping[Role, frozenset[Right]]] = {
    "viewer": frozenset({"look"}),
    "producer": frozenset({"produce"}),
    "consumer": frozenset({"consume"}),
    "operator": frozenset({"look", "produce", "operate"}),
    "admin": frozenset(ALL),
}


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who asks.

    Attributes:
        name: what the token is called; "" where none is asked for.
        role: what it may do.
        queues: in these queues alone; None: in all.
    """

    name: str = ""
    role: Role = "admin"
    queues: frozenset[str] | None = None

    def has(self, rights: tuple[Right, ...]) -> bool:
        """Whether it has one of these."""
        return not ROLES[self.role].isdisjoint(rights)


ANYBODY: Final = Who()
"""Whoever reaches a server that asks for no token."""
