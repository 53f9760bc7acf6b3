"""A cluster of three primaries and three replicas, all real: to be killed, failed over, resharded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import Redis
from redis.connection import Connection, ConnectionPool

from headrace.embedded.cluster import ClusterNode, EmbeddedCluster
from headrace.embedded.server import HOST
from headrace.operations import command
from headrace.store.cluster.names import slot_of, unplaced
from headrace.store.cluster.parts import take_apart
from tests.support.servers import engine_under_test
from tests.support.wait import bound, wait_until

also_on_a_cluster = pytest.mark.parametrize("url", ["server", "cluster"], indirect=True)


def url_of(request: pytest.FixtureRequest, url: str) -> str:
    """Return this URL, or that of a cluster if the fixture's parameter says so."""
    if getattr(request, "param", "server") == "server":
        return url
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.url


class Cluster(EmbeddedCluster):
    """A cluster, and what tests do to it."""

    def everywhere(self, *words: Any) -> list[Any]:
        """Run one command on each primary."""
        return [node.ask(*words) for node in self.primaries()]

    def primaries(self) -> list[ClusterNode]:
        """The nodes that serve slots."""
        ports = {port for port, _, _ in self._ranges()}
        return [node for node in self.nodes if node.port in ports]

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """A replica of a primary, that runs; the primary may hear of it a moment after it follows."""

        def found() -> list[ClusterNode]:
            listed = primary.ask("CLUSTER", "REPLICAS", primary.id)
            ports = {int(line.split()[1].split(b"@")[0].rpartition(b":")[2]) for line in listed}
            return [node for node in self.nodes if node.port in ports and node.running]

        return wait_until(found, "the primary knows of its replica")[0]

    def client_of(self, queue: str) -> Redis:
        """Give a plain client of the primary of a queue; the caller closes it."""
        return Redis(port=self.primary_of(queue).port, protocol=2, socket_timeout=bound(5))

    def placed_client_of(self, queue: str) -> Redis:
        """Give one that names keys as on one server."""
        pool = ConnectionPool(
            connection_class=PlacedConnection, port=self.primary_of(queue).port, protocol=2
        )
        client = Redis.from_pool(pool)
        scan = client.response_callbacks["SCAN"]

        def scanned(raw: Any, **options: Any) -> Any:
            cursor, found = scan(raw, **options)
            return cursor, [unplaced(key) for key in found]

        client.set_response_callback("KEYS", lambda found: [unplaced(key) for key in found])
        client.set_response_callback("SCAN", scanned)
        return client

    def move_slot(
        self, queue: str, to: ClusterNode, *, midway: Callable[[], None] = lambda: None
    ) -> None:
        """Move the slot of a queue with its keys to another primary; call something midway."""
        slot, source = slot_of(queue), self.primary_of(queue)
        if source is to:
            return
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        midway()
        with Redis(port=source.port) as client:
            while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 2):
                client.execute_command("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
        owner = to.id
        # The new one first: it may be asked at once.
        for node in dict.fromkeys([to, source, *self.primaries()]):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", owner)

    def fail_over(self, queue: str) -> ClusterNode:
        """Have the replica take over from the primary of a queue, as an operator would; return it."""
        old = self.primary_of(queue)
        new = self.replica_of(old)
        new.ask("CLUSTER", "FAILOVER")
        self.await_primary(queue, other_than=old)
        self.await_whole()
        return new

    def await_primary(self, queue: str, *, other_than: ClusterNode) -> None:
        """Wait until another node serves a queue, as all others agree that run."""
        slot = slot_of(queue)

        def agreed() -> bool:
            with suppress(redis.RedisError):
                running = [node for node in self.nodes if node.running and node is not other_than]
                owners = {
                    port
                    for node in running
                    for port, first, last in _ranges_of(node)
                    if first <= slot <= last
                }
                return len(owners) == 1 and other_than.port not in owners
            return False

        wait_until(agreed, "another node is the primary")

    def _ranges(self) -> list[tuple[int, int, int]]:
        for node in self.nodes:
            if node.running:
                return _ranges_of(node)
        raise AssertionError("no node runs")


class PlacedConnection(Connection):
    """A connection to a node that names keys as on one server: as tests do."""

    def send_command(self, *args: Any, **options: Any) -> None:
        """Send a command."""
        super().send_command(*_placed(args), **options)  # type: ignore[no-untyped-call]

    def pack_commands(self, commands: Iterable[Any]) -> list[bytes]:
        """Encode commands."""
        named = [_placed(args) for args in commands]
        packed: list[bytes] = super().pack_commands(named)  # type: ignore[no-untyped-call]
        return packed


def _placed(args: Sequence[Any]) -> Sequence[Any]:
    words = str(args[0]).split()
    if words[0] in {"AUTH", "HELLO", "SELECT", "MULTI", "EXEC", "FLUSHALL", "KEYS", "PSUBSCRIBE"}:
        return args
    operation = command(*words, *args[1:], parse=lambda raw: raw)
    if words[0] in {
        "RPOPLPUSH",
        "BRPOPLPUSH",
        "RENAME",
    }:  # their keys stand where those of LMOVE do
        operation = operation._replace(args=("LMOVE", *operation.args[1:]))
    whole = take_apart(operation, [(HOST, 0)])
    return (args[0], *whole.parts[0].operation.args[len(words):])  # fmt: skip


def _ranges_of(node: ClusterNode) -> list[tuple[int, int, int]]:
    with Redis(port=node.port, protocol=2, socket_timeout=bound(5)) as client:
        client.response_callbacks.clear()
        return [(one[2][1], one[0], one[1]) for one in client.execute_command("CLUSTER SLOTS")]


@contextmanager
def running_cluster(folder: Path, **options: Any) -> Iterator[Cluster]:
    """Run a cluster; it is whole when the block begins, gone when it ends."""
    own: dict[str, Any] = {
        "engine": engine_under_test(),
        "die_with_parent": True,
        "timeout_ms": round(bound(1_000)),
    }
    cluster = Cluster.start(folder, **(own | options))
    try:
        yield cluster
    finally:
        cluster.kill()
