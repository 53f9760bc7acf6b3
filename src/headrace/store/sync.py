"""The store that blocks. Safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from redis.connection import Connection

from headrace.flows import Flow
from headrace.operations import Argument, Operation
from headrace.store import exchange
from headrace.store.address import Address
from headrace.store.any_store import AnyStore

R = TypeVar("R")


class Store:
    """Runs operations on one Redis, as ``AsyncStore`` does.

    Args:
        url: where it is.
        name: what its connections are called in ``CLIENT LIST``.
        timeout_s: how long to wait for a connection or an answer, seconds.

    Attributes:
        joins_queues: whether one request can name keys of several queues; not on a cluster.
    """

    def __init__(
        self, url: str, *, name: str | None = None, timeout_s: float = exchange.TIMEOUT_S
    ) -> None:
        self.url = url
        self._store = _BlockingStore(url, Address(url, name, timeout_s), timeout_s)
        self.joins_queues: bool = self._store.server.joins_queues

    def run(self, operation: Operation[R]) -> R:
        """Run one operation.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing was sent.
            ReplyLost: sent, but the answer never came.
            StoreRefused: Redis answered with an error.
        """
        return complete(self._store.run(operation))

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one round trip; an answer that is an error stands in its place.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing was sent.
            ReplyLost: sent, but not all answers came.
        """
        return complete(self._store.run_all(operations))

    def follow(self, flow: Flow[R]) -> R:
        """Drive a flow to its end; failures are raised inside it."""
        return complete(self._store.follow(flow))

    def close(self) -> None:
        """Close the connections: idle ones now, busy ones after use. The store can be used again."""
        complete(self._store.close())


def complete(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that waits for no event loop to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: R = end.value
        return value
    coroutine.close()
    raise AssertionError("a step of the blocking store has waited for an event loop")


class _BlockingStore(AnyStore[Connection]):
    """A store whose steps block."""

    def _begin(self) -> None:
        super()._begin()
        # A semaphore in C: one of Python costs an enqueue a tenth of its time.
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(exchange.MOST):
            self._turns.put(None)
        self._done = partial(self._turns.put, None)

    async def _turn(self) -> Callable[[], None]:
        try:
            self._turns.get(timeout=self._timeout_s)
        except Empty:
            raise TimeoutError from None
        return self._done

    async def _exchange(
        self,
        connection: Connection,
        commands: Sequence[Sequence[Argument]],
        wait_s: float,
        meanwhile: Callable[[], None] | None = None,  # noqa: ARG002  nobody gives one
    ) -> list[Any]:
        connection.send_packed_command([exchange.packed(commands)], check_health=False)
        # Usually the socket's own time-out: to set another one and it back costs two system calls.
        within: dict[str, Any] = {"timeout": self._timeout_s + wait_s} if wait_s else {}
        replies: list[Any] = []
        for _ in commands:
            try:
                # Not disconnected: redis-py would do so at the first -LOADING of several.
                replies.append(connection.read_response(disconnect_on_error=False, **within))
            except exchange.SERVER_ERRORS as error:
                replies.append(error)
        return replies

    async def _all(self, trips: Sequence[Coroutine[Any, Any, list[Any]]]) -> list[list[Any]]:
        return [await trip for trip in trips]

    async def _sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)
