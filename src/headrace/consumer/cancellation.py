"""How a running job hears at once that it is cancelled, and not when its lease is next extended.

Whoever cancels it publishes a hint in its consumer's channel. A consumer subscribes to that only while
it has jobs that have run for a while, so that one of quick jobs has neither the connection nor a
request more. A hint may be lost: the lease keeper asks every few seconds all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.dispatcher import Dispatcher
from headrace.errors import NotPermitted, StoreError
from headrace.keys import CHANNEL_PREFIX, Keys, queue_of
from headrace.scripts import MAX_ITEMS
from headrace.store import AsyncStore, Subscription

log: logging.Logger = logging.getLogger(__name__)

LONG_S: Final = 1.0
"""A job that has run for so long is worth listening for; also how often that is looked for."""

QUIET_S: Final = 30.0
"""So long after the last message the connection is tried, and closed if no such job runs any more."""


class Cancellation:
    """Listens for one consumer, on its event loop.

    Args:
        store: the consumer's store.
        consumer: its name.
        jobs: what it runs.
    """

    def __init__(self, store: AsyncStore, consumer: str, jobs: Dispatcher) -> None:
        self._store = store
        self._channel = CHANNEL_PREFIX + consumer
        self._jobs = jobs

    async def run(self) -> None:
        """Listen while it is worth it, until cancelled, or for good if that is not permitted."""
        while True:
            await asyncio.sleep(LONG_S)
            if not self._is_worth_it():
                continue
            try:
                await self._listen()
            except NotPermitted as error:
                log.info("running jobs hear late that they are cancelled: %s", error)
                return
            except StoreError as error:  # the other parts tell of it
                log.debug("cancellations are not heard at once: %s", error)

    def _is_worth_it(self) -> bool:
        since = monotonic() - LONG_S
        return any(0 < claimed.started <= since for claimed in self._jobs.slots.running)

    async def _listen(self) -> None:
        subscription = Subscription(self._store, self._channel)
        try:
            await subscription.open()
            for k in self._jobs.claims.queues:  # what was said before
                await self._look(k, self._jobs.claims.of(k.queue).values())
            while True:
                hint = await subscription.hear(QUIET_S)
                if hint is not None:
                    await self._take(hint)
                elif not self._is_worth_it():
                    return
        finally:
            await subscription.close()

    async def _take(self, hint: bytes) -> None:
        pending, _, job_id = hint.decode(errors="replace").partition(" ")
        queue = queue_of(pending)
        for k in self._jobs.claims.queues:
            if k.queue == queue and (claimed := self._jobs.claims.get(queue, job_id)) is not None:
                await self._look(k, [claimed])

    async def _look(self, k: Keys, held: Iterable[ClaimedJob]) -> None:
        """Stop those of which Redis says that somebody wants them cancelled."""
        mine = [claimed for claimed in held if claimed.owned]
        for start in range(0, len(mine), MAX_ITEMS):
            some = mine[start : start + MAX_ITEMS]
            ids = [claimed.head.id for claimed in some]
            wanted = await self._store.run(op.command("ZMSCORE", k.cancelled, *ids, parse=list))
            for claimed, since in zip(some, wanted, strict=True):
                # Meanwhile it may have ended, and another job may have come under its id.
                if since is not None and self._jobs.claims.get(k.queue, claimed.head.id) is claimed:
                    self._jobs.stop(claimed, "cancelled")
