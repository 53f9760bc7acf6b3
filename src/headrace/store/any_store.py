"""What both stores do, written once, as coroutines over a few steps that each does in its own way.

The steps of ``AsyncStore`` are awaited. Those of ``Store`` block instead, so that its coroutines never
suspend, and ``sync.complete`` has each run to its end at once.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.operations import Argument, Operation, unfailed
from headrace.store import exchange
from headrace.store.address import AnyAddress, C

R = TypeVar("R")


class AnyStore(ABC, Generic[C]):
    """Runs operations on one Redis; each call takes a connection of its own.

    There are at most 16 of these, and 16 more for calls that block, so nobody waits for a call that
    waits for him.

    Args:
        url: where it is.
        address: what a connection is made of.
        timeout_s: how long to wait for a connection or an answer, seconds.
    """

    def __init__(self, url: str, address: AnyAddress[C], timeout_s: float) -> None:
        self.url = url
        self.address: AnyAddress[C] = address
        self._timeout_s = timeout_s
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[tuple[C, float]] = deque()
        self._blocking = deque([None] * exchange.BLOCKING)

    async def run(self, operation: Operation[R]) -> R:
        """Run one operation.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing was sent.
            ReplyLost: sent, but the answer never came.
            StoreRefused: Redis answered with an error.
        """
        if operation.wait_s:
            return await self._wait(operation)
        answer: R = unfailed(await self.run_all((operation,)))[0]
        return answer

    async def run_all(
        self, operations: Sequence[Operation[Any]], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """Run operations in one round trip; an answer that is an error stands in its place.

        Args:
            operations: what to run.
            meanwhile: called when they have been sent, while Redis works.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing was sent.
            ReplyLost: sent, but not all answers came.
        """
        if not operations:
            return []
        if self._pid != os.getpid():  # after a fork the parent's connections are not ours
            self._begin()
        try:
            done = await self._turn()
        except TimeoutError:
            raise exchange.lost("a request", self.url, exchange.CROWDED, sent=False) from None
        try:
            return await self._trip(operations, meanwhile)
        finally:
            done()

    async def follow(self, flow: Flow[R]) -> R:
        """Drive a flow to its end; failures are raised inside it."""
        try:
            step = next(flow)
            while True:
                try:
                    answer: Any = await (
                        self.run_all(step) if isinstance(step, list) else self.run(step)
                    )
                except StoreError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: R = end.value
            return value

    async def close(self, *, nowait: bool = False) -> None:
        """Close the connections: idle ones now, busy ones after use. The store can be used again."""
        idle, self._idle = self._idle, deque()
        while idle:
            await self.address.disconnect(idle.pop()[0], nowait=nowait)

    async def _wait(self, operation: Operation[R]) -> R:
        """Wait for what a blocking request brings; where too many block, look again and again."""
        if self._pid != os.getpid():
            self._begin()
        blocking, until = self._blocking, monotonic() + operation.wait_s
        try:
            permit = blocking.pop()  # in one step, for threads share it
        except IndexError:
            return await self._look_until(until, operation.at_once())
        try:
            found: R = unfailed(await self._trip((operation,)))[0]
            return found
        finally:
            blocking.append(permit)

    async def _look_until(self, until: float, look: Operation[R]) -> R:
        while True:
            found = await self.run(look)
            left_s = until - monotonic()
            if found is not None or left_s <= 0:
                return found
            await self._sleep(min(left_s, exchange.LOOK_EVERY_S))

    async def _trip(
        self, operations: Sequence[Operation[Any]], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        address, idle, sent = self.address, self._idle, False
        connection, used = self._take()
        try:
            if monotonic() - used > exchange.IDLE_CHECK_S and await address.is_stale(connection):
                await address.disconnect(connection)
            if not connection.is_connected:
                await address.connect(connection)
            sent = True
            wait_s = max([op.wait_s for op in operations])
            commands = [op.command() for op in operations]
            replies = await self._exchange(connection, commands, wait_s, meanwhile)
            if failed := exchange.has_failed(replies):
                await self._repeat_unknown(connection, operations, replies, wait_s)
        except exchange.NETWORK_ERRORS as error:
            await address.disconnect(connection)
            if sent:  # the others lead to the same server: each of them would cost a timeout
                await self.close(nowait=True)
            names = exchange.names_of(operations)
            raise exchange.lost(names, self.url, error, sent=sent) from error
        except BaseException:
            # An answer may still be under way: nobody else must read it.
            await address.disconnect(connection)
            raise
        if failed and exchange.is_demoted(replies):
            await self.close(nowait=True)
        if idle is self._idle and len(idle) < exchange.KEPT:
            idle.append((connection, monotonic()))
        else:  # enough are kept, or the store was closed meanwhile and nobody would close this one
            await address.disconnect(connection)
        pairs = zip(operations, replies, strict=True)
        if failed:
            return [exchange.answer(op, reply) for op, reply in pairs]
        return [op.parse(reply) for op, reply in pairs]

    async def _repeat_unknown(
        self,
        connection: C,
        operations: Sequence[Operation[Any]],
        replies: list[Any],
        wait_s: float,
    ) -> None:
        """Load the scripts that the server did not know, and send again what was not run for it."""
        unknown = exchange.to_repeat(operations, replies)
        if not unknown:
            return
        again = [operations[i] for i in unknown]
        load = exchange.loading(again)
        commands = [*load, *(op.command() for op in again)]
        fresh = await self._exchange(connection, commands, wait_s)
        fresh = exchange.after_loading(fresh[: len(load)], fresh[len(load) :])
        for i, reply in zip(unknown, fresh, strict=True):
            replies[i] = reply

    def _take(self) -> tuple[C, float]:
        """Return an idle connection, or a new one, and when it was last used."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.address.connection(), math.inf

    @abstractmethod
    async def _turn(self) -> Callable[[], None]:
        """Wait until fewer than 16 requests are under way; return what is to be called after this one.

        Raises:
            TimeoutError: it took too long.
        """

    @abstractmethod
    async def _exchange(
        self,
        connection: C,
        commands: Sequence[Sequence[Argument]],
        wait_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Send commands in one piece and read as many replies; errors of the server stand among them.

        Raises:
            OSError, RedisError: not all replies came within the timeout and ``wait_s``.
        """

    @abstractmethod
    async def _sleep(self, seconds: float) -> None:
        """Let time pass."""
