"""How Headrace grows: ``python -m benchmarks.growth [--curves A,B] [--rounds N] [--json FILE]``.

Each curve is measured in turns, round by round, and given as the cost of a job: processor time of the
workers and of the server. A flat line is what one wants; where it rises, docs/benchmarks.md says why.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.arena import Arena, Reading
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.tasks import ARGS
from headrace import Headrace
from headrace.consumer import QueueWeight
from headrace.partitions.names import names_of
from headrace.partitions.requests import Share
from headrace.settings import DEFAULT_QUEUE
from headrace.supervisor.sharing import weighed

OURS: Final = CONTESTANTS["headrace:async"]
WATCHED: Final = 30_000  # jobs, of a backlog of any length
DAY_S: Final = 86_400
AT_A_TIME: Final = 10_000
IN_FLIGHT_PER_S: Final = 4_000.0
SLOTS: Final = 10_000  # of one consumer, at most

Point = dict[str, float]
Calls = Callable[[Headrace, int], None]


def _fill(
    arena: Arena,
    count: int,
    args: Callable[[], tuple[object, ...]],
    task: str,
    queues: Sequence[str] = (DEFAULT_QUEUE,),
) -> None:
    arena.empty()
    app = Headrace(arena.url)
    for start in range(0, count, AT_A_TIME):
        some = range(start, min(count, start + AT_A_TIME))
        app.enqueue_many(
            app.call_with(task, args(), {}, {"queue": queues[number % len(queues)]})
            for number in some
        )
    app.close()


def _queue(number: int) -> str:
    return f"queue{number}" if number else DEFAULT_QUEUE


def _watch(
    arena: Arena,
    first: int,
    last: int,
    slots: int = 100,
    processes: int = 1,
    shares: Sequence[str] = (DEFAULT_QUEUE,),
) -> Point:
    """Let a worker run, and measure it between two numbers of jobs.

    Each of ``shares`` names the queues of one consumer, all of them in one process.
    """
    who = replace(OURS, name=f"{OURS.name}+{';'.join(shares)}")
    with arena.working(who, slots, processes) as worker:
        worker.until(first)
        before, started = worker.read(), time.monotonic()
        worker.until(last)
        after, seconds = worker.read(), time.monotonic() - started
    return _point(before, after, seconds)


def _point(before: Reading, after: Reading, seconds: float, left_out_s: float = 0.0) -> Point:
    """Give the cost of a job between two readings; ``left_out_s`` of the server's time was for else."""
    jobs = after.jobs - before.jobs
    return {
        "per_s": jobs / seconds,
        "cpu_us": (after.cpu_s - before.cpu_s) / jobs * 1e6,
        "server_us": (after.server_s - before.server_s - left_out_s) / jobs * 1e6,
    }


def backlog(arena: Arena, jobs: int) -> Point:
    if jobs < WATCHED:
        return _bursts(arena, jobs)
    _fill(arena, jobs, lambda: ARGS, "nothing")
    return _watch(arena, 5_000, WATCHED)


def _bursts(arena: Arena, jobs: int) -> Point:
    """Measure a backlog that is gone before the processors' clocks, which tick every 10 ms, have seen it.

    It is brought again and again. What that costs the server is measured before, and left out.
    """
    arena.empty()
    app, bursts = Headrace(arena.url), WATCHED // jobs
    calls = [app.call_with("nothing", ARGS, {}, {}) for _ in range(jobs)]
    started_s = arena.server_cpu_s()
    for _ in range(bursts):
        app.enqueue_many(calls)
    bringing_s = arena.server_cpu_s() - started_s
    arena.empty()
    with arena.working(OURS, 100) as worker:
        app.enqueue_many(calls)
        worker.until(jobs)  # it is warm
        before, started = worker.read(), time.monotonic()
        for burst in range(bursts):
            app.enqueue_many(calls)
            worker.until((burst + 2) * jobs)
        after, seconds = worker.read(), time.monotonic() - started
    app.close()
    return _point(before, after, seconds, bringing_s)


def payload(arena: Arena, size: int) -> Point:
    jobs = max(300, min(20_000, 200_000_000 // size // 4))
    _fill(arena, jobs, lambda: ("x" * size,), "nothing")
    return _watch(arena, jobs // 10, jobs)


def processes(arena: Arena, count: int) -> Point:
    _fill(arena, 60_000, lambda: ARGS, "nothing")
    return _watch(arena, 15_000, 60_000, processes=count)


def queues(arena: Arena, count: int) -> Point:
    names = [*map(_queue, range(count))]
    _fill(arena, 30_000, lambda: ARGS, "nothing", names)
    return _watch(arena, 5_000, 30_000, shares=[",".join(names)])


def spread(arena: Arena, count: int) -> Point:
    """So many queues with jobs, spread over consumers of at most 8 each, all of them in one process."""
    names = list(map(_queue, range(count)))
    shares = [",".join(names[start : start + 8]) for start in range(0, count, 8)]
    return together(arena, shares, names)


def partitions(arena: Arena, count: int) -> Point:
    """So many partitions of one queue, and one consumer."""
    return _shared(arena, 1, count)


def sharing(arena: Arena, count: int) -> Point:
    """So many consumers that share 16 partitions, all in one process: to compare ``consumers`` with."""
    return _shared(arena, count, 16)


def _shared(arena: Arena, consumers: int, partitions: int) -> Point:
    names = names_of(DEFAULT_QUEUE, partitions)
    return together(arena, _shares(consumers, names), names)


def _shares(consumers: int, names: Sequence[str]) -> list[str]:
    """Give what each of so many consumers takes from, its own partitions first."""
    queue = QueueWeight(DEFAULT_QUEUE)
    orders = [weighed(queue, names, Share(rank, consumers)) for rank in range(consumers)]
    return [",".join(one.name for one in order) for order in orders]


def consumers(arena: Arena, count: int) -> Point:
    """So many consumers of one queue, all of them in one process: to compare ``spread`` with."""
    return together(arena, [DEFAULT_QUEUE] * count, [DEFAULT_QUEUE])


def together(arena: Arena, shares: list[str], names: Sequence[str]) -> Point:
    jobs = max(60_000, 3_200 * len(shares))  # enough for all to be at it meanwhile
    _fill(arena, jobs, lambda: ARGS, "nothing", names)
    return _watch(arena, jobs // 4, jobs * 3 // 4, shares=shares)


def known(arena: Arena, count: int) -> Point:
    """So many queues are known, and maintained: one is worked off, a job waits for tomorrow in each other."""
    _fill(arena, 60_000, lambda: ARGS, "nothing")
    app = Headrace(arena.url)
    for number in range(1, count):
        app.enqueue_many(
            [app.call_with("nothing", ARGS, {}, {"queue": f"k{number}", "delay": DAY_S})]
        )
    app.close()
    return _watch(arena, 5_000, 60_000)


def in_flight(arena: Arena, count: int) -> Point:
    """So many at once, of random durations: about 4,000 jobs a second whatever their number."""
    return _in_flight(arena, count, 1)


def in_flight_divided(arena: Arena, count: int) -> Point:
    """The same, with a partition for each thousand in flight, and a consumer for each ten thousand."""
    return _in_flight(arena, count, max(1, count // 1_000))


def _in_flight(arena: Arena, count: int, partitions: int) -> Point:
    most_ms, rng = 2_000 * count / IN_FLIGHT_PER_S, random.Random(count)
    jobs, names = round(2 * count + 6 * IN_FLIGHT_PER_S), names_of(DEFAULT_QUEUE, partitions)
    _fill(arena, jobs, lambda: (rng.uniform(0, most_ms),), "wait", names)
    begun = round(1.2 * count)  # until they are well mixed
    shares = _shares(max(1, count // SLOTS), names)
    last = begun + round(3 * IN_FLIGHT_PER_S)
    return _watch(arena, begun, last, slots=min(count, SLOTS), shares=shares)


CURVES: Final[dict[str, tuple[Callable[[Arena, int], Point], tuple[int, ...], str]]] = {
    "backlog": (backlog, (1_000, 10_000, 100_000, 1_000_000), "jobs waiting"),
    "payload": (payload, (100, 1_000, 10_000, 100_000, 1_000_000), "bytes of arguments"),
    "processes": (processes, (1, 2, 4, 8), "processes, on this machine's processors"),
    "queues": (queues, (1, 2, 4, 8), "queues of one consumer"),
    "spread-queues": (
        spread,
        (8, 64, 256, 1_000),
        "queues, with a consumer in one process for every 8",
    ),
    "consumers": (consumers, (1, 8, 32), "consumers of one queue, in one process"),
    "sharing": (sharing, (1, 8, 32, 125), "consumers that share 16 partitions, in one process"),
    "partitions": (partitions, (1, 4, 16), "partitions of one queue, with one consumer"),
    "known-queues": (
        known,
        (1, 10, 100, 1_000),
        "queues that are known, of which one is worked off",
    ),
    "in-flight": (in_flight, (10, 100, 1_000, 10_000), "jobs in flight, of random durations"),
    "in-flight-divided": (
        in_flight_divided,
        (10, 1_000, 10_000, 100_000),
        "jobs in flight, a thousand in each partition",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--curves", default=",".join(CURVES), help=", ".join(CURVES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[int, list[Point]]] = {}
    with Arena(aof=True) as arena:
        for name in options.curves.split(","):
            measure, sizes, what = CURVES[name]
            found: dict[int, list[Point]] = {size: [] for size in sizes}
            for _ in range(options.rounds):
                for size in sizes:
                    found[size].append(measure(arena, size))
            results[name] = found
            print(f"\n{what:<44}{'jobs/s':>10}{'us of worker':>14}{'us of server':>14}{'cost':>8}")
            for size in sizes:
                print(cost_line(size, found[size], found[sizes[0]]), flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def cost_line(size: int, points: Sequence[Point], first: Sequence[Point]) -> str:
    """Write what a size of a curve costs, in all, and as often as the first."""
    costs = [
        (one["cpu_us"] + one["server_us"]) / (base["cpu_us"] + base["server_us"])
        for one, base in zip(points, first, strict=True)
    ]
    middle = {key: median(one[key] for one in points) for key in points[0]}
    return (
        f"{size:<44,}{middle['per_s']:>10,.0f}{middle['cpu_us']:>14.1f}{middle['server_us']:>14.1f}"
        f"{median(costs):>8.2f}  ({min(costs):.2f} to {max(costs):.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
