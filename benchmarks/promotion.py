"""How long a promotion keeps Redis from everybody else: ``python -m benchmarks.promotion [--jobs N] [--rounds N]``.

So many jobs are due at once, as by the product's own step, of 180 bytes each: plain ones, some with a
priority, and in twenty queues. Counted is the processor time of Redis, which other programs on the machine
do not change much, with that of the question for it. The exit code is 1 when one step in a hundred took
longer than the limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.arena import Arena
from benchmarks.contestants.tasks import ARGS
from headrace import Headrace
from headrace import operations as op
from headrace.keys import Keys, keys_of
from headrace.maintenance.promoter import QUEUES_A_TRIP, STEP
from headrace.options import JobOptions
from headrace.store import Store

JOBS: Final = 100_000
LIMIT_MS: Final = 5.0


def fill(arena: Arena, queues: Sequence[Keys], count: int, priority: int) -> None:
    """Let jobs be due, without anybody who promotes them."""
    arena.empty()
    app = Headrace(arena.url)
    options: JobOptions = {"priority": priority} if priority else {}
    for start in range(0, count, 1_000):
        calls = [app.call_with("nothing", ARGS, {}, options) for _ in range(1_000)]
        due = {call.job: 1 for call in calls}
        arena.redis.zadd(queues[start // 1_000 % len(queues)].delayed, due)
    app.close()


def held_ms(arena: Arena, queues: Sequence[Keys]) -> list[float]:
    """Promote all; gives how much of Redis' time each round trip took."""
    store, held = Store(arena.url, name="promotion"), list[float]()
    requests = [op.promote(k, STEP // len(queues)) for k in queues]
    moved = 1
    while moved:
        before_s = arena.server_cpu_s()
        moved = sum(answer.moved for answer in store.run_all(requests))
        held.append((arena.server_cpu_s() - before_s) * 1_000)
    store.close()
    return sorted(held)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promotion", description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    many = [keys_of(f"queue{number}") for number in range(QUEUES_A_TRIP)]
    cases = (("plain", many[:1], 0), ("with a priority", many[:1], 5), ("in many queues", many, 0))
    exceeded = False
    with Arena(aof=True) as arena:
        print(f"{'of Redis, ms':<20}{'p50':>8}{'p99':>8}{'most':>8}")
        for name, queues, priority in cases:
            held: list[float] = []
            for _ in range(options.rounds):
                fill(arena, queues, options.jobs, priority)
                held += held_ms(arena, queues)
            held.sort()
            p50, p99 = (held[round(point * (len(held) - 1))] for point in (0.5, 0.99))
            print(f"{name:<20}{p50:>8.2f}{p99:>8.2f}{held[-1]:>8.2f}", flush=True)
            exceeded |= p99 > LIMIT_MS
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
