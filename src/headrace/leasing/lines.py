"""Who waits for jobs: long polls. Nothing polls Redis: each queue that is waited for has one listener.

    poll ──▶ claim ──▶ there are jobs ──▶ answered
               └─ none: it stands in the line of each of its queues
                    listener: a job was moved ──▶ leased for the first in the line
                              a hint          ──▶ the first in the line claims, then the next

A job that comes for somebody who has left meanwhile goes back to the front of its queue, uncharged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from headrace import operations as op
from headrace.consumer.listener import Listener
from headrace.errors import StoreError
from headrace.keys import Keys
from headrace.leasing.leases import Holder, Leased, Leases, holder
from headrace.policy import LeasePolicy, ReconnectBackoff
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

MOST_LINES: Final = 64
"""So many queues are waited for at once: each has two connections to Redis."""

_FEW: Final = 4  # queues; to ask each of more for jobs would be as many round trips
_IDLE_S: Final = 30.0  # how long a line is kept in which nobody stands
_END_S: Final = 1.0  # how long a claim under way has, when the server ends


class Poll:
    """One who asks for jobs, and may wait for them. Belongs to an event loop.

    Args:
        consumer: its name.
        count: how many jobs it takes at most.
        lease: how long its claims last.

    Attributes:
        count: the same.
        holder: who has asked for it last, and has what it got.
        lines: where it stands.
    """

    def __init__(self, consumer: str, count: int, lease: LeasePolicy) -> None:
        self.count = count
        self.lines: list[_Line] = []
        self._who = (consumer, lease)
        self._asks = self._over = False
        self.holder: Holder | None = None
        self._got: asyncio.Future[list[Leased]] = asyncio.get_running_loop().create_future()

    @property
    def free(self) -> bool:
        """Whether it still waits, and nobody asks for it now."""
        return not (self._over or self._asks)

    def ask(self) -> Holder:
        """Let somebody ask Redis for it, alone; return who claims, once."""
        self._asks = True
        self.holder = holder(*self._who)
        return self.holder

    def take(self, jobs: list[Leased]) -> bool:
        """Take what was asked for, if there is something; return whether it still waited for that."""
        self._asks = False
        if self._over or not jobs:
            for line in self.lines:
                line.is_free_again()
            return False
        self._over = True
        self._got.set_result(jobs)
        return True

    async def wait(self, wait_s: float, *ends: Coroutine[Any, Any, Any]) -> list[Leased]:
        """Wait for jobs, so many seconds, or until one of these has ended."""
        ending = [asyncio.create_task(end) for end in ends]
        try:
            waited = {self._got, *ending}
            await asyncio.wait(waited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            return self._got.result() if self._got.done() else []
        finally:
            self._over = True  # what comes for it from now on goes back
            for end in ending:
                end.cancel()
            for line in self.lines:
                line.leave(self)


class Lines:
    """All who wait. Belongs to one event loop.

    Args:
        store: the Redis.
        leases: claims for them.
        label: what connections are called.
        policy: how long a job may stand bare in processing.

    Attributes:
        leases, policy: the same.
    """

    def __init__(self, store: AsyncStore, leases: Leases, label: str, policy: LeasePolicy) -> None:
        self.leases = leases
        self.policy = policy
        self._store = store
        self._parts = (store, leases, label, policy)
        self._lines: dict[Keys, _Line] = {}
        self._closed = asyncio.Event()

    async def claim(
        self,
        queues: Sequence[Keys],
        poll: Poll,
        wait_s: float,
        left: Callable[[], Coroutine[Any, Any, Any]],
    ) -> list[Leased]:
        """Claim jobs of these queues, in order; wait for one, if there are none.

        Args:
            queues: the queues.
            poll: who asks.
            wait_s: how long to wait at most, seconds.
            left: returns when whoever asks has left.

        Raises:
            StoreError: Redis did not do it.
            OverflowError: too many queues are waited for.
        """
        for k in await self._busy(queues):
            if jobs := await self.leases.claim(k, poll.count, poll.ask()):
                return jobs
        poll.take([])
        if not wait_s or self._closed.is_set():
            return []
        poll.lines = [self._line(k) for k in queues]
        for line in poll.lines:
            line.join(poll)
        return await poll.wait(wait_s, left(), self._closed.wait())

    async def _busy(self, queues: Sequence[Keys]) -> Sequence[Keys]:
        """Return those where jobs wait; few queues are asked for jobs at once."""
        if len(queues) <= _FEW:
            return queues
        counted = op.snapshots_of(await self._store.run_all(op.snapshots(queues)))
        return [k for k, one in zip(queues, counted, strict=True) if one.waiting]

    async def close(self) -> None:
        """Answer all who wait, close the connections, and tell of what has ended."""
        self._closed.set()
        ending = [line.close() for line in [*self._lines.values()]]
        await asyncio.gather(*ending, self.leases.close())

    def _line(self, k: Keys) -> _Line:
        line = self._lines.get(k)
        if line is None:
            if len(self._lines) >= MOST_LINES:
                raise OverflowError(f"{MOST_LINES} queues are waited for already")
            line = self._lines[k] = _Line(k, *self._parts, over=lambda: self._lines.pop(k, None))
        return line


class _Line:
    """Those who wait for jobs of one queue.

    Args:
        k: the queue's keys.
        store: the Redis.
        leases: claims for them.
        label: what connections are called.
        policy: how long a job may stand bare in processing.
        over: called when nobody can join it any more.
    """

    def __init__(
        self,
        k: Keys,
        store: AsyncStore,
        leases: Leases,
        label: str,
        policy: LeasePolicy,
        *,
        over: Callable[[], object],
    ) -> None:
        self._k = k
        self._leases = leases
        self._policy = policy
        self._over = over
        self._polls: dict[Poll, None] = {}
        self._wake = asyncio.Event()
        self._closing = self._lacked = False
        self._listener = Listener(store, label, policy, self._take, self._wake)
        self._listener.add([k])
        self._handing: set[asyncio.Task[None]] = set()
        self._closed: asyncio.Task[None] | None = None  # since a part of it has failed
        self._serving = asyncio.create_task(self._serve())
        for task in (self._serving, *self._listener.tasks):
            task.add_done_callback(self._part_ended)

    def join(self, poll: Poll) -> None:
        """Let somebody wait, who has found nothing."""
        self._polls[poll] = None
        self.is_free_again()

    def leave(self, poll: Poll) -> None:
        """Forget somebody."""
        self._polls.pop(poll, None)
        if not self._polls:
            self._wake.set()

    def is_free_again(self) -> None:
        """Look again who waits, if nobody was free when it was looked last."""
        if self._lacked:
            self._wake.set()

    async def close(self) -> None:
        """End what waits; what that brings goes back."""
        self._over()
        self._closing = True
        self._wake.set()
        await asyncio.wait({self._serving}, timeout=_END_S)
        self._serving.cancel()
        await asyncio.wait({self._serving})
        await self._listener.close()
        if self._handing:
            await asyncio.wait(self._handing)

    async def _serve(self) -> None:
        """Claim for those who wait, the first one first, whenever there may be something."""
        reconnect = ReconnectBackoff(f"claiming from queue {self._k.queue} for HTTP", fetches=True)
        while not self._closing:
            self._wake.clear()
            poll = next((poll for poll in self._polls if poll.free), None)
            self._lacked = poll is None
            if poll is None:
                self._listener.end()
                try:
                    async with asyncio.timeout(None if self._polls else _IDLE_S):
                        await self._wake.wait()
                except TimeoutError:
                    break
                continue
            hints, who, jobs = self._listener.hints, poll.ask(), list[Leased]()
            try:
                jobs = await self._leases.claim(self._k, poll.count, who)
                reconnect.over()
            except StoreError as error:
                await reconnect.wait(error)
                continue
            finally:
                await self._give(poll, jobs, who)
            if not jobs and hints == self._listener.hints:
                self._listener.open()
                await self._wake.wait()
        self._over()
        await self._listener.close()

    def _take(self, k: Keys, raw: bytes, _: float) -> None:
        """Take a job that came by a blocking move."""
        poll = next((poll for poll in self._polls if poll.free), None)
        who = poll.ask() if poll is not None else holder("server", self._policy)
        task = asyncio.create_task(self._hand_over(k, raw, poll, who))
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)

    async def _hand_over(self, k: Keys, raw: bytes, poll: Poll | None, who: Holder) -> None:
        jobs: list[Leased] = []
        try:
            jobs = await self._leases.take(k, raw, who)
        except StoreError as error:
            log.info("a job of queue %s waits for the sweep: %s", k.queue, error)
        finally:
            await self._give(poll, jobs, who)

    async def _give(self, poll: Poll | None, jobs: list[Leased], who: Holder) -> None:
        taken = poll is not None and poll.take(jobs)
        if jobs and not taken:
            await self._leases.give_back(jobs, who)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("nobody waits for jobs of queue %s any more: %s", self._k.queue, error)
            self._closed = self._closed or asyncio.create_task(self.close())
