"""How a supervisor sees its workers: each writes its last signs into memory that both share.

Nobody has to read them, so nobody waits; and a process that was killed, or whose event loop is stuck,
leaves them as they are, so that they grow old. The monotonic clock is one for a machine's processes.
"""

from __future__ import annotations

import asyncio
from multiprocessing.context import SpawnContext
from typing import Final

from headrace.clock import monotonic
from headrace.consumer import Consumer
from headrace.policy import OUTAGE
from headrace.supervisor.health import Signs

_BEAT_S: Final = 0.5


class Heartbeat:
    """The last signs of one worker. Handed to its process when that is started.

    Args:
        context: makes the process.
        signs: what counts until it gives its own.
    """

    def __init__(self, context: SpawnContext, signs: Signs) -> None:
        # Three numbers, each written in one piece.
        self._memory = context.RawArray("d", [signs.turned, signs.fetched, signs.ready])

    def give(self, now: float, *, fetched: bool, ready: bool) -> None:
        """Give a sign."""
        if fetched:
            self._memory[1] = now
        self._memory[2] = ready
        self._memory[0] = now

    @property
    def signs(self) -> Signs:
        """The last ones."""
        turned, fetched, ready = self._memory
        return Signs(turned, fetched, bool(ready))


async def beat(consumer: Consumer, heartbeat: Heartbeat) -> None:
    """Give signs of a consumer for as long as its loop turns."""
    while True:
        there = OUTAGE.concerns_nobody
        heartbeat.give(
            monotonic(),
            # A Redis that is away is not the consumer's fault, which tries again and again.
            fetched=OUTAGE.fetched or not consumer.fetching or not there,
            ready=there and consumer.ready and not consumer.stopping,
        )
        OUTAGE.fetched = False
        await asyncio.sleep(_BEAT_S)
