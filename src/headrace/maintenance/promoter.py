"""The promoter: moves delayed jobs when they fall due, by one timer for all queues.

When the next job of a queue is due it learns from each promotion, from a look at each turn of the
maintenance, and at once from the script that delays a job to before all others: that is published.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
from typing import Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import NotPermitted, StoreError
from headrace.keys import DUE, is_name, keys_of, queue_of
from headrace.store import AsyncStore, Subscription

log: logging.Logger = logging.getLogger(__name__)

STEP: Final = 100
"""Jobs that one round trip moves: it keeps Redis from everybody else for 1 to 3 ms (benchmarks.promotion)."""

QUEUES_A_TRIP: Final = 20
"""Queues that share a round trip, and a step."""

_QUIET_S: Final = 5.0  # of silence, so that a connection that died silently is noticed
_AGAIN_S: Final = 1.0  # after a failure; meanwhile each turn of the maintenance looks
_LEAST_PAUSE_S: Final = 0.0005
_CANCEL_AGAIN_S: Final = 0.4  # redis-py may swallow a cancellation


class Promoter:
    """Promotes in each queue when its next delayed job falls due, while this one leads.

    Args:
        store: the Redis.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._due: dict[str, float] = {}  # queue -> when its next job is due (monotonic)
        # The same, soonest first, with some that are not so any more.
        self._timers: list[tuple[float, str]] = []
        self._sooner = asyncio.Event()
        self._listens = asyncio.Event()  # or it is known that it cannot
        self._parts: list[asyncio.Task[None]] = []

    async def lead(self) -> None:
        """Work from now on. When this returns, no hint is missed, if hints can be heard at all.

        Raises:
            Exception: it failed since it was last asked to, which is a bug.
        """
        for part in self._parts:
            if part.done():
                part.result()
        if not self._parts:
            self._listens.clear()
            self._parts = [asyncio.create_task(one) for one in (self._run(), self._listen())]
            with contextlib.suppress(TimeoutError):  # a proxy may not know what to do with it
                async with asyncio.timeout(_AGAIN_S):
                    await self._listens.wait()

    async def end(self) -> None:
        """Do nothing more: another one leads, or nobody knows who does."""
        while pending := [part for part in self._parts if not part.done()]:
            for part in pending:
                part.cancel()
            await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
        self._parts = []
        self._due.clear()
        self._timers.clear()

    def note(self, queue: str, due_ms: int) -> None:
        """Note that a job of this queue is due in so many ms."""
        due_at = monotonic() + due_ms / 1000
        if due_at < self._due.get(queue, math.inf):
            self._due[queue] = due_at
            heapq.heappush(self._timers, (due_at, queue))
            if len(self._timers) > 2 * len(self._due) + QUEUES_A_TRIP:
                self._timers = sorted((at, name) for name, at in self._due.items())
            self._sooner.set()

    async def _listen(self) -> None:
        while True:
            published = Subscription(self._store, DUE)
            try:
                await published.open()
                self._listens.set()
                while True:
                    self._heard(await published.hear(_QUIET_S) or b"")
            except NotPermitted as error:
                log.info("delayed jobs may be a second late: %s", error)
                self._listens.set()
                return
            except StoreError as error:
                log.debug("delayed jobs may be a second late for now: %s", error)
            finally:
                await published.close()
            self._listens.set()
            await asyncio.sleep(_AGAIN_S)

    def _heard(self, message: bytes) -> None:
        pending, _, ms = message.decode(errors="replace").rpartition(" ")
        queue = queue_of(pending)
        if ms.isdecimal() and len(ms) < 16 and is_name(queue):  # anybody may publish anything
            self.note(queue, int(ms))

    async def _run(self) -> None:
        while True:
            if queues := self._take_due():
                await self._promote(queues)
            else:
                await self._wait()

    def _take_due(self) -> list[str]:
        now, queues = monotonic(), list[str]()
        while self._timers and self._timers[0][0] <= now and len(queues) < QUEUES_A_TRIP:
            due_at, queue = heapq.heappop(self._timers)
            if self._due.get(queue) == due_at:
                del self._due[queue]
                queues.append(queue)
        return queues

    async def _promote(self, queues: list[str]) -> None:
        requests = [op.promote(keys_of(queue), STEP // len(queues)) for queue in queues]
        try:
            answers = await self._store.run_all(requests)
        except StoreError as error:  # each turn looks anew, and tells of a Redis that is away
            log.debug("not promoted: %s", error)
            return
        for queue, promoted in zip(queues, answers, strict=True):
            if not isinstance(promoted, StoreError) and promoted.due_ms is not None:
                self.note(queue, promoted.due_ms)

    async def _wait(self) -> None:
        """Wait until the next job is due, or it is known that one is due sooner."""
        self._sooner.clear()
        left_s = self._timers[0][0] - monotonic() if self._timers else None
        try:
            # Not wait_for, which can swallow a cancellation on Python 3.11.
            async with asyncio.timeout(left_s and max(_LEAST_PAUSE_S, left_s)):
                await self._sooner.wait()
        except TimeoutError:
            return
