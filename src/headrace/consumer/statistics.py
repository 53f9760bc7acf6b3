"""What a consumer tells of its jobs in sum: once a minute the log, every ten seconds Redis.

Beside the jobs, and not for each of them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from headrace.clock import monotonic
from headrace.consumer import report
from headrace.consumer.dispatcher import Dispatcher
from headrace.store import AsyncStore
from headrace.timings import requests, telling

SUM_UP_EVERY_S: Final = 60.0
"""How often the log is; and how often an idle consumer says that it is there."""


class Statistics:
    """Tells of the jobs of one consumer, on its event loop.

    Args:
        store: the consumer's store.
        consumer: its name.
        jobs: what it runs.
    """

    def __init__(self, store: AsyncStore, consumer: str, jobs: Dispatcher) -> None:
        self._store = store
        self._consumer = consumer
        self._jobs = jobs
        self._slots_at = monotonic()  # when it told of its slots, or began

    async def run(self) -> None:
        """Tell until cancelled; then what ended last."""
        ends, summed_at = self._jobs.timings.ends, monotonic()
        try:
            while True:
                await asyncio.sleep(telling.EVERY_S)
                now = monotonic()
                if now - summed_at >= SUM_UP_EVERY_S:
                    until_now = self._jobs.timings.ends
                    report.sum_up(until_now - ends, now - summed_at)
                    ends, summed_at = until_now, now
                await self._tell()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(telling.LAST_S):
                    await self._tell(leaves=True)

    async def _tell(self, *, leaves: bool = False) -> None:
        """Tell Redis what there is to tell. The other parts tell of it when it does not answer."""
        slots, told = self._jobs.slots, self._jobs.timings.take()
        busy = min(len(slots.running), slots.concurrency)
        if not (told or busy or leaves or monotonic() - self._slots_at >= SUM_UP_EVERY_S):
            return
        slots_now = requests.tell(self._consumer, 0 if leaves else slots.concurrency, busy)
        if await telling.tell(self._store, self._jobs.timings, told, slots_now):
            self._slots_at = monotonic()
