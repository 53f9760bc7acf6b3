"""The store that is awaited. It belongs to one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from redis.asyncio.connection import Connection

from headrace.operations import Argument
from headrace.store import exchange
from headrace.store.address import AsyncAddress
from headrace.store.any_store import AnyStore


class AsyncStore(AnyStore[Connection]):
    """Runs operations on one Redis.

    Args:
        url: where it is.
        name: what its connections are called in ``CLIENT LIST``.
        timeout_s: how long to wait for a connection or an answer, seconds.
    """

    def __init__(
        self, url: str, *, name: str | None = None, timeout_s: float = exchange.TIMEOUT_S
    ) -> None:
        super().__init__(url, AsyncAddress(url, name, timeout_s), timeout_s)

    def _begin(self) -> None:
        super()._begin()
        self._turns = asyncio.Semaphore(exchange.MOST)

    def abandon(self) -> None:
        """Close the idle connections of an event loop that was closed before them."""
        idle = [node.idle.pop()[0] for node in self.server.nodes() for _ in range(len(node.idle))]
        for connection in idle:
            writer = getattr(connection, "_writer", None)  # redis-py has no other name for it
            if writer is not None:
                # Its loop cannot close it any more; uvloop has done so.
                with contextlib.suppress(OSError, AttributeError, TypeError):
                    writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                connection._writer = connection._reader = None  # noqa: SLF001  else it complains

    async def _turn(self) -> Callable[[], None]:
        turns = self._turns
        if turns.locked():
            async with asyncio.timeout(self._timeout_s):
                await turns.acquire()
        else:
            await turns.acquire()
        return turns.release

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
            await read(connection, replies, len(commands))
        return replies

    async def _all(self, trips: Sequence[Coroutine[Any, Any, list[Any]]]) -> list[list[Any]]:
        if len(trips) == 1:
            return [await trips[0]]
        return await asyncio.gather(*trips)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def send(connection: Connection, commands: Sequence[Sequence[Argument]]) -> None:
    """Send commands in one piece."""
    with exchange.Resets():
        await connection.send_packed_command([exchange.packed(commands)], check_health=False)


async def read(connection: Connection, replies: list[Any], count: int) -> None:
    """Read replies, until there are so many; errors of the server stand among them."""
    while len(replies) < count:
        try:
            # Not disconnected: redis-py would do so at the first -LOADING of several.
            replies.append(await connection.read_response(disconnect_on_error=False))
        except exchange.SERVER_ERRORS as error:
            replies.append(error)
