"""A cluster of our own: primaries that share the slots, and replicas that follow them, on this machine.

For the demo, for tests, and to try out what a cluster does. All of it is on one machine, so it is
nothing to run a business on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from headrace.embedded.server import HOST, EmbeddedServer, free_port
from headrace.embedded.wait import within
from headrace.errors import EmbeddedServerError, StoreError
from headrace.operations import command
from headrace.operations.request import text
from headrace.store import Store
from headrace.store.cluster import slots
from headrace.store.cluster.names import SLOTS, slot_of

_WHOLE_S: Final = 60.0  # usually 2 s: the nodes talk to each other ten times a second


class ClusterNode(EmbeddedServer):
    """One server of a cluster."""

    scheme: ClassVar[str] = "redis+cluster"

    def ask(self, *words: str | int) -> Any:
        """Run one command that names no keys; return its answer as it comes.

        Raises:
            StoreError: the node does not answer, or refuses.
        """
        store = Store(f"redis://{HOST}:{self.port}")
        try:
            return store.run(command(*words, parse=lambda raw: raw))
        finally:
            store.close()

    @property
    def id(self) -> str:
        """What the others call it."""
        return text(self.ask("CLUSTER", "MYID"))

    def says(self, *words: str) -> dict[str, str]:
        """Ask for what is answered in lines of names and values, as INFO is."""
        lines = text(self.ask(*words)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def knows(self) -> int:
        """How many nodes it knows, with itself."""
        return len(text(self.ask("CLUSTER", "NODES")).splitlines())


class EmbeddedCluster:
    """Nodes that are one cluster.

    Attributes:
        nodes: first the first primaries, then the first replicas.
    """

    def __init__(self, nodes: Sequence[ClusterNode] = ()) -> None:
        self.nodes = [*nodes]

    @property
    def url(self) -> str:
        """How to reach it."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        primaries: int = 3,
        replicas: int = 3,
        timeout_ms: int = 1_000,
        **options: Any,
    ) -> Self:
        """Start a cluster and wait until it is whole.

        Args:
            folder: where all nodes write.
            primaries: how many share the slots.
            replicas: how many follow them, in turn.
            timeout_ms: how long a node may be silent until the others take it for dead.
            options: as of ``EmbeddedServer.start``, for all nodes.

        Raises:
            EmbeddedServerError: a node did not start, or they did not become one cluster.
        """
        cluster = cls()
        try:
            for number in range(primaries + replicas):
                # By default they talk to each other on port + 10000, where there may be none.
                args = (
                    *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                    *("--cluster-node-timeout", str(timeout_ms), "--repl-diskless-sync-delay", "0"),
                    *("--cluster-allow-replica-migration", "no"),
                )
                place = folder / f"node-{number}"
                node = ClusterNode.start(place, **{"port": 0, "extra_args": args, **options})
                cluster.nodes.append(node)
            cluster._join(primaries)
        except BaseException:
            cluster.kill()
            raise
        return cluster

    def _join(self, primaries: int) -> None:
        share = -(-SLOTS // primaries)
        for number, node in enumerate(self.nodes):
            if number < primaries:
                last = min(SLOTS, share * (number + 1)) - 1
                node.ask("CLUSTER", "ADDSLOTSRANGE", share * number, last)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        first = self.nodes[0]
        bus = text(first.ask("CONFIG", "GET", "cluster-port")[1])
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", HOST, first.port, bus)
        self._await(lambda node: node.knows() == len(self.nodes), "have not met")
        for number, node in enumerate(self.nodes[primaries:]):
            node.ask("CLUSTER", "REPLICATE", self.nodes[number % primaries].id)
        self.await_whole()

    def primary_of(self, queue: str) -> ClusterNode:
        """Return the node that serves a queue, as the first one says that answers.

        Raises:
            EmbeddedServerError: none does, or knows.
        """
        for asked in self.nodes:
            with contextlib.suppress(StoreError):
                known = slots.read(asked.ask("CLUSTER", "SLOTS"), (HOST, asked.port))
                for node in self.nodes:
                    if known.owner(slot_of(queue)) == (HOST, node.port):
                        return node
        raise EmbeddedServerError(f"No node of the cluster serves queue {queue}.")

    def await_whole(self) -> None:
        """Wait until all slots are served and the replicas follow, as each node that runs says.

        Raises:
            EmbeddedServerError: it takes too long.
        """

        def good(node: ClusterNode) -> bool:
            replication = node.says("INFO", "replication")
            follows = replication["role"] == "master" or replication["master_link_status"] == "up"
            return follows and node.says("CLUSTER", "INFO")["cluster_state"] == "ok"

        self._await(good, "are not one cluster")

    def kill(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()

    def __str__(self) -> str:
        """Return what it is made of, as people say it."""
        return f"cluster of {len(self.nodes)} nodes, each {self.nodes[0].engine}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _await(self, good: Callable[[ClusterNode], bool], what: str) -> None:
        def all_good() -> bool:
            try:
                return all(good(node) for node in self.nodes if node.running)
            except StoreError:
                return False

        if not within(_WHOLE_S, all_good):
            raise EmbeddedServerError(f"The nodes of the cluster {what}: their logs may tell why.")
