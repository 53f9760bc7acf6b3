"""A connection of its own for requests that block, which can be ended without losing their answer.

Cancelling a client that waits for BLMOVE loses jobs: in 34 of 200 tries the job had already moved.
So a channel's read is never cancelled. ``end`` asks the server, on another connection, to unblock
it, again and again until the answer has been read: nothing, or the job that won the race.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from redis.asyncio.connection import Connection

from headrace.errors import StoreError
from headrace.operations import Operation, command
from headrace.store import exchange
from headrace.store.aio import AsyncStore, read, send
from headrace.store.node import Node

R = TypeVar("R")
S = TypeVar("S")

_UNBLOCK_EVERY_S: Final = 0.05  # the first one may arrive before the request that it should end
_LAST_LOOK_S: Final = 0.05  # for what has arrived already


class Channel:
    """One blocking connection beside a store.

    Args:
        store: runs CLIENT UNBLOCK.
        name: what the connection is called in ``CLIENT LIST``.
    """

    def __init__(self, store: AsyncStore, name: str) -> None:
        self._store = store
        self._name = name
        self._node: Node[Connection] | None = None
        self._connection = store.address.connection(name)
        self._client_id: int | None = None
        self._running: asyncio.Task[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._running is not None and not self._running.done()

    async def run(self, operation: Operation[R]) -> R:
        """Run one request. However the caller is cancelled, the answer is read, and kept for ``end``.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing was sent.
            ReplyLost: sent, but the answer never came.
            StoreRefused: Redis answered with an error.
            RuntimeError: another request is under way; its caller was cancelled, and nobody ended it.
        """
        result: R = await self._begin(operation)
        return result

    async def run_and_look(
        self,
        operation: Operation[R],
        look: Operation[S],
        took: Callable[[tuple[R, S | None]], None],
    ) -> None:
        """Run one request, and see how things stand in the moment when Redis answers it.

        Both travel together: Redis carries out what stands behind a blocked request as soon as that
        is over.

        Args:
            operation: the request.
            look: what is asked behind it.
            took: called with both answers as soon as they have been read, two turns of the loop
                before the caller goes on, and however it was cancelled. The look's is None when it
                is an error, or does not come.

        Raises:
            StoreError: the request failed, as in ``run``.
        """
        await self._begin(operation, look, took)

    async def _begin(
        self,
        operation: Operation[Any],
        look: Operation[Any] | None = None,
        took: Callable[[tuple[Any, Any]], None] | None = None,
    ) -> Any:
        if self.busy:
            raise RuntimeError("a request is under way on this channel: end() it first")
        self._running = asyncio.ensure_future(self._run(operation, look, took))
        result = await asyncio.shield(self._running)
        self._running = None
        return result

    async def end(self) -> Any:
        """End the request that is under way and give its answer: None when there is none."""
        running = self._running
        while running is not None and not running.done():
            if self._client_id is not None and self._node is not None:
                try:
                    await self._node.trip(
                        [command("CLIENT", "UNBLOCK", self._client_id, parse=bool)]
                    )
                except StoreError:
                    # The server is gone, and so is its answer, unless that has arrived already.
                    done, _ = await asyncio.wait([running], timeout=_UNBLOCK_EVERY_S)
                    if not done:
                        await self._connection.disconnect(nowait=True)
            await asyncio.wait([running], timeout=_UNBLOCK_EVERY_S)
        self._running = None
        if running is None or running.cancelled() or running.exception() is not None:
            return None
        return running.result()

    async def close(self) -> Any:
        """End what is under way, give its answer, and close the connection."""
        answer = await self.end()
        await self._connection.disconnect(nowait=True)
        return answer

    async def _run(
        self,
        operation: Operation[Any],
        look: Operation[Any] | None,
        took: Callable[[tuple[Any, Any]], None] | None,
    ) -> Any:
        server, sent = self._store.server, False
        node, asked = await server.route(operation)
        connection = await self._at(node)
        try:
            if not connection.is_connected:
                self._client_id = None
                async with asyncio.timeout(exchange.TIMEOUT_S):
                    await node.address.connect(connection)
                    await connection.send_command("CLIENT", "ID")
                    self._client_id = await connection.read_response()
            sent = True
            commands = [asked.command()]
            if look is not None:
                commands.append((await server.route(look))[1].command())
            async with asyncio.timeout(exchange.TIMEOUT_S):
                await send(connection, commands)
            replies = await self._replies(len(commands), exchange.TIMEOUT_S + operation.wait_s)
            if exchange.is_demoted(replies):
                await connection.disconnect(nowait=True)
            answer = exchange.answer(operation, replies[0])
            if isinstance(answer, StoreError):
                raise server.explained(answer)
        except exchange.NETWORK_ERRORS as error:
            await connection.disconnect(nowait=True)
            lost = exchange.lost(operation.name, self._store.url, error, sent=sent)
            raise server.explained(lost) from error
        if took is not None:
            seen = exchange.answer(look, replies[1]) if look and len(replies) > 1 else None
            took((answer, None if isinstance(seen, StoreError) else seen))
        return answer

    async def _at(self, node: Node[Connection]) -> Connection:
        """Return the connection, a new one if the request goes elsewhere than the last one."""
        if node is not self._node:
            await self._connection.disconnect(nowait=True)
            self._node, self._connection = node, node.address.connection(self._name)
        return self._connection

    async def _replies(self, count: int, within_s: float) -> list[Any]:
        """Read the replies; the first must not get lost because another one does not come."""
        replies: list[Any] = []
        try:
            try:
                async with asyncio.timeout(within_s):
                    await read(self._connection, replies, count)
            except TimeoutError:
                # It may have come in time, and a task has kept the loop from reading it.
                async with asyncio.timeout(_LAST_LOOK_S):
                    await read(self._connection, replies, count)
        except exchange.NETWORK_ERRORS:
            if not replies:
                raise
            await self._connection.disconnect(nowait=True)
        return replies
