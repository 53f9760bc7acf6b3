"""The store that blocks. Safe to share between threads: each call takes a connection of its own.

There are at most 16 of these, and 16 more for calls that block, as in its twin.

Its twin is ``store/aio.py``; the two differ in ``await``, and in who bounds a request's time.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from redis.connection import Connection

from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.operations import Argument, Operation, unfailed
from headrace.store import exchange
from headrace.store.address import Address

R = TypeVar("R")


class Store:
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
        self._address = Address(url, name, timeout_s)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[tuple[Connection, float]] = deque()
        # A semaphore in C: one of Python costs an enqueue a tenth of its time.
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(exchange.MOST):
            self._turns.put(None)
        self._blocking = threading.Semaphore(exchange.BLOCKING)

    def run(self, operation: Operation[R]) -> R:
        """Run one operation.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing was sent.
            ReplyLost: sent, but the answer never came.
            StoreRefused: Redis answered with an error.
        """
        if operation.wait_s:
            return self._wait(operation)
        answer: R = unfailed(self.run_all((operation,)))[0]
        return answer

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one round trip; an answer that is an error stands in its place.

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
            turns.get(timeout=self._timeout_s)
        except Empty:
            raise exchange.lost("a request", self.url, exchange.CROWDED, sent=False) from None
        try:
            return self._trip(operations)
        finally:
            turns.put(None)

    def _wait(self, operation: Operation[R]) -> R:
        """Wait for what a blocking request brings; where too many block, look again and again."""
        if self._pid != os.getpid():
            self._begin()
        blocking, until = self._blocking, monotonic() + operation.wait_s
        if blocking.acquire(blocking=False):
            try:
                found: R = unfailed(self._trip((operation,)))[0]
                return found
            finally:
                blocking.release()
        while True:
            answer = self.run(operation.at_once())
            left_s = until - monotonic()
            if answer is not None or left_s <= 0:
                return answer
            threading.Event().wait(min(left_s, exchange.LOOK_EVERY_S))

    def _trip(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        sent, idle = False, self._idle
        connection, used = self._take()
        try:
            if monotonic() - used > exchange.IDLE_CHECK_S and _is_stale(connection):
                connection.disconnect()
            if not connection.is_connected:
                self._address.connect(connection)
            sent = True
            wait_s = max([op.wait_s for op in operations])
            replies = self._exchange(connection, [op.command() for op in operations], wait_s)
            failed = exchange.has_failed(replies)
            if failed and (unknown := exchange.to_repeat(operations, replies)):
                again = [operations[i] for i in unknown]
                load = exchange.loading(again)
                commands = [*load, *(op.command() for op in again)]
                fresh = self._exchange(connection, commands, wait_s)
                fresh = exchange.after_loading(fresh[: len(load)], fresh[len(load) :])
                for i, reply in zip(unknown, fresh, strict=True):
                    replies[i] = reply
        except exchange.NETWORK_ERRORS as error:
            connection.disconnect()
            if sent:  # the others lead to the same server: each of them would cost a timeout
                self.close()
            raise exchange.lost(
                exchange.names_of(operations), self.url, error, sent=sent
            ) from error
        except BaseException:
            # An answer may still be under way: nobody else must read it.
            connection.disconnect()
            raise
        if failed and exchange.is_demoted(replies):
            self.close()
        if idle is self._idle and len(idle) < exchange.KEPT:
            idle.append((connection, monotonic()))
        else:  # enough are kept, or the store was closed meanwhile and nobody would close this one
            connection.disconnect()
        return [exchange.answer(op, reply) for op, reply in zip(operations, replies, strict=True)]

    def follow(self, flow: Flow[R]) -> R:
        """Drive a flow to its end; failures are raised inside it."""
        try:
            step = next(flow)
            while True:
                try:
                    answer: Any = self.run_all(step) if isinstance(step, list) else self.run(step)
                except StoreError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: R = end.value
            return value

    def close(self) -> None:
        """Close the connections: idle ones now, busy ones after use. The store can be used again."""
        idle, self._idle = self._idle, deque()
        while idle:
            idle.pop()[0].disconnect()

    def _take(self) -> tuple[Connection, float]:
        """Return an idle connection, or a new one, and when it was last used."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._address.connection(), math.inf

    def _exchange(
        self, connection: Connection, commands: Sequence[Sequence[Argument]], wait_s: float
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


def _is_stale(connection: Connection) -> bool:
    """Whether the server has closed the connection while nobody used it."""
    try:
        return connection.can_read(0)
    except exchange.NETWORK_ERRORS:
        return True
