"""Connections: what redis-py gives the stores, over a network that loses, delays and cuts.

Requests stay commands instead of bytes (``exchange.packed`` is replaced), so each message is one list
of commands. What one connection sends arrives in order; when it closes, what it sent arrives still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from tests.simulation.faults import Faults
    from tests.simulation.server import Server
    from tests.simulation.world import Node, World

Command = Sequence[Any]


class Network:
    """The one network of a run. ``here`` is the one that is running."""

    here: Network

    @classmethod
    def forget(cls) -> None:
        if "here" in cls.__dict__:
            del cls.here

    def __init__(self, world: World, server: Server, faults: Faults) -> None:
        self.world = world
        self.server = server
        self.faults = faults


class Connection:
    """What both kinds of connection share: everything but how one waits."""

    def __init__(self, **options: Any) -> None:
        network = Network.here
        self.network = network
        self.world = network.world
        node = network.world.current
        assert node is not None, "a connection belongs to whoever makes it"
        self.node: Node = node
        self.name = options.get("client_name") or ""
        self.client_id = 0
        self.is_open = False
        self.deaf = False  # nothing arrives at either end any more, and nobody is told
        self.incoming: deque[Any] = deque()
        self.error: Exception | None = None
        self._last_arrival = self._last_reply = 0.0

    @property
    def is_connected(self) -> bool:
        return self.is_open

    def _open(self) -> None:
        """Raise if the server does not take connections now."""
        self.client_id = 0
        self.incoming.clear()
        self.error, self.deaf = None, False
        if self.network.server.is_away:
            raise RedisConnectionError("connection refused")
        if self.node.dead:
            raise RedisConnectionError("dead")
        self.is_open = True
        self.client_id = self.network.server.connected(self)
        self.node.connections.append(self)

    def _send(self, commands: Sequence[Command]) -> None:
        if self.error is not None:
            raise self.error
        if not self.is_open:
            raise RedisConnectionError("not connected")
        faults, world = self.network.faults, self.world
        fate = faults.of_request(self, commands)
        if fate == "lost":
            self.reset()
            return
        if fate == "swallowed" or self.deaf:
            self.deaf = True
            return
        sent = self.node.stopped_until if fate == "stopped before" else world.now
        at = max(self._last_arrival, sent + faults.latency_s(slow=fate == "slow"))
        self._last_arrival = at
        world.at(at, self.network.server.receive, self, self.client_id, commands)
        if fate == "crash after":
            self.node.kill()

    def reply(self, client_id: int, replies: list[Any], *, fated: bool = True) -> None:
        """Send answers back: called by the server."""
        if client_id != self.client_id or self.deaf:
            return
        faults, world = self.network.faults, self.world
        fate = faults.of_reply(self) if fated else ""
        if fate == "lost":
            self.network.server.closed(self, client_id)
            self.reset()
            return
        if fate == "swallowed":
            self.deaf = True
            return
        at = max(self._last_reply, world.now + faults.latency_s(slow=fate == "slow"))
        self._last_reply = at
        world.at(at, self._arrived, client_id, replies)

    def _arrived(self, client_id: int, replies: list[Any]) -> None:
        if client_id == self.client_id and self.is_open and not self.deaf and not self.node.dead:
            self.incoming.extend(replies)
            self._awake()

    def reset(self) -> None:
        """Break, and let both ends know soon."""
        self.world.later(self.network.faults.latency_s(), self._broken, self.client_id)

    def _broken(self, client_id: int) -> None:
        if client_id == self.client_id and self.is_open:
            self.drop()
            self.error = RedisConnectionError("connection reset")
            self._awake()

    def drop(self) -> None:
        """Close this end; the server hears of it."""
        if not self.is_open:
            return
        self.is_open = False
        if self in self.node.connections:
            self.node.connections.remove(self)
        if not self.deaf:
            at = max(self._last_arrival, self.world.now + self.network.faults.latency_s())
            self.world.at(at, self.network.server.closed, self, self.client_id)
        else:  # a machine that is gone is found out by its keepalive
            self.world.later(60.0, self.network.server.closed, self, self.client_id)

    def _is_cut_off(self) -> bool:
        return self.node.dead or self.node.cut_off_until > self.world.now

    def _next(self) -> Any:
        reply = self.incoming.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _awake(self) -> None:
        raise NotImplementedError


class AsyncConnection(Connection):
    """As ``redis.asyncio.connection.Connection``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._waiter: Any = None

    async def connect(self) -> None:
        if self._is_cut_off():
            await self._sleep(1e6)
        await self._sleep(2 * self.network.faults.latency_s())
        self._open()

    async def send_command(self, *command: Any) -> None:
        self._send([command])

    async def send_packed_command(self, parts: Any, check_health: bool = True) -> None:
        self._send(parts[0])

    async def read_response(self, **_options: Any) -> Any:
        while not self.incoming:
            if self.error is not None:
                raise self.error
            if not self.is_open:
                raise RedisConnectionError("not connected")
            self._waiter = self.node.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._next()

    async def can_read(self, *_: Any, **__: Any) -> bool:
        return bool(self.incoming) or self.error is not None or not self.is_open

    async def disconnect(self, nowait: bool = False, **_: Any) -> None:
        self.drop()
        if self.error is None:
            self.error = RedisConnectionError("closed")
        self._awake()

    async def _sleep(self, delay_s: float) -> None:
        future = self.node.loop.create_future()
        self.node.loop.call_later(delay_s, _set, future)
        await future

    def _awake(self) -> None:
        if self._waiter is not None:
            _set(self._waiter)


class SyncConnection(Connection):
    """As ``redis.connection.Connection``, used in a fiber."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._timeout_s = options.get("socket_timeout") or 5.0
        self._waits = False

    def connect(self) -> None:
        assert self.node.fiber is not None
        if self._is_cut_off():
            self.node.fiber.park(self._timeout_s)
            raise RedisTimeoutError("timed out")
        self.node.fiber.park(2 * self.network.faults.latency_s())
        self._open()

    def send_command(self, *command: Any) -> None:
        self._send([command])

    def send_packed_command(self, parts: Any, check_health: bool = True) -> None:
        self._send(parts[0])

    def read_response(self, timeout: float | None = None, **_options: Any) -> Any:
        until = self.world.now + (timeout if timeout is not None else self._timeout_s)
        while not self.incoming:
            if self.error is not None:
                raise self.error
            if not self.is_open:
                raise RedisConnectionError("not connected")
            if self.world.now >= until:
                raise RedisTimeoutError("timed out")
            self._waits = True
            assert self.node.fiber is not None
            self.node.fiber.park(until - self.world.now)
            self._waits = False
        return self._next()

    def can_read(self, _timeout: float = 0) -> bool:
        return bool(self.incoming) or self.error is not None or not self.is_open

    def disconnect(self, *_: Any, **__: Any) -> None:
        self.drop()
        if self.error is None:
            self.error = RedisConnectionError("closed")

    def _awake(self) -> None:
        if self._waits:
            self.node.fibers[0].call()


def _set(future: Any) -> None:
    if not future.done():
        future.set_result(None)
