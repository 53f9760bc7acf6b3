"""Look once at what listens at an address: is it a server that Headrace can run on?

Asked before a program starts its work, so that a wrong address, a missing password or an old server
is one clear message and not a stack of failed commands. Nothing is written and nothing is retried.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from headrace.errors import (
    AccessDenied,
    ClusterUnsupported,
    HostUnknown,
    NotPermitted,
    StoreError,
    StoreUnavailable,
    StoreUnsuitable,
)
from headrace.operations.request import text
from headrace.settings import group_of, redacted
from headrace.store import exchange
from headrace.store.address import Address
from headrace.store.sync import complete

EngineName = Literal["redis", "valkey"]
Version = tuple[int, int, int]

# Redis 7.0 brought LMPOP, BLMPOP and functions; Valkey's first release of its own is 7.2.
OLDEST: dict[EngineName, Version] = {"redis": (7, 0, 0), "valkey": (7, 2, 0)}
OLDEST_SHOWN = "Redis >= 7.0 or Valkey >= 7.2"
WANTED = f"Headrace needs {OLDEST_SHOWN}"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says about itself.

    Attributes:
        engine: whose server it is.
        version: its version, three numbers.
        port: the TCP port it believes to listen on; 0 when it has none.
        pid: its process, a number of its own machine.
        loading: it still reads its data from disk and refuses most commands until it has.
        aof_enabled: False when a crash of the server may lose jobs.
        maxmemory_policy: anything but ``noeviction`` may lose jobs when memory is short.
    """

    engine: EngineName
    version: Version
    port: int
    pid: int
    loading: bool
    aof_enabled: bool
    maxmemory_policy: str

    def __str__(self) -> str:
        """Return the engine and its version, as people write them."""
        return f"{self.engine.capitalize()} {dotted(self.version)}"


def probe(url: str, timeout_s: float = 1.0) -> ServerInfo | None:
    """Ask the server at ``url`` what it is; None when nothing listens there.

    Args:
        url: a URL of a server; or of Sentinels, then their primary is asked, or of a cluster, then the
            first of its nodes that answers: or it raises.
        timeout_s: seconds to wait for a connection, and then for each answer.

    Raises:
        InvalidSetting: the URL has options that mean nothing.
        StoreRefused: the server wants a (another) password, or may not be asked; or the Sentinels.
        StoreUnavailable: the host, or the primary of Sentinels, cannot be found or reached.
        StoreUnsuitable: what answers is no Redis or Valkey, or too old, or it never answers.
    """
    try:
        address = Address(url, None, timeout_s)
        in_cluster = address.group is not None and address.group.kind == "cluster"
        return _server_info(_info(address), redacted(url), in_cluster=in_cluster)
    except RedisError as error:
        if isinstance(error.__context__, (ConnectionRefusedError, FileNotFoundError)):
            if group_of(url):
                raise exchange.lost("INFO", url, error, sent=False) from error
            return None
        raise _as_ours(error, redacted(url), timeout_s) from error


def _info(address: Address) -> dict[str, str]:
    """Ask the server; of a cluster the first node that answers."""
    group = address.group
    if group is None or group.kind != "cluster":
        return _info_of(address)
    for host in group.hosts[:-1]:
        with suppress(RedisError):
            return _info_of(address.at(host))
    return _info_of(address.at(group.hosts[-1]))


def _info_of(address: Address) -> dict[str, str]:
    connection = address.connection()
    try:
        complete(address.connect(connection))
        connection.send_command("INFO", check_health=False)
        answer = text(connection.read_response())
    finally:
        connection.disconnect()
    return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)


def dotted(version: Version) -> str:
    """Write a version with dots."""
    return ".".join(map(str, version))


def _server_info(info: dict[str, str], shown_url: str, *, in_cluster: bool) -> ServerInfo:
    engine: EngineName = "valkey" if "valkey_version" in info else "redis"
    # Valkey's redis_version is the Redis it is compatible with (7.2.4), not its own.
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", info.get(f"{engine}_version", ""))
    if match is None:
        raise StoreUnsuitable(f"What answers at {shown_url} does not say its version. {WANTED}.")
    version = (int(match[1]), int(match[2]), int(match[3]))
    server = ServerInfo(
        engine=engine,
        version=version,
        port=int(info.get("tcp_port", 0)),
        pid=int(info.get("process_id", 0)),
        loading=info.get("loading", "0") != "0",
        aof_enabled=info.get("aof_enabled", "0") != "0",
        maxmemory_policy=info.get("maxmemory_policy", ""),
    )
    is_one = info.get("cluster_enabled") == "1"
    if is_one and not in_cluster:
        raise ClusterUnsupported(
            f"{shown_url} is part of a cluster, whose keys are on several servers: give the URL of "
            "the cluster, redis+cluster://HOST,HOST,HOST."
        )
    if in_cluster and not is_one:
        raise StoreUnsuitable(
            f"{shown_url} is one server and no cluster: write redis:// in place of redis+cluster://."
        )
    if version < OLDEST[engine]:
        raise StoreUnsuitable(
            f"{shown_url} is {server}, which is too old. {WANTED}: upgrade it, or give another URL."
        )
    return server


def _as_ours(error: RedisError, shown_url: str, timeout_s: float) -> StoreError:
    """Say in our words why there was no answer to INFO."""
    kind, advice = exchange.kind_of(error)
    if isinstance(error, NoPermissionError):
        return NotPermitted(f"{shown_url} forbids INFO to this user: grant it +info")
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return AccessDenied(
            f"{shown_url} does not let us in ({error}). Put the right user and password into the "
            "URL: redis://USER:PASSWORD@HOST:PORT/0 (the user may be empty)."
        )
    if isinstance(error, (BusyLoadingError, ResponseError)):
        return kind(f"{shown_url} answers INFO with an error: {error}{advice and f'. {advice}'}")
    if "connecting to" in str(error):  # redis-py says so of all that fails before the handshake
        unknown = isinstance(error.__context__, socket.gaierror)
        return (HostUnknown if unknown else StoreUnavailable)(
            f"{shown_url} cannot be reached: {error}"
        )
    if isinstance(error, redis.TimeoutError):
        return StoreUnsuitable(
            f"Something listens at {shown_url} but does not answer within {timeout_s:g} s: it is no "
            f"Redis, or one that hangs. {WANTED}: check the port, or give another URL."
        )
    return StoreUnsuitable(
        f"What answers at {shown_url} does not speak as a Redis does ({error}). "
        f"{WANTED}: check the port, and that rediss:// is used if and only if it wants TLS."
    )
