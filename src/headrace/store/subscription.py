"""A connection of its own on which the messages of one channel come, for as long as they are wanted.

What is sent while nobody listens is lost: messages are hints.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from headrace.operations import command, nothing
from headrace.store import exchange
from headrace.store.aio import AsyncStore, send

_NAME: Final = "SUBSCRIBE"
_ANY: Final = command("PING", parse=nothing)  # goes anywhere


class Subscription:
    """A subscription to one channel. Messages are sent once, to whoever listens then.

    Args:
        store: leads to the Redis; the connection is called as its own are.
        channel: the channel's name.
    """

    def __init__(self, store: AsyncStore, channel: str) -> None:
        self._store = store
        self._channel = channel
        self._connection = store.address.connection()

    async def open(self) -> None:
        """Subscribe: what is sent from now on is heard.

        Raises:
            StoreError: Redis does not answer, or does not permit it.
        """
        try:
            # Any node of a cluster hears what is sent to any other.
            node, _ = await self._store.server.route(_ANY)
            self._connection = node.address.connection()
            async with asyncio.timeout(exchange.TIMEOUT_S):
                await node.address.connect(self._connection)
                await send(self._connection, [(_NAME, self._channel)])
                await self._read()
        except exchange.NETWORK_ERRORS as error:
            await self.close()
            lost = exchange.lost(_NAME, self._store.url, error, sent=False)
            raise self._store.server.explained(lost) from error

    async def hear(self, within_s: float) -> bytes | None:
        """Return the next message, or None if none came in time and the connection is well.

        Raises:
            StoreError: the connection is lost.
        """
        try:
            try:
                async with asyncio.timeout(within_s):
                    return await self._next()
            except TimeoutError:
                async with asyncio.timeout(exchange.TIMEOUT_S):
                    await send(self._connection, [("PING",)])
                    return await self._next(or_pong=True)
        except exchange.NETWORK_ERRORS as error:
            await self.close()
            raise exchange.lost(_NAME, self._store.url, error, sent=True) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)

    async def _next(self, *, or_pong: bool = False) -> bytes | None:
        while True:
            word, *rest = await self._read()
            if word == b"message":
                message: bytes = rest[-1]
                return message
            if word == b"pong" and or_pong:
                return None

    async def _read(self) -> list[Any]:
        # Not disconnected: a read that is given up when its time is over has taken nothing.
        said: list[Any] = await self._connection.read_response(disconnect_on_error=False)
        return said
