"""What a connection is made of, and where it leads: to the server of the URL, or to the primary.

The Sentinels are asked whenever a connection is made, and never in between: a server that is not
the primary any more closes its connections or says so (see ``exchange.is_demoted``).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Final, Generic, TypeAlias, TypeVar

from redis import asyncio as aio
from redis import connection as sync
from redis.asyncio.connection import parse_url as async_parse_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from headrace.errors import InvalidSetting, StoreError, StoreRefused, StoreUnavailable
from headrace.settings import redacted, sentinels_of
from headrace.store import exchange

C = TypeVar("C", bound=sync.Connection | aio.Connection)
Host: TypeAlias = tuple[str, int]

_SENTINEL_S: Final = 1.0
"""How long one Sentinel may take: short, for then the next one is asked."""


class AnyAddress(ABC, Generic[C]):
    """What both kinds of address share; their steps are as those of ``AnyStore``.

    Args:
        url: the server's, or that of Sentinels.
        name: what the connections are called in ``CLIENT LIST``.
        timeout_s: how long to wait for a connection or an answer, seconds.

    Raises:
        InvalidSetting: the URL, or an option in it, has no meaning.
    """

    _parse: Any
    _class: type[C]
    _retry: Any

    def __init__(self, url: str, name: str | None, timeout_s: float) -> None:
        self._sentinels = sentinels_of(url)
        self._shown = redacted(url)
        try:
            self._read(url, name, timeout_s)
            self.connection()
        except (TypeError, ValueError, RedisError):
            # What they say may quote a password (which a "/" in it makes the port), so it ends here.
            raise InvalidSetting(
                f"{self._shown} is not understood: check its port and its ?options, and write "
                "/ ? # @ in a password as %2F %3F %23 %40."
            ) from None

    def _read(self, url: str, name: str | None, timeout_s: float) -> None:
        given: dict[str, Any] = self._parse(self._sentinels.server_url if self._sentinels else url)
        self._class = given.pop("connection_class", self._class)
        theirs = {word: given.pop(f"sentinel_{word}", None) for word in ("username", "password")}
        # RESP2: as fast as RESP3 here, and it saves the greeting. No driver name: two trips less.
        # Never retried: see ``exchange``.
        always = {"protocol": 2, "driver_info": None, "retry": self._retry(NoBackoff(), 0)}
        if "path" not in given:  # a Unix socket knows no keep-alive
            always["socket_keepalive"] = True
        self._options = {**always, **_within(timeout_s), "client_name": name, **given}
        # Sentinels have no databases, and users of their own.
        own = {**_within(min(timeout_s, _SENTINEL_S)), **theirs, "db": 0}
        self._asking = {**always, **given, **own}
        self._hosts: tuple[Host, ...] = ()
        self._question: tuple[str, ...] = ()
        if self._sentinels:
            self._hosts = self._sentinels.hosts
            self._question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._sentinels.service)

    def connection(self) -> C:
        """Make a connection, not connected yet."""
        return self._class(**self._options)

    async def connect(self, connection: C) -> None:
        """Connect to the server, or to the primary that the Sentinels name.

        Raises:
            RedisError, OSError: the server cannot be reached, or does not let us in.
            StoreRefused: the Sentinels know no such service, or do not let us in.
            StoreUnavailable: no Sentinel answers, or the server is not the primary.
        """
        if not self._hosts:
            await self._open(connection)
            return
        answers: dict[Host, Any] = {}
        for host in self._hosts:
            answers[host] = await self._ask(host)
            if isinstance(answers[host], list):
                break
        connection.host, connection.port = self._primary(answers)
        role = await self._open(connection, "ROLE")
        if role[0] != b"master":
            await self.disconnect(connection)
            raise self._away("name a server that is no primary (any more, or yet): they fail over")

    async def _ask(self, host: Host) -> Any:
        asked = self._sentinel(host)
        try:
            return await self._open(asked, *self._question)
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

    def _sentinel(self, host: Host) -> C:
        return self._class(**{**self._asking, "host": host[0], "port": host[1]})

    def _primary(self, answers: dict[Host, Any]) -> Host:
        """Read what the Sentinels said, in their order, the last of it perhaps the primary."""
        *silent, last = answers
        # In turns, for one that is cut off from the others may name a server that was the primary
        # once; those that are silent last, for they cost time.
        others = (host for host in self._hosts if host not in answers)
        self._hosts = (*others, last, *silent)
        if isinstance(answers[last], list):
            host, port = answers[last]
            return host.decode(), int(port)
        for answer in answers.values():
            if answer is None:
                raise StoreRefused(
                    f"the Sentinels of {self._shown} know no service {self._question[-1]!r}: give "
                    "the name that stands in their 'sentinel monitor'"
                )
            if isinstance(answer, exchange.SERVER_ERRORS):
                raise StoreRefused(
                    f"the Sentinels of {self._shown} refuse: {str(answer).rstrip('.')}. Their own "
                    "user and password are ?sentinel_username=USER&sentinel_password=PASSWORD"
                ) from answer
        words = (str(answer).rstrip(".") or type(answer).__name__ for answer in answers.values())
        raise self._away(f"do not answer: {'; '.join(words)}")

    def _away(self, what: str) -> StoreError:
        error = StoreUnavailable(f"the Sentinels of {self._shown} {what}")
        error.timed_out = True  # others may have found the primary
        return error


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

    async def disconnect(
        self,
        connection: sync.Connection,
        *,
        nowait: bool = True,  # noqa: ARG002  a socket closes at once
    ) -> None:
        """Close a connection."""
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

    async def _ask(self, host: Host) -> Any:
        try:
            async with asyncio.timeout(_SENTINEL_S):
                return await super()._ask(host)
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
