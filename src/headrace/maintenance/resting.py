"""Which queues are at rest, in groups about which one command asks. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from headrace import operations as op
from headrace.keys import keys_of
from headrace.operations import Operation

_A_GROUP: Final = 250  # queues: 0.1 ms of Redis' time
# 10,000 queues: 4 ms of Redis' time; of more, the others at the next turn.
_GROUPS_A_TURN: Final = 40


@dataclass(slots=True, eq=False)
class Group:
    """Queues that were all at rest when they were looked at last.

    Attributes:
        names: the queues.
        rested_ms: when all of them were, by Redis' clock.
    """

    rested_ms: int
    names: set[str] = field(default_factory=set)
    _look: Operation[int] | None = None

    def look(self) -> Operation[int]:
        """Ask how many keys there are that a queue at rest does not have."""
        if self._look is None:
            self._look = op.count_astir([keys_of(name) for name in sorted(self.names)])
        return self._look

    def changed(self) -> None:
        """Note that it holds other queues now."""
        self._look = None


class Resting:
    """Remembers which queues are at rest.

    Attributes:
        astir: the queues that are not, or of which nobody knows yet.
        rested_ms: when queues that are astir were last seen at rest, by Redis' clock.
    """

    def __init__(self) -> None:
        self.astir: set[str] = set()
        self.rested_ms: dict[str, int] = {}
        self._groups: list[Group] = []
        self._where: dict[str, Group] = {}
        self._at = 0

    @property
    def names(self) -> list[str]:
        """The queues that are at rest."""
        return sorted(self._where)

    def keep(self, names: Collection[str]) -> None:
        """Know these queues, and no others."""
        known = self.astir | self._where.keys()
        for name in known.difference(names):
            self.wake(name)
            self.astir.discard(name)
            self.rested_ms.pop(name, None)
        self.astir.update(set(names) - known)

    def turn(self) -> list[Group]:
        """Return the groups to ask about now; where there are very many, some of them in turn."""
        start = self._at if self._at < len(self._groups) else 0
        self._at = start + _GROUPS_A_TURN
        return self._groups[start : self._at]

    def wake(self, name: str) -> None:
        """Note that a queue is astir."""
        if (group := self._where.pop(name, None)) is not None:
            group.names.discard(name)
            group.changed()
            self.rested_ms[name] = group.rested_ms
            if not group.names:
                self._groups.remove(group)
        self.astir.add(name)

    def rest(self, name: str, time_ms: int) -> None:
        """Note that a queue was at rest at an instant."""
        self.astir.discard(name)
        self.rested_ms.pop(name, None)
        if name in self._where:
            return
        groups = (group for group in reversed(self._groups) if len(group.names) < _A_GROUP)
        if (group := next(groups, None)) is None:
            group = Group(time_ms)
            self._groups.append(group)
        group.rested_ms = min(group.rested_ms, time_ms)
        group.names.add(name)
        group.changed()
        self._where[name] = group
