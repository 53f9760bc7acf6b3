"""What a connection is made of, and where it leads: to the server of the URL, or to the primary.

Of a cluster it leads to the node that ``at`` names; ``ask`` asks one where the others are.

The Sentinels are asked whenever a connection is made, and never in between: a server that is not
the primary any more closes its connections or says so (see ``exchange.is_demoted``).
"""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from typing import Any, Final, Generic, Self, TypeVar

from redis import asyncio as aio
from redis import connection as sync
from redis.asyncio.connection import parse_url as async_parse_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from headrace import credentials
from headrace.errors import InvalidSetting
from headrace.settings import Group, group_of, redacted
from headrace.store import exchange
from headrace.store.guides import Host, Sentinels

C = TypeVar("C", bound=sync.Connection | aio.Connection)

_ASKED_S: Final = 1.0
"""How long one Sentinel, or one node, may take: short, for then the next one is asked."""


class AnyAddress(ABC, Generic[C]):
    """What both kinds of address share; their steps are as those of ``AnyStore``.

    Args:
        url: the server's, or that of Sentinels or of a cluster.
        name: what the connections are called in ``CLIENT LIST``.
        timeout_s: how long to wait for a connection or an answer, seconds.

    Attributes:
        group: what the URL says of Sentinels or of a cluster; None for one server.

    Raises:
        InvalidSetting: the URL, or an option in it, has no meaning.
    """

    _parse: Any
    _class: type[C]
    _retry: Any

    def __init__(self, url: str, name: str | None, timeout_s: float) -> None:
        self.group: Group | None = group_of(url)
        self._credentials = credentials.named_in(url)
        try:
            self._read(url, name, timeout_s)
            self.connection()
        except (TypeError, ValueError, RedisError):
            # What they say may quote a password (which a "/" in it makes the port), so it ends here.
            raise InvalidSetting(
                f"{redacted(url)} is not understood: check its port and its ?options, and write "
                "/ ? # @ in a password as %2F %3F %23 %40."
            ) from None

    def _read(self, url: str, name: str | None, timeout_s: float) -> None:
        given: dict[str, Any] = self._parse(self.group.server_url if self.group else url)
        given.pop("credentials", None)
        given |= self._credentials
        self._class = given.pop("connection_class", self._class)
        theirs = {word: given.pop(f"sentinel_{word}", None) for word in ("username", "password")}
        # RESP2: as fast as RESP3 here, and it saves the greeting. No driver name: two trips less.
        # Never retried: see ``exchange``.
        always = {"protocol": 2, "driver_info": None, "retry": self._retry(NoBackoff(), 0)}
        if "path" not in given:  # a Unix socket knows no keep-alive
            always["socket_keepalive"] = True
        self._options = {**always, **_within(timeout_s), "client_name": name, **given}
        self._asking = {**always, **given, **_within(min(timeout_s, _ASKED_S))}
        self._sentinels: Sentinels | None = None
        if self.group and self.group.kind == "sentinel":
            # They have no databases, and users of their own.
            self._asking |= {**theirs, "credential_provider": None, "db": 0}
            self._sentinels = Sentinels(self.group, redacted(url))

    def connection(self, name: str | None = None) -> C:
        """Make a connection, not connected yet; it may have another name than the others."""
        return self._class(**self._options | ({"client_name": name} if name else {}))

    def at(self, host: Host) -> Self:
        """Return the address of one node of the cluster."""
        node = copy.copy(self)
        node._options = {**self._options, "host": host[0], "port": host[1]}  # noqa: SLF001  its own
        return node

    async def connect(self, connection: C) -> None:
        """Connect to the server, or to the primary that the Sentinels name.

        Raises:
            RedisError, OSError: the server cannot be reached, or does not let us in.
            StoreRefused: the Sentinels know no such service, or do not let us in.
            StoreUnavailable: no Sentinel answers, or the server is not the primary.
        """
        if self._sentinels is None:
            await self._open(connection)
            return
        answers: dict[Host, Any] = {}
        for host in self._sentinels.hosts:
            answers[host] = await self.ask(host, *self._sentinels.question)
            if isinstance(answers[host], list):
                break
        connection.host, connection.port = self._sentinels.primary(answers)
        role = await self._open(connection, "ROLE")
        if role[0] != b"master":
            await self.disconnect(connection)
            what = "name a server that is no primary (any more, or yet): they fail over"
            raise self._sentinels.away(what)

    async def ask(self, host: Host, *question: str) -> Any:
        """Ask a Sentinel, or a node of a cluster; return its answer, or the error."""
        asked = self._class(**{**self._asking, "host": host[0], "port": host[1]})
        try:
            return await self._open(asked, *question)
        except exchange.NETWORK_ERRORS as error:
            return error
        finally:
            await self.disconnect(asked)

    @abstractmethod
    async def disconnect(self, connection: C, *, nowait: bool = True) -> None:
        """Close a connection; ``nowait``: without waiting until that is done."""

    @abstractmethod
    async def is_stale(self, connection: C) -> bool:
        """Whether the server has closed a connection while nobody used it."""

    @abstractmethod
    async def _open(self, connection: C, *question: str) -> Any:
        """Connect, and return the answer to a question if there is one."""


class Address(AnyAddress[sync.Connection]):
    """Where Redis is, for those who block."""

    _parse = staticmethod(sync.parse_url)
    _class = sync.Connection
    _retry = Retry

    async def _open(self, connection: sync.Connection, *question: str) -> Any:
        connection.connect()
        if not question:
            return None
        connection.send_command(*question)
        return connection.read_response()

    async def disconnect(self, connection: sync.Connection, *, nowait: bool = True) -> None:  # noqa: ARG002
        """Close a connection, at once."""
        connection.disconnect()

    async def is_stale(self, connection: sync.Connection) -> bool:
        """Whether the server has closed a connection while nobody used it."""
        try:
            return connection.can_read(0)
        except exchange.NETWORK_ERRORS:
            return True


class AsyncAddress(AnyAddress[aio.Connection]):
    """Where Redis is, for those who wait. Whoever uses a connection bounds the time of that."""

    _parse = staticmethod(async_parse_url)
    _class = aio.Connection
    _retry = AsyncRetry

    def __init__(self, url: str, name: str | None, timeout_s: float) -> None:
        super().__init__(url, name, timeout_s)
        # asyncio.wait_for, with which redis-py bounds a send, can swallow a cancellation on Python
        # 3.11, and then whoever cancelled waits for ever.
        self._options["socket_timeout"] = None
        self._timeout_s = timeout_s

    async def connect(self, connection: aio.Connection) -> None:
        """Connect to the server, or to the primary that the Sentinels name, within the timeout."""
        async with asyncio.timeout(self._timeout_s):
            await super().connect(connection)

    async def ask(self, host: Host, *question: str) -> Any:
        """Ask one Sentinel, or one node, within a second."""
        try:
            async with asyncio.timeout(_ASKED_S):
                return await super().ask(host, *question)
        except TimeoutError as error:
            return error

    async def _open(self, connection: aio.Connection, *question: str) -> Any:
        with exchange.Resets():
            await connection.connect()
            _send_at_once(connection)
            if not question:
                return None
            await connection.send_command(*question)
            return await connection.read_response()

    async def disconnect(self, connection: aio.Connection, *, nowait: bool = True) -> None:
        """Close a connection; ``nowait``: without waiting until that is done."""
        await connection.disconnect(nowait=nowait)

    async def is_stale(self, connection: aio.Connection) -> bool:
        """Whether the server has closed a connection while nobody used it."""
        try:
            # Two turns of the loop, for it to see what has arrived since it last looked: while a task
            # kept it busy, or between two ``asyncio.run``.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return await connection.can_read()
        except exchange.NETWORK_ERRORS:
            return True


def _send_at_once(connection: aio.Connection) -> None:
    """Let a request go out when it is written: uvloop would keep it until its turn is over."""
    writer = getattr(connection, "_writer", None)  # redis-py has no other name for it
    if writer is not None:
        writer.transport.set_write_buffer_limits(high=0)


def _within(timeout_s: float) -> dict[str, float]:
    return {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
