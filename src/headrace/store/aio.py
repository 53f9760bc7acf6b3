"""The store that is awaited. It belongs to one event loop: each call takes a connection of its own.

There are at most 16 of these, and 16 more for calls that block, so nobody waits for a call that waits
for him.

Its twin is ``store/sync.py``; the two differ in ``await``, and in who bounds a request's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio.connection import Connection

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.operations import Argument, Operation, unfailed
from headrace.store import exchange
from headrace.store.address import AsyncAddress

R = TypeVar("R")


class AsyncStore:
    """Runs operations on one Redis.

    Args:
        url: where it is.
        name: what its connections are called in ``CLIENT LIST``.
        timeout_s: how long to wait for a connection or an answer, seconds.
    """

    def __init__(
        self, url: str, *, name: str | None = None, timeout_s: float = exchange.TIMEOUT_S
    ) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._address = AsyncAddress(url, name, timeout_s)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[tuple[Connection, float]] = deque()
        self._turns = asyncio.Semaphore(exchange.MOST)
        self._blocking = asyncio.Semaphore(exchange.BLOCKING)

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
        turns = self._turns
        try:
            async with asyncio.timeout(self._timeout_s if turns.locked() else None):
                await turns.acquire()
        except TimeoutError:
            raise exchange.lost("a request", self.url, exchange.CROWDED, sent=False) from None
        try:
            return await self._trip(operations, meanwhile)
        finally:
            turns.release()

    async def _wait(self, operation: Operation[R]) -> R:
        """Wait for what a blocking request brings; where too many block, look again and again."""
        if self._pid != os.getpid():
            self._begin()
        blocking, until = self._blocking, monotonic() + operation.wait_s
        if not blocking.locked():
            async with blocking:
                found: R = unfailed(await self._trip((operation,)))[0]
                return found
        while True:
            answer = await self.run(operation.at_once())
            left_s = until - monotonic()
            if answer is not None or left_s <= 0:
                return answer
            await asyncio.sleep(min(left_s, exchange.LOOK_EVERY_S))

    async def _trip(
        self, operations: Sequence[Operation[Any]], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        sent, idle = False, self._idle
        connection, used = self._take()
        try:
            if monotonic() - used > exchange.IDLE_CHECK_S and await _is_stale(connection):
                await connection.disconnect(nowait=True)
            if not connection.is_connected:
                async with asyncio.timeout(self._timeout_s):
                    await self._address.connect(connection)
            sent = True
            wait_s = max([op.wait_s for op in operations])
            commands = [op.command() for op in operations]
            replies = await self._exchange(connection, commands, wait_s, meanwhile)
            failed = exchange.has_failed(replies)
            if failed and (unknown := exchange.to_repeat(operations, replies)):
                again = [operations[i] for i in unknown]
                load = exchange.loading(again)
                commands = [*load, *(op.command() for op in again)]
                fresh = await self._exchange(connection, commands, wait_s)
                fresh = exchange.after_loading(fresh[: len(load)], fresh[len(load) :])
                for i, reply in zip(unknown, fresh, strict=True):
                    replies[i] = reply
        except exchange.NETWORK_ERRORS as error:
            await connection.disconnect(nowait=True)
            if sent:  # the others lead to the same server: each of them would cost a timeout
                await self.close(nowait=True)
            raise exchange.lost(
                exchange.names_of(operations), self.url, error, sent=sent
            ) from error
        except BaseException:
            # An answer may still be under way: nobody else must read it.
            await connection.disconnect(nowait=True)
            raise
        if failed and exchange.is_demoted(replies):
            await self.close(nowait=True)
        if idle is self._idle and len(idle) < exchange.KEPT:
            idle.append((connection, monotonic()))
        else:  # enough are kept, or the store was closed meanwhile and nobody would close this one
            await connection.disconnect(nowait=True)
        return [exchange.answer(op, reply) for op, reply in zip(operations, replies, strict=True)]

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
            await idle.pop()[0].disconnect(nowait=nowait)

    def abandon(self) -> None:
        """Close the idle connections of an event loop that was closed before them."""
        idle, self._idle = self._idle, deque()
        while idle:
            connection = idle.pop()[0]
            writer = getattr(connection, "_writer", None)  # redis-py has no other name for it
            if writer is not None:
                # Its loop cannot close it any more; uvloop has done so.
                with contextlib.suppress(OSError, AttributeError, TypeError):
                    writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                connection._writer = connection._reader = None  # noqa: SLF001  else it complains

    def _take(self) -> tuple[Connection, float]:
        """Return an idle connection, or a new one, and when it was last used."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._address.connection(), math.inf

    async def _exchange(
        self,
        connection: Connection,
        commands: Sequence[Sequence[Argument]],
        wait_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Any]:
        replies: list[Any] = []
        async with asyncio.timeout(self._timeout_s + wait_s):
            await send(connection, commands)
            if meanwhile is not None:
                meanwhile()
            for _ in commands:
                try:
                    # Not disconnected: redis-py would do so at the first -LOADING of several.
                    replies.append(await connection.read_response(disconnect_on_error=False))
                except exchange.SERVER_ERRORS as error:
                    replies.append(error)
        return replies


async def send(connection: Connection, commands: Sequence[Sequence[Argument]]) -> None:
    """Send commands in one piece."""
    with exchange.Resets():
        await connection.send_packed_command([exchange.packed(commands)], check_health=False)


async def _is_stale(connection: Connection) -> bool:
    """Whether the server has closed the connection while nobody used it."""
    try:
        # Two turns of the loop, for it to see what has arrived since it last looked: while a task
        # kept it busy, or between two ``asyncio.run``.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await connection.can_read()
    except exchange.NETWORK_ERRORS:
        return True
