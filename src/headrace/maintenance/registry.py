"""The registry: which queues there are, which have anything to maintain, and which can be forgotten."""

from __future__ import annotations

import logging
from typing import Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.forgetting import forget
from headrace.keys import keys_of
from headrace.maintenance.resting import Resting
from headrace.policy import FORGET_AFTER_S
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_LOOKS_A_TRIP: Final = 500
"""Queues that are asked about in one round trip: one command each."""

_READ_EVERY_S: Final = 10.0
"""The registry is read when its size has changed, and so often for what that does not show."""

_FORGET_EVERY_S: Final = 60.0
"""Each queue at rest is asked so often whether it can be forgotten …"""

_FORGET_AT_ONCE: Final = 50
"""… and so many at a turn."""


class Registry:
    """The queues that are registered in one Redis.

    Args:
        store: the Redis.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._resting = Resting()
        self._size = -1  # when it was read
        self._read_at = 0.0
        self._unused: list[str] = []  # queues to be asked whether they can be forgotten
        self._forget_at = 0.0

    def begin(self) -> None:
        """Note that this one leads from now on: nothing is forgotten at once."""
        self._forget_at = monotonic() + _FORGET_EVERY_S

    def rested_ms(self, queue: str) -> int:
        """Return when nothing was leased in a queue, by Redis' clock, ms; 0 if unknown."""
        return self._resting.rested_ms.get(queue, 0)

    async def astir(self) -> list[str]:
        """Return which queues have anything to maintain; one command asks about hundreds at rest."""
        time_ms, size = op.unfailed(await self._store.run_all([op.time_ms(), op.queue_count()]))
        if size != self._size or monotonic() - self._read_at >= _READ_EVERY_S:
            names = await self._store.run(op.queues())
            self._resting.keep(names)
            self._size, self._read_at = int(size), monotonic()
        groups = self._resting.turn()
        counts = await self._store.run_all([group.look() for group in groups])
        doubtful = sorted(self._resting.astir)
        for group, count in zip(groups, counts, strict=True):
            doubtful += sorted(group.names) if count != 0 else ()
        for start in range(0, len(doubtful), _LOOKS_A_TRIP):
            some = doubtful[start : start + _LOOKS_A_TRIP]
            looks = [op.is_at_rest(keys_of(queue)) for queue in some]
            for queue, rest in zip(some, await self._store.run_all(looks), strict=True):
                if rest is True:  # what Redis refuses is told where it is maintained
                    self._resting.rest(queue, int(time_ms))
                else:
                    self._resting.wake(queue)
        for group in groups:
            group.rested_ms = int(time_ms)
        return sorted(self._resting.astir)

    async def forget(self) -> None:
        """Ask some of the queues at rest whether they can be forgotten."""
        if not self._unused and monotonic() >= self._forget_at:
            self._unused, self._forget_at = self._resting.names, monotonic() + _FORGET_EVERY_S
        some, self._unused = self._unused[:_FORGET_AT_ONCE], self._unused[_FORGET_AT_ONCE:]
        forgetting = forget([*map(keys_of, some)], round(FORGET_AFTER_S * 1000))
        for queue, answer in zip(some, await self._store.follow(forgetting), strict=True):
            if answer == "forgotten":
                log.info("queue %s is forgotten: it has been empty and unused for long", queue)
