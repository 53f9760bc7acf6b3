"""What a job costs on clusters of several primaries: ``python -m benchmarks.shards [--rounds N] [--json FILE]``.

One queue of 16 partitions, on 1, 2 and 4 primaries that run at the same time on this machine; round by round,
in turns. Its processors are shared by all of them, so what is given is processor time for a job, of the
worker and of all servers together, and how many times that of one primary it is. That the work is divided is
seen by what each server did.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from redis import Redis

from benchmarks.arena import Arena
from benchmarks.growth import Point, cost_line, together
from headrace.embedded.cluster import EmbeddedCluster
from headrace.partitions.names import names_of
from headrace.settings import DEFAULT_QUEUE

SIZES: Final = (1, 2, 4)
NAMES: Final = names_of(DEFAULT_QUEUE, 16)


class ClusterArena(Arena):
    """A cluster of our own, without replicas.

    Args:
        primaries: how many.
    """

    def __init__(self, primaries: int) -> None:
        self._runs = 0
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-bench-")
        self._home = Path(self._folder.name)
        self._cluster = EmbeddedCluster.start(
            self._home, primaries=primaries, replicas=0, die_with_parent=True
        )
        self.url = self._cluster.url
        self._clients = [Redis(port=node.port) for node in self._cluster.nodes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._cluster.kill()
        self._folder.cleanup()

    def empty(self) -> None:
        """Empty all nodes."""
        for client in self._clients:
            client.flushall()

    def server_cpu_s(self) -> float:
        """Return the processor time of all nodes together."""
        used = [client.info("cpu") for client in self._clients]
        return sum(float(one["used_cpu_user"] + one["used_cpu_sys"]) for one in used)

    def commands(self) -> int:
        """How many commands all nodes have carried out."""
        return sum(
            int(client.info("stats")["total_commands_processed"]) for client in self._clients
        )

    def done(self) -> list[int]:
        """How many jobs are done on each node, the busiest first."""
        counts = [
            sum(int(client.hget(key, "done") or 0) for key in client.scan_iter("*:stats"))
            for client in self._clients
        ]
        return sorted(counts, reverse=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    found: dict[int, list[Point]] = {size: [] for size in SIZES}
    divided: dict[int, list[int]] = {}
    with ExitStack() as stack:
        arenas = {size: stack.enter_context(ClusterArena(size)) for size in SIZES}
        for _ in range(options.rounds):
            for size, arena in arenas.items():
                found[size].append(together(arena, [",".join(NAMES)], NAMES))
                divided[size] = arena.done()
    print(f"{'primaries':<44}{'jobs/s':>10}{'us of worker':>14}{'us of servers':>14}{'cost':>8}")
    for size, points in found.items():
        print(cost_line(size, points, found[1]), " done by each:", *divided[size])
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
