"""Duties: what the leader does beside the upkeep of queues. Each belongs to a part that brings its own.

Each turn asks what every duty wants to see, in one round trip, and then lets each do its work. A part
that nobody uses costs Redis the one command by which it finds that out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from headrace.errors import StoreError, StoreRefused
from headrace.operations import Operation
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)


class Duty(Protocol):
    """Something to be done again and again by one of all consumers and servers.

    Another one may lead at any time, and for a moment two may think that they do: whatever changes
    state is one script, which decides by what stands in Redis.

    Attributes:
        due_at: when there is something to do, as far as was seen (monotonic); infinite if nothing is.
            A second after the last turn it is looked at anyway.
    """

    due_at: float

    def begin(self) -> None:
        """Note that this one leads from now on: whatever it knew may have changed."""

    def look(self) -> Operation[Any]:
        """Return what to ask of Redis, in each turn."""

    async def turn(self, seen: Any) -> bool:
        """Do what is due, as the look has shown; whether there is more to do at once.

        Raises:
            StoreError: Redis is away; all is tried again.
        """


DutyMaker: TypeAlias = Callable[[AsyncStore], Duty]


class Duties:
    """The duties of one leader.

    Args:
        store: the Redis.
        makers: make the duties.
    """

    def __init__(self, store: AsyncStore, makers: Sequence[DutyMaker]) -> None:
        self._store = store
        self._all = [make(store) for make in makers]
        self._refused: set[Duty] = set()

    @property
    def due_at(self) -> float:
        """When the next one has something to do (monotonic); infinite if none has."""
        return min((duty.due_at for duty in self._all), default=math.inf)

    def begin(self) -> None:
        """Note that this one leads from now on."""
        for duty in self._all:
            duty.begin()

    async def turn(self) -> bool:
        """Do what is due; whether there is more to do at once."""
        if not self._all:
            return False
        busy = False
        looks = await self._store.run_all([duty.look() for duty in self._all])
        for duty, seen in zip(self._all, looks, strict=True):
            try:
                if isinstance(seen, StoreError):
                    raise seen
                busy |= await duty.turn(seen)
                self._refused.discard(duty)
            except StoreRefused as error:  # for the others' sake: a key of it may be broken
                duty.due_at = math.inf
                if duty not in self._refused:
                    log.error("%s is not done: %s", type(duty).__name__, error)
                    self._refused.add(duty)
        return busy
