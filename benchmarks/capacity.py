"""What a job costs by part, fitted on measurements here, and what shards carry by that: ``python -m benchmarks.capacity``.

Processor time of the server and of clients is measured for enqueues of several sizes and for a consumer that
works a backlog off. A call costs what it costs once, and something for each job in it: both are fitted to all
sizes together, by least squares. What the model says of sizes that it was not fitted on is shown beside what
was measured there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.arena import Arena
from benchmarks.contestants.tasks import ARGS
from benchmarks.growth import partitions
from headrace import Headrace

FITTED: Final = (1, 10, 100, 1_000)
CHECKED: Final = (3, 30, 300)
JOBS: Final = 30_000
SHARDS: Final = (1, 3, 10, 100)
BUSY: Final = 0.7  # of a core: beyond that, queues grow at every hiccup


@dataclass(frozen=True)
class Line:
    """What a call of n jobs costs: ``call + n * job``, µs."""

    call: float
    job: float

    def of(self, jobs: int) -> float:
        """Return the cost of each job in a call of so many, µs."""
        return self.call / jobs + self.job


@dataclass(frozen=True)
class Enqueued:
    """What enqueuing a job has cost, µs."""

    server_us: float
    client_us: float


def enqueued(arena: Arena, size: int) -> Enqueued:
    """Enqueue so many at a time."""
    arena.empty()
    app, count = Headrace(arena.url), max(JOBS // 5, min(JOBS, 200 * size))
    calls = [app.call_with("nothing", ARGS, {}, {}) for _ in range(count)]
    app.enqueue_many(calls[:1])
    server_s, client = arena.server_cpu_s(), os.times()
    for start in range(0, count, size):
        app.enqueue_many(calls[start : start + size])
    after = os.times()
    server_s = arena.server_cpu_s() - server_s
    app.close()
    own_s = after.user + after.system - client.user - client.system
    return Enqueued(server_s / count * 1e6, own_s / count * 1e6)


def fit(costs: dict[int, float]) -> Line:
    """Fit a line to costs of a job by the size of its call; what is small counts as much as what is large.

    Least squares of the relative error, by the normal equations of two unknowns.
    """
    rows = [(1 / size / cost, 1 / cost) for size, cost in costs.items()]
    aa, ab, bb = (sum(r[i] * r[j] for r in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = sum(r[0] for r in rows), sum(r[1] for r in rows)
    det = aa * bb - ab * ab
    return Line((a * bb - b * ab) / det, (b * aa - a * ab) / det)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    found: dict[int, list[Enqueued]] = {size: [] for size in (*FITTED, *CHECKED)}
    drained = []
    with Arena(aof=True) as arena:
        for _ in range(options.rounds):
            for size, each in found.items():
                each.append(enqueued(arena, size))
            drained.append(partitions(arena, 1))
    server = {n: min(one.server_us for one in each) for n, each in found.items()}
    client = {n: min(one.client_us for one in each) for n, each in found.items()}
    servers = fit({n: server[n] for n in FITTED})
    clients = fit({n: client[n] for n in FITTED})
    run_server = min(one["server_us"] for one in drained)
    run_worker = min(one["cpu_us"] for one in drained)
    print("jobs a call    server us a job: measured  model    client: measured  model")
    for n in sorted(found):
        fitted = "" if n in FITTED else "  not fitted"
        print(
            f"{n:>11,}{server[n]:>31.1f}{servers.of(n):>7.1f}{client[n]:>20.1f}{clients.of(n):>7.1f}{fitted}"
        )
    print(f"\nserver: {servers.call:.1f} us a call and {servers.job:.2f} us a job", end="; ")
    print(f"client: {clients.call:.1f} and {clients.job:.2f}")
    print(f"to run a quick job: {run_server:.1f} us of server, {run_worker:.1f} us of consumer\n")
    print(f"{'shards':>8}{'jobs/s, one a call':>20}{'100 a call':>12}{'cores of consumers':>20}")
    for shards in SHARDS:
        one, many = (BUSY * shards * 1e6 / (servers.of(n) + run_server) for n in (1, 100))
        print(f"{shards:>8}{one:>20,.0f}{many:>12,.0f}{many * run_worker / 1e6 / BUSY:>20,.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
