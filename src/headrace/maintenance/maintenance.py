"""The maintenance: turn after turn of all duties, while this one leads."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Final

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.maintenance.duties import Duties, DutyMaker
from headrace.maintenance.leadership import Leadership
from headrace.maintenance.lost_consumers import LostConsumers
from headrace.maintenance.registry import Registry
from headrace.maintenance.upkeep import Upkeep
from headrace.policy import LeasePolicy, ReconnectBackoff
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_LEAST_PAUSE_S: Final = 0.001


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
        self._upkeep = Upkeep(store, policy, self._registry)
        self._duties = Duties(store, duties)
        self._cycle_s = policy.sweep_every_s
        self._hurry = asyncio.Event()
        self._due_at = math.inf  # when a delayed job is due, as was heard since the last turn began

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
                    await reconnect.wait(error)
                    continue
                self._cycle_s = max(self._policy.sweep_every_s, monotonic() - started)
                await self._pause(started, busy=busy)
        finally:
            await self._leadership.resign()

    def sleeps_beyond(self, ms: int) -> bool:
        """Whether it leads and would, as things are, sleep on when that time has passed."""
        return self.leads and monotonic() + ms / 1000 < self._due_at

    def due_in(self, ms: int) -> None:
        """Note that a delayed job is due in so many ms, so as not to sleep beyond that."""
        self._hear_of(monotonic() + ms / 1000)

    def _hear_of(self, due_at: float) -> None:
        if due_at < self._due_at:
            self._due_at = due_at
            self._hurry.set()

    async def _turn(self) -> bool:
        """Do one round if this one leads; whether there is more to do at once."""
        before = self._leadership.leader
        await self._leadership.look()
        if not self.leads:
            return False
        if before != self._name:
            log.debug("%s leads the maintenance now", self._name)
            await self._lost_consumers.take_over(before)
            self._registry.begin()
            self._duties.begin()
        queues = await self._registry.astir()
        for queue, error in await self._lost_consumers.expire_leases(queues):
            self._upkeep.skip(queue, error)
        busy = await self._upkeep.visit(queues, gap_s=3 * self._cycle_s)
        self._hear_of(self._upkeep.due_at)
        await self._registry.forget()
        return await self._duties.turn() or busy

    async def _pause(self, started: float, *, busy: bool) -> None:
        """Sleep until the next turn: a second after the last began, or sooner, when a job falls due.

        Who does not lead sleeps until the lead may have run out.
        """
        while not busy:
            until = started + self._policy.sweep_every_s
            if self.leads:
                until = min(until, self._due_at, self._lost_consumers.due_at, self._duties.due_at)
            else:
                until = max(until, self._leadership.ask_at)
            left_s = until - monotonic()
            if left_s <= 0:
                break
            self._hurry.clear()
            try:
                # Not wait_for, which can swallow a cancellation on Python 3.11.
                async with asyncio.timeout(max(_LEAST_PAUSE_S, left_s)):
                    await self._hurry.wait()
            except TimeoutError:
                break
        self._due_at = math.inf
