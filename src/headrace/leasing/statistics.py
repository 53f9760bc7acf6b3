"""How long jobs that end over HTTP have waited and run: counted here, told in sum, as consumers do.

A job ran from the request that got it to the one that settled it, by the clocks of the servers.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from headrace.clock import monotonic, now_ms
from headrace.consumer.claimed import ClaimedJob
from headrace.holders import asked_at_ms
from headrace.operations import Verb
from headrace.store import AsyncStore
from headrace.timings import Recorder, telling

log: logging.Logger = logging.getLogger(__name__)


class Statistics:
    """Counts the jobs that end over HTTP at one server. Belongs to its event loop.

    Args:
        store: the Redis that is told.

    Attributes:
        ahead_ms: Redis' clock against ours, as far as it was seen.
    """

    def __init__(self, store: AsyncStore) -> None:
        self.ahead_ms: int = 0
        self._store = store
        self._recorder = Recorder(lambda: now_ms() + self.ahead_ms)
        self._telling: asyncio.Task[None] | None = None
        self._closed = False

    def note(self, job: ClaimedJob, verb: Verb) -> None:
        """Count what became of a job."""
        self._recorder.note(job, verb)
        if self._telling is None and not self._closed:
            self._telling = asyncio.create_task(self._keep_telling())

    async def close(self) -> None:
        """Tell what is left."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(telling.LAST_S):
                if self._telling is not None:
                    self._telling.cancel()
                    await asyncio.wait({self._telling})
                await self._tell()

    async def _keep_telling(self) -> None:
        """Tell until nothing has ended for a while."""
        told = True
        try:
            while told:
                await asyncio.sleep(telling.EVERY_S)
                told = await self._tell()
        except Exception:
            log.exception("what became of jobs over HTTP is not told")
        finally:  # whatever has ended it, the next job begins it again
            self._telling = None

    async def _tell(self) -> bool:
        """Tell what there is; return whether there was something."""
        told = self._recorder.take()
        if told:
            await telling.tell(self._store, self._recorder, told)
        return bool(told)


def began(holder: str) -> float:
    """Return when a holder's jobs began to run (monotonic); 0 if it does not say."""
    asked_ms = asked_at_ms(holder)
    return 0.0 if asked_ms is None else monotonic() - max(0, now_ms() - asked_ms) / 1000
