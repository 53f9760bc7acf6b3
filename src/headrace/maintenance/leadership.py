"""Leadership: one of all consumers and servers leads, as long as it says so every few seconds."""

from __future__ import annotations

import logging

from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.policy import LEADER_LEASE_S
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)


class Leadership:
    """Who leads, and this one's part in it.

    Args:
        store: the Redis.
        name: who this is, unique among consumers and servers.

    Attributes:
        leader: who led at the last look; "" if unknown.
        ask_at: when the lead of another runs out (monotonic).
    """

    def __init__(self, store: AsyncStore, name: str) -> None:
        self._store = store
        self._name = name
        self.leader: str = ""
        self.ask_at: float = 0.0
        self._asks = False  # for the lead, and does not know yet whether it has it

    @property
    def is_ours(self) -> bool:
        """Whether this one led at the last look."""
        return self.leader == self._name

    async def look(self) -> None:
        """Keep the lead, or learn who has it, and for how long; take it when nobody has.

        Raises:
            StoreError: it is not known who leads.
        """
        self.leader = await self._find()

    def forget(self) -> None:
        """Know nothing more of who leads: Redis was away, and the lead may have run out."""
        self.leader = ""
        self._asks = False

    async def resign(self) -> None:
        """Give up the lead, also one that was asked for and not answered."""
        if self.is_ours or self._asks:
            try:
                await self._store.run(op.lead(self._name, 0))
            except StoreError as error:
                log.debug("the lead runs out by itself: %s", error)

    async def _find(self) -> str:
        lease_ms = round(LEADER_LEASE_S * 1000)
        if self.is_ours:
            if await self._store.run(op.keep_lead(lease_ms)) == self._name:
                return self._name
        elif self.leader:
            asked = await self._store.run_all([op.leader(), op.lead_left_ms()])
            leader, left_ms = op.unfailed(asked)
            if leader and 0 < left_ms <= lease_ms:
                self.ask_at = monotonic() + left_ms / 1000
                return str(leader)
        self._asks = True
        leads = await self._store.run(op.lead(self._name, lease_ms))
        self._asks = False
        return leads
