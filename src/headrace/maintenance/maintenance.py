"""The maintenance: turn after turn of all duties, while this one leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.maintenance.duties import Duties, DutyMaker
from headrace.maintenance.leadership import Leadership
from headrace.maintenance.lost_consumers import LostConsumers
from headrace.maintenance.promoter import Promoter
from headrace.maintenance.registry import Registry
from headrace.maintenance.upkeep import Upkeep
from headrace.policy import LeasePolicy, ReconnectBackoff
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)


class Maintenance:
    """Keeps all queues that are registered in one Redis, while it leads.

    Args:
        store: the Redis.
        name: who this is, unique among consumers and servers.
        policy: how long claims last.
        duties: make what else the leader does.
    """

    def __init__(
        self,
        store: AsyncStore,
        name: str,
        policy: LeasePolicy,
        duties: Sequence[DutyMaker] = (),
    ) -> None:
        self._name = name
        self._policy = policy
        self._leadership = Leadership(store, name)
        self._registry = Registry(store)
        self._lost_consumers = LostConsumers(store, policy)
        self._promoter = Promoter(store)
        self._upkeep = Upkeep(store, policy, self._registry, self._promoter)
        self._duties = Duties(store, duties)
        self._cycle_s = policy.sweep_every_s

    @property
    def leads(self) -> bool:
        """Whether this one led at its last look."""
        return self._leadership.is_ours

    async def run(self) -> None:
        """Maintain until cancelled; gives the lead up then."""
        reconnect = ReconnectBackoff("maintenance")
        try:
            while True:
                started = monotonic()
                try:
                    busy = await self._turn()
                    reconnect.over()
                except StoreError as error:
                    self._lost_consumers.blind()
                    self._leadership.forget()
                    await self._promoter.end()
                    await reconnect.wait(error)
                    continue
                self._cycle_s = max(self._policy.sweep_every_s, monotonic() - started)
                await self._pause(started, busy=busy)
        finally:
            await self._promoter.end()
            await self._leadership.resign()

    async def _turn(self) -> bool:
        """Do one round if this one leads; whether there is more to do at once."""
        before = self._leadership.leader
        await self._leadership.look()
        if not self.leads:
            await self._promoter.end()
            return False
        await self._promoter.lead()
        if before != self._name:
            log.debug("%s leads the maintenance now", self._name)
            await self._lost_consumers.take_over(before)
            self._registry.begin()
            self._duties.begin()
        queues = await self._registry.astir()
        for queue, error in await self._lost_consumers.expire_leases(queues):
            self._upkeep.skip(queue, error)
        busy = await self._upkeep.visit(queues, gap_s=3 * self._cycle_s)
        await self._registry.forget()
        return await self._duties.turn() or busy

    async def _pause(self, started: float, *, busy: bool) -> None:
        """Sleep until the next turn: a second after the last began, or sooner, when somebody may be gone.

        Who does not lead sleeps until the lead may have run out.
        """
        until = started + self._policy.sweep_every_s
        if self.leads:
            until = min(until, self._lost_consumers.due_at, self._duties.due_at)
        else:
            until = max(until, self._leadership.ask_at)
        if not busy:
            await asyncio.sleep(max(0.0, until - monotonic()))
