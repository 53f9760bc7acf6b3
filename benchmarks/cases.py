"""What is measured, one function for each case: a contestant goes in, numbers come out.

Rates count from the first job that ended to the last: without the start of a worker. Each case knows
who takes part in it, and which of its numbers a comparison is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.arena import Arena, Worker
from benchmarks.contestants import Contestant

Numbers = dict[str, float]
Run = Callable[[Arena, Contestant], Numbers]

SECONDS: Final = 1.2
"""About how long a worker is kept busy: long enough for 1 % of the clock's ticks."""

WAIT_MS: Final = 10  # of a job of the I/O cases
IDLE_S: Final = 8.0


@dataclass(frozen=True)
class Case:
    """One thing to compare.

    Attributes:
        name: how it is called for.
        title: what it says above its table.
        number: which number is compared …
        unit: … and its unit.
        more_is_better: whether a larger one is better.
        takes: who takes part.
        run: measures one contestant once.
        once: it counts something that does not vary: one round is enough.
    """

    name: str
    title: str
    number: str
    unit: str
    more_is_better: bool
    takes: Callable[[Contestant], bool]
    run: Run
    once: bool = False


def does(what: str) -> Callable[[Contestant], bool]:
    return lambda who: what in who.does


def everybody(_: Contestant) -> bool:
    return True


def runs_jobs(who: Contestant) -> bool:
    """All but the bare loop of scripts."""
    return who.name != "scripts"


def queues(who: Contestant) -> bool:
    """Those that are a queue, and not only a way to write one."""
    return who.name not in {"scripts", "by_hand"}


def fill(arena: Arena, who: Contestant, what: str, count: int) -> int:
    """Let a contestant bring jobs the quickest way that it has; gives how many."""
    way = next(way for way in ("bulk", "crowd", "push") if way in who.does)
    return arena.push(who, way, what, count).jobs


# — enqueue —


def _enqueue(way: str, count: int) -> Run:
    def run(arena: Arena, who: Contestant) -> Numbers:
        arena.empty()
        before_s = arena.server_cpu_s()
        measured = arena.push(who, way, "nothing", count)
        server_s = arena.server_cpu_s() - before_s
        return {
            "per_s": measured.jobs / measured.seconds,
            "cpu_us": measured.cpu_s / measured.jobs * 1e6,
            "server_us": server_s / measured.jobs * 1e6,
        }

    return run


# — run —


def _drain(what: str, seconds: float, concurrency: int | None = None, processes: int = 1) -> Run:
    """Measure how fast jobs are worked off that wait already."""

    def run(arena: Arena, who: Contestant) -> Numbers:
        slots = concurrency or who.concurrency
        most = slots * processes * 1000 / WAIT_MS if what == "wait" else MOST_PER_S[what]
        arena.empty()
        wanted = max(40, round(seconds * min(most, who.per_s * processes) / 100) * 100)
        jobs = fill(arena, who, what, wanted)
        with arena.working(who, slots, processes) as worker:
            worker.until(1)
            first = worker.read()
            worker.until(round(0.8 * jobs))
            last = worker.read()
            tally = worker.until(jobs)
        ran, seconds_taken = last.jobs - first.jobs, (tally.last_ns - tally.first_ns) / 1e9
        numbers = {"per_s": (tally.jobs - 1) / seconds_taken}
        if ran > 0:
            numbers["cpu_us"] = (last.cpu_s - first.cpu_s) / ran * 1e6
            numbers["server_us"] = (last.server_s - first.server_s) / ran * 1e6
        if what == "wait":
            numbers["share"] = numbers["per_s"] / most
        return numbers

    return run


MOST_PER_S: Final = {"nothing": 1e9, "digest": 800.0}


def _latency(share: float, most_per_s: float, seconds: float) -> Run:
    """Measure from before the enqueue to the start of the task, in another process, evenly paced."""

    def run(arena: Arena, who: Contestant) -> Numbers:
        per_s = min(most_per_s, share * who.per_s)
        count = round(per_s * seconds)
        arena.empty()
        with arena.working(who, who.concurrency) as worker:
            warm = _warm(arena, who, worker)
            arena.push(who, "pace", per_s, count)
            tally = worker.until(warm + count, within_s=30)
        return {"per_s": per_s, **percentiles(sorted(tally.late_ns))}

    return run


def _lateness(arena: Arena, who: Contestant) -> Numbers:
    """Measure how late delayed jobs start, on an idle worker."""
    arena.empty()
    with arena.working(who, who.concurrency) as worker:
        warm = _warm(arena, who, worker)
        arena.push(who, "later", 1.0, 100)
        tally = worker.until(warm + 100, within_s=30)
    return percentiles(sorted(tally.late_ns))


def _spread(jobs: int, seconds: float) -> Run:
    """Measure how late delayed jobs start that fall due all the time, at most at 0.3 of what is drained."""

    def run(arena: Arena, who: Contestant) -> Numbers:
        count = round(min(jobs, 0.3 * who.per_s * seconds))
        arena.empty()
        with arena.working(who, who.concurrency) as worker:
            warm = _warm(arena, who, worker)
            arena.push(who, "spread", seconds, count)
            tally = worker.until(warm + count, within_s=3 * seconds + 60)
        late_ns = sorted(tally.late_ns)
        return {"jobs": count, **percentiles(late_ns), "earliest": late_ns[0] / 1e6}

    return run


def _warm(arena: Arena, who: Contestant, worker: Worker) -> int:
    """Let a worker run a few jobs first; gives how many."""
    arena.push(who, "push", "nothing", 20)
    worker.until(20)
    return 20


def percentiles(late_ns: Sequence[int]) -> Numbers:
    """Give the percentiles of sorted times, in milliseconds."""
    if not late_ns:
        return {}
    points = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
    last = len(late_ns) - 1
    return {name: late_ns[round(point * last)] / 1e6 for name, point in points.items()}


# — cost —


def _memory(arena: Arena, who: Contestant) -> Numbers:
    """Measure what a waiting job takes in Redis."""
    arena.empty()
    fill(arena, who, "nothing", 1_000)  # what is there once, whatever waits
    before = arena.redis.info("memory")["used_memory"]
    jobs = fill(arena, who, "nothing", 20_000)
    return {"bytes": (arena.redis.info("memory")["used_memory"] - before) / jobs}


def _idle(arena: Arena, who: Contestant) -> Numbers:
    """Measure what a worker does and has while there is nothing to do."""
    arena.empty()
    with arena.working(who, who.concurrency) as worker:
        _warm(arena, who, worker)
        time.sleep(2.0)  # for what it does after the last job
        first, started = worker.read(), time.monotonic()
        time.sleep(IDLE_S)
        last, seconds = worker.read(), time.monotonic() - started
        rss, pss = worker.memory_mb()
    return {
        "commands_per_s": (last.commands - first.commands) / seconds,
        "cpu_percent": (last.cpu_s - first.cpu_s) / seconds * 100,
        "rss_mb": rss,
        "pss_mb": pss,
    }


def _start(arena: Arena, who: Contestant) -> Numbers:
    """Measure from the start of a worker's process to the end of its first job."""
    arena.empty()
    arena.push(who, "push", "nothing", 1)
    started_ns = time.monotonic_ns()
    with arena.working(who, who.concurrency) as worker:
        tally = worker.until(1)
    return {"seconds": (tally.first_ns - started_ns) / 1e9}


CASES: Final = {
    case.name: case
    for case in (
        Case("drain", "Jobs that do nothing, one process", "per_s", "jobs/s", True, everybody,
             _drain("nothing", SECONDS)),
        Case("drain-2", "Jobs that do nothing, two processes", "per_s", "jobs/s", True, runs_jobs,
             _drain("nothing", SECONDS, processes=2)),
        Case("wait-100", "Jobs that wait 10 ms, 100 at once", "per_s", "jobs/s", True, queues,
             _drain("wait", 1.5, concurrency=100)),
        Case("wait-1000", "Jobs that wait 10 ms, 1,000 at once", "per_s", "jobs/s", True, queues,
             _drain("wait", 1.5, concurrency=1000)),
        Case("digest", "Jobs that compute: SHA-256 of 1 MiB, two processes", "per_s", "jobs/s", True,
             runs_jobs, _drain("digest", SECONDS, processes=2)),
        Case("latency", "From enqueue to start, idle worker", "p50", "ms", False, runs_jobs,
             _latency(0.3, 200, 3.0)),
        Case("latency-loaded", "From enqueue to start, at half of what it drains, at most 2,000 jobs/s",
             "p50", "ms", False, runs_jobs, _latency(0.5, 2_000, 1.5)),
        Case("delayed", "How late jobs start that were delayed by 1 s", "p50", "ms", False,
             does("later"), _lateness),
        Case("lateness", "How late jobs start, of 10,000 that fall due within 10 s (fewer where that is too much)",
             "p99", "ms", False, does("later"), _spread(10_000, 10.0)),
        Case("enqueue", "Enqueue one by one", "per_s", "jobs/s", True, does("push"),
             _enqueue("push", 3_000)),
        Case("enqueue-crowd", "Enqueue, a hundred at once", "per_s", "jobs/s", True, does("crowd"),
             _enqueue("crowd", 10_000)),
        Case("enqueue-bulk", "Enqueue, a thousand in a call", "per_s", "jobs/s", True, does("bulk"),
             _enqueue("bulk", 20_000)),
        Case("memory", "Memory of Redis for a waiting job", "bytes", "bytes", False, runs_jobs,
             _memory, once=True),
        Case("idle", "An idle worker", "commands_per_s", "commands/s", False, runs_jobs, _idle, once=True),
        Case("start", "From the start of a worker to its first job's end", "seconds", "s", False,
             runs_jobs, _start),
    )
}  # fmt: skip
