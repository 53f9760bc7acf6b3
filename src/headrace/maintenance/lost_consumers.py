"""Lost consumers: the leases of who has no connection to Redis any more end; they need not run out."""

from __future__ import annotations

import logging
import math
from typing import Final

from headrace import flows
from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import StoreError, StoreRefused
from headrace.keys import keys_of
from headrace.maintenance.presence import Presence
from headrace.policy import LEADER_LEASE_S, LeasePolicy
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_PAUSE_PER_CONNECTION_S: Final = 300 * 2e-6
"""A list of who is connected costs Redis 2 us for each connection, and is to take 1/300 of its time.

So with 1,000 connections it is asked for every second, with 8,000 and more every 5 s. What counts is
that number, not how long the answer takes: a busy machine must not make the looks rare.
"""

_LOOK_EVERY_S: Final = 5.0
"""Also while all queues are at rest: to know who is there before it works."""


class LostConsumers:
    """Looks for them.

    Args:
        store: the Redis.
        policy: how long claims last.
    """

    def __init__(self, store: AsyncStore, policy: LeasePolicy) -> None:
        self._store = store
        self._policy = policy
        self._presence = Presence(policy.gone_after_s)
        self._look_at = 0.0  # not before; infinite where CLIENT LIST is not allowed
        self._idle_look_at = 0.0  # even if all queues are at rest

    @property
    def due_at(self) -> float:
        """When to look, because somebody may be gone (monotonic); infinite if nobody is missing."""
        due_at = self._presence.due_at
        return math.inf if due_at is None else max(due_at, self._look_at)

    def blind(self) -> None:
        """Count nobody as missing for a while: Redis was away, and all have to come back."""
        # Some look only when they extend what they hold.
        self._presence.blind(monotonic() + self._policy.extend_every_s)

    async def take_over(self, before: str) -> None:
        """Learn what the one who led before has noted; "" if that is unknown."""
        known, time_ms = op.unfailed(await self._store.run_all([op.consumers(), op.time_ms()]))
        missing: dict[str, float] = {}
        if before:
            # Whoever led a moment ago looked until then: its notes are fresh. And it has been silent
            # for as long as a lead lasts, or it would lead still.
            now = monotonic()
            missing = {name: now - (time_ms - at) / 1000 for name, at in known.items() if at}
            missing[before] = now - LEADER_LEASE_S
        self._presence.learn(known, missing)
        self._look_at = self._idle_look_at = 0.0

    async def expire_leases(self, queues: list[str]) -> list[tuple[str, StoreError]]:
        """Look who is connected, if it is time to, and end the leases of who is gone.

        Args:
            queues: where anything is leased; if nobody holds anything, it looks less often.

        Returns:
            The queues that Redis refused, and why.
        """
        look_at = self._look_at if queues else min(self.due_at, self._idle_look_at)
        if monotonic() < max(look_at, self._look_at):
            return []
        try:
            connected, connections = await self._store.run(op.connected())
        except StoreRefused as error:
            log.info("lost consumers are found only when their leases run out: %s", error)
            self._look_at = math.inf
            return []
        except (
            StoreError
        ):  # a node of a cluster is away, and with it whoever is connected there alone
            self.blind()
            return []
        now = monotonic()
        self._look_at = now + min(_LOOK_EVERY_S, _PAUSE_PER_CONNECTION_S * connections)
        self._idle_look_at = now + _LOOK_EVERY_S
        changes = self._presence.look(connected, now)
        if changes.came or changes.left:
            await self._store.run(op.note_consumers(changes.came, changes.left))
        refused: list[tuple[str, StoreError]] = []
        for name in changes.gone:
            refused += await self._expire_those_of(name, queues)
            await self._store.run(op.forget_consumer(name))
            self._presence.forget(name)
        return refused

    async def _expire_those_of(self, name: str, queues: list[str]) -> list[tuple[str, StoreError]]:
        refused: list[tuple[str, StoreError]] = []
        for queue in queues:
            try:
                count = await self._store.follow(flows.expire_leases(keys_of(queue), name))
            except StoreRefused as error:
                refused.append((queue, error))
                continue
            if count:
                log.warning("consumer %s is gone: its %d jobs in %s are free", name, count, queue)
        return refused
