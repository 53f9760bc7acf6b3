"""What is to be known of a Redis server, read in a few round trips. Nothing is changed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from headrace import operations as op
from headrace.clock import monotonic, now_ms
from headrace.doctor import connections, permissions
from headrace.doctor.connections import Connections
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import keys_of
from headrace.operations import Operation
from headrace.settings import DEFAULT_QUEUE

R = TypeVar("R")

SETTINGS: Final = (
    "appendfsync", "appendonly", "maxclients", "maxmemory", "maxmemory-policy", "min-replicas-max-lag",
    "min-replicas-to-write", "no-appendfsync-on-rewrite", "save", "stop-writes-on-bgsave-error",
    "tcp-keepalive", "timeout",
)  # fmt: skip
_PINGS: Final = 5


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as its primary sees it: where it is, ``online`` or what else, and how far behind."""

    address: str
    state: str
    lag_s: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server at one instant.

    Attributes:
        info: what INFO says.
        config: its settings, as far as CONFIG GET may be used; empty if it may not.
        clock_ahead_s: its clock against this machine's, seconds.
        ping_s: how long an empty round trip takes, seconds: the median of five.
        refused: commands that this user may not give; None if unknown.
        leader: who sweeps and promotes; "" if nobody.
        connections: who is connected.
        node: where it is in its cluster, HOST:PORT; "" if it is the one server.
        others: the other primaries of its cluster, of which only INFO and settings are known.
    """

    info: Mapping[str, str]
    config: Mapping[str, str]
    clock_ahead_s: float
    ping_s: float
    refused: tuple[str, ...] | None
    leader: str
    connections: Connections
    node: str = ""
    others: tuple[ServerFacts, ...] = ()

    @property
    def is_loading(self) -> bool:
        """Whether it still reads its data from disk, and refuses all else."""
        return self.info.get("loading") == "1"

    @property
    def memory_whole(self) -> int:
        """How many bytes it may use, or its machine has; 0 if unknown."""
        return self.limit("maxmemory") or self.number("total_system_memory")

    @property
    def memory_share(self) -> float:
        """What of that it uses; 0 if unknown."""
        return self.number("used_memory") / self.memory_whole if self.memory_whole else 0.0

    @property
    def clients_share(self) -> float:
        """What of the possible connections are in use; 0 if unknown."""
        limit = self.limit("maxclients")
        return self.number("connected_clients") / limit if limit else 0.0

    @property
    def replicas(self) -> list[Replica]:
        """Its replicas; none if it is one itself."""
        found = []
        for n in range(0 if self.info.get("role") == "slave" else self.number("connected_slaves")):
            pairs = self.info.get(f"slave{n}", "").split(",")
            said = dict(pair.partition("=")[::2] for pair in pairs)
            address = f"{said.get('ip')}:{said.get('port')}"
            found.append(Replica(address, said.get("state", "away"), int(said.get("lag") or 0)))
        return found

    def number(self, name: str) -> int:
        """Return a number that INFO says, 0 where it does not."""
        found = self.info.get(name, "")
        return int(found) if found.lstrip("-").isdigit() else 0

    def setting(self, name: str) -> str | None:
        """Return a setting, from INFO where CONFIG GET may not be used; None if unknown."""
        if name in self.config:
            return self.config[name]
        if name == "appendonly" and "aof_enabled" in self.info:
            return "yes" if self.info["aof_enabled"] == "1" else "no"
        return self.info.get(name.replace("-", "_"))

    def limit(self, name: str) -> int:
        """Return a setting that is a number; 0 if it is unknown or there is no limit."""
        return int(self.setting(name) or 0)


def look(queue: str = DEFAULT_QUEUE) -> Flow[ServerFacts]:
    """Look at a server.

    Args:
        queue: a queue on whose keys this user may work.

    Raises:
        StoreError: it does not answer, or refuses what nobody can do without.
    """
    infos: dict[str, dict[str, str]] = yield info()
    facts = [ServerFacts(one, {}, 0.0, 0.0, None, "", Connections(), n) for n, one in infos.items()]
    if facts[0].is_loading:
        return facts[0]
    (found,) = yield [op.command("CONFIG", "GET", *SETTINGS, parse=_each(_pairs))]
    configs: dict[str, dict[str, str]] = {} if isinstance(found, StoreError) else found
    facts = [replace(one, config=configs.get(one.node, {})) for one in facts]
    leader, connected = yield from connections.look()
    times: list[float] = []
    for _ in range(_PINGS):
        began = monotonic()
        yield op.command("PING", parse=bool)
        times.append(monotonic() - began)
    before_ms = now_ms()
    server_ms: float = yield op.time_ms()
    ahead_s = (server_ms - (before_ms + now_ms()) / 2) / 1000
    refused: tuple[str, ...] | None = yield from permissions.refused(keys_of(queue))
    return replace(
        facts[0],
        clock_ahead_s=ahead_s,
        ping_s=statistics.median(times),
        refused=refused,
        leader=leader,
        connections=connected,
        others=tuple(facts[1:]),
    )


def info() -> Operation[dict[str, dict[str, str]]]:
    """Return what a server says of itself, or each primary of a cluster, by where it is; "" on one server."""
    return op.command("INFO", "default", parse=_each(_info))


def _each(read: Callable[[Any], R]) -> Callable[[Any], dict[str, R]]:
    """Read what one server answers, or each node of a cluster, with where it is."""

    def parse(raw: Any) -> dict[str, R]:
        if isinstance(raw, list) and raw and isinstance(raw[0], tuple):
            return {f"{host}:{port}": read(answer) for (host, port), answer in raw}
        return {"": read(raw)}

    return parse


def _info(raw: bytes) -> dict[str, str]:
    lines = raw.decode(errors="replace").splitlines()
    return dict(line.partition(":")[::2] for line in lines if ":" in line)


def _pairs(raw: list[bytes]) -> dict[str, str]:
    words = [word.decode(errors="replace") for word in raw]
    return dict(zip(words[::2], words[1::2], strict=True))
