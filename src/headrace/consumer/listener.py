"""The listener: how an idle consumer waits for work without polling.

For each queue one BLMOVE to processing, and one BLPOP over the queues' nudges (on a cluster one for
each queue), each on a connection of its own. They are started only while there is a free slot and the last claim came back short.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import StoreError, StoreRefused
from headrace.keys import Keys
from headrace.policy import LeasePolicy, ReconnectBackoff
from headrace.store import AsyncStore, Channel

log: logging.Logger = logging.getLogger(__name__)

BLOCK_S: Final = 5.0
"""How long a blocking request lasts at most: after that, a connection that died silently is noticed."""

# A full Redis refuses BLMOVE: then claims, which it does not refuse, ask instead.
_REFUSED_S: Final = 1.0


class Listener:
    """The blocking requests of a consumer.

    Args:
        store: the consumer's store.
        label: what its connections are called.
        lease: how long a job may stand bare in processing.
        take: gets each job that was moved, and until when nobody else gets it (monotonic).
        wake: set when there may be something to claim.

    Attributes:
        tasks: what waits; each ends after ``close``, or failed if it ends before.
        hints: how often something hinted at work.
    """

    def __init__(
        self,
        store: AsyncStore,
        label: str,
        lease: LeasePolicy,
        take: Callable[[Keys, bytes, float], None],
        wake: asyncio.Event,
    ) -> None:
        self._new_channel = partial(Channel, store, label)
        self._joins_queues = store.server.joins_queues
        self._lease = lease
        self._take = take
        self._wake = wake
        self.hints: int = 0
        self._idle = asyncio.Event()
        self._closing = False
        self._active: dict[str, asyncio.Event] = {}
        self._moves: dict[str, Channel] = {}
        self._nudges: list[Channel] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._moving = 0
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, queues: Sequence[Keys]) -> list[asyncio.Task[None]]:
        """Wait for jobs of these queues, too; return what does, which is among ``tasks``."""
        for k in queues:
            self._active[k.queue], self._moves[k.queue] = asyncio.Event(), self._new_channel()
            self._active[k.queue].set()
        groups = [[*queues]] if self._joins_queues and queues else [[k] for k in queues]
        nudges = [self._new_channel() for _ in groups]
        self._nudges += nudges
        parts = (*map(self._await_jobs, queues), *map(self._await_nudges, nudges, groups))
        tasks = [asyncio.create_task(part) for part in parts]
        self.tasks += tasks
        return tasks

    @property
    def moving(self) -> bool:
        """Whether a move is under way: it may have a job that nobody here knows of yet."""
        return self._moving > 0

    def pause(self, queue: str, *, paused: bool) -> None:
        """Note whether a queue is paused: then no move is started; a nudge tells when it goes on."""
        active = self._active[queue]
        (active.clear if paused else active.set)()

    def open(self) -> None:
        """Wait for jobs: there is a free slot and nothing to claim."""
        self._idle.set()

    def shut(self) -> None:
        """Start no further requests; those under way go on."""
        if not self._closing:  # then it is set for good, so that whoever waits for it can leave
            self._idle.clear()

    def end(self) -> None:
        """End the moves under way: there is no free slot any more."""
        self.shut()
        if not self._ending and any(channel.busy for channel in self._moves.values()):
            task = asyncio.create_task(self._end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all requests, take what they bring, and close the connections."""
        self._closing = True
        self._idle.set()
        for active in self._active.values():
            active.set()
        channels = [*self._moves.values(), *self._nudges]
        while pending := [task for task in self.tasks if not task.done()]:
            await asyncio.gather(*(channel.end() for channel in channels))
            await asyncio.wait(pending, timeout=0.05)
        await asyncio.gather(*self._ending, *(channel.close() for channel in channels))

    async def _end(self) -> None:
        await asyncio.gather(*(channel.end() for channel in self._moves.values()))

    async def _await_jobs(self, k: Keys) -> None:
        reconnect = ReconnectBackoff(f"consuming queue {k.queue}", fetches=True)
        channel = self._moves[k.queue]
        while True:
            await self._active[k.queue].wait()
            await self._idle.wait()
            if self._closing:
                return
            if self._ending:  # else the channel would end, or forget, the request that is begun now
                await asyncio.wait(self._ending)
                continue
            if not self._active[k.queue].is_set():
                continue
            self._moving += 1
            asked_at = monotonic()
            try:
                move, look = op.blocking_move(k, BLOCK_S), op.is_paused(k)
                await channel.run_and_look(move, look, partial(self._take_moved, k, asked_at))
                reconnect.over()
            except StoreRefused as error:
                log.debug("queue %s: %s", k.queue, error)
                await asyncio.sleep(_REFUSED_S)
                self.hint()
            except StoreError as error:
                await reconnect.wait(error)
            finally:
                self._moving -= 1

    def _take_moved(self, k: Keys, since: float, moved: tuple[bytes | None, bool | None]) -> None:
        job, paused = moved
        if job is not None:
            # No sweep gives it to others before this, unless its queue may have been paused then.
            until = since + self._lease.bare_lease_s if paused is False else 0.0
            self._take(k, job, until)
            self.hint()

    async def _await_nudges(self, channel: Channel, queues: Sequence[Keys]) -> None:
        reconnect = ReconnectBackoff("waiting for nudges", fetches=True)
        nudges, look = [k.nudge for k in queues], op.are_prioritised(queues)
        while True:
            await self._idle.wait()
            if self._closing:
                return
            try:
                nudge = op.await_nudge(nudges, BLOCK_S)
                await channel.run_and_look(nudge, look, self._take_nudge)
                reconnect.over()
            except StoreError as error:
                await reconnect.wait(error)
                self.hint()  # one may have come

    def _take_nudge(self, answer: tuple[bool, bool | None]) -> None:
        """Look for work if a nudge came; or should have: they are hints, and may be lost."""
        nudged, prioritised = answer
        paused = not all(active.is_set() for active in self._active.values())
        if nudged or prioritised is not False or paused:
            self.hint()

    def hint(self) -> None:
        """Let a claim be made, for there may be something."""
        self.hints += 1
        self.shut()
        self._wake.set()
