"""What both stores do, written once, as coroutines over a few steps that each does in its own way.

The steps of ``AsyncStore`` are awaited. Those of ``Store`` block instead, so that its coroutines never
suspend, and ``sync.complete`` has each run to its end at once.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.operations import Argument, Operation, unfailed
from headrace.store import exchange
from headrace.store.address import AnyAddress, C
from headrace.store.cluster import Cluster
from headrace.store.node import Node

R = TypeVar("R")


class AnyStore(ABC, Generic[C]):
    """Runs operations on one Redis, or on a cluster; each call takes a connection of its own.

    There are at most 16 of these, and 16 more for calls that block, so nobody waits for a call that
    waits for him.

    Args:
        url: where it is.
        address: what a connection is made of.
        timeout_s: how long to wait for a connection or an answer, seconds.

    Attributes:
        server: where requests go: one server, or the nodes of a cluster.
    """

    def __init__(self, url: str, address: AnyAddress[C], timeout_s: float) -> None:
        self.url = url
        self.address: AnyAddress[C] = address
        self._timeout_s = timeout_s
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        node: Callable[[AnyAddress[C]], Node[C]] = partial(Node, self.url, self._exchange)
        self.server: Node[C] | Cluster[C] = node(self.address)
        if self.address.group and self.address.group.kind == "cluster":
            own = (node, self._all, self._sleep, self._timeout_s)
            self.server = Cluster(self.url, self.address, *own)
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
            return await self.server.trip(operations, meanwhile)
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
        await self.server.close(nowait=nowait)

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
            found: R = unfailed(await self.server.trip((operation,)))[0]
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
    async def _all(self, trips: Sequence[Coroutine[Any, Any, list[Any]]]) -> list[list[Any]]:
        """Run round trips to several nodes; at once, where that can be."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None:
        """Let time pass."""
