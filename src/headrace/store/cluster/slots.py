"""The slot map: which node is the primary of each slot, as CLUSTER SLOTS tells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.store.cluster.names import SLOTS
from headrace.store.guides import Host


@dataclass(slots=True)
class SlotMap:
    """Who serves what, and who else belongs to the cluster.

    Attributes:
        primaries: those that serve any slot, in order of their first one.
        replicas: the others.
    """

    primaries: tuple[Host, ...]
    replicas: tuple[Host, ...]
    _owners: list[Host | None] = field(repr=False)

    def owner(self, slot: int) -> Host | None:
        """Return the primary of a slot; None when none serves it."""
        return self._owners[slot]

    def moved(self, slot: int, host: Host) -> None:
        """Note that a slot is elsewhere now."""
        self._owners[slot] = host
        if host not in self.primaries:
            self.primaries = (*self.primaries, host)


def read(answer: Sequence[Any], asked: Host) -> SlotMap:
    """Read an answer to CLUSTER SLOTS.

    Args:
        answer: ranges, each with its first and last slot, its primary, and its replicas.
        asked: who gave it: a node that does not know its own address leaves it out.
    """
    owners: list[Host | None] = [None] * SLOTS
    primaries: dict[Host, None] = {}
    replicas: dict[Host, None] = {}
    for first, last, *nodes in sorted(answer, key=lambda one: int(one[0])):
        primary, *others = (_host(node, asked) for node in nodes)
        owners[first : last + 1] = [primary] * (last + 1 - first)
        primaries[primary] = None
        replicas.update(dict.fromkeys(others))
    return SlotMap(tuple(primaries), tuple(replicas), owners)


def _host(node: Sequence[Any], asked: Host) -> Host:
    name = (node[0] or b"").decode()
    return (asked[0] if name in {"", "?"} else name), int(node[1])
