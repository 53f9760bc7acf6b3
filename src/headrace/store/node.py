"""One server as a store sees it: its idle connections, and a round trip on one of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Generic, TypeAlias

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.operations import Operation
from headrace.store import exchange
from headrace.store.address import AnyAddress, C

Exchange: TypeAlias = Callable[..., Awaitable[list[Any]]]
"""How a store sends commands on a connection, and reads as many replies: see ``AnyStore._exchange``."""


class Node(Generic[C]):
    """The connections to one server.

    Args:
        url: where it is, for messages.
        exchange_: how a store sends and reads.
        address: what a connection is made of.
    """

    joins_queues: ClassVar[bool] = True
    """Whether one request can name keys of several queues."""

    def __init__(self, url: str, exchange_: Exchange, address: AnyAddress[C]) -> None:
        self.url = url
        self.address: AnyAddress[C] = address
        self.idle: deque[tuple[C, float]] = deque()
        self._exchange = exchange_

    async def trip(
        self, operations: Sequence[Operation[Any]], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """Run operations in one round trip, as ``AnyStore.run_all`` says."""
        address, idle, sent = self.address, self.idle, False
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
        if idle is self.idle and len(idle) < exchange.KEPT:
            idle.append((connection, monotonic()))
        else:  # enough are kept, or the store was closed meanwhile and nobody would close this one
            await address.disconnect(connection)
        pairs = zip(operations, replies, strict=True)
        if failed:
            return [exchange.answer(op, reply) for op, reply in pairs]
        return [op.parse(reply) for op, reply in pairs]

    async def route(self, operation: Operation[Any]) -> tuple[Node[C], Operation[Any]]:
        """Return where a request goes, and how it is sent there: here, as it is."""
        return self, operation

    def explained(self, error: StoreError) -> StoreError:
        """Return what a request that was routed is to raise."""
        return error

    def nodes(self) -> list[Node[C]]:
        """Return the servers that were spoken to."""
        return [self]

    async def close(self, *, nowait: bool = False) -> None:
        """Close the connections: idle ones now, busy ones after use."""
        idle, self.idle = self.idle, deque()
        while idle:
            await self.address.disconnect(idle.pop()[0], nowait=nowait)

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
            return self.idle.pop()
        except IndexError:
            return self.address.connection(), math.inf
