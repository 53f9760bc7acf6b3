"""Whether limits hold: ``python -m benchmarks.flow [rate] [fair] [holder]``.

rate     a limit of 100/s over 4 consumers, for 30 s: how many jobs began, to be 3,000 within 1 %
fair     one tenant with 100,000 jobs and nine with 100: how many jobs had run, of the big one too, when
         the nine were through; 1,000 is their share, 1,200 the bound
holder   the holder of the only slot is killed: how long until the next one has it
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import flow_tasks, report
from benchmarks.arena import Arena
from headrace.keys import keys_of

RATE_S: Final = 30.0
BIG, SMALL, EACH = 100_000, 9, 100
APP: Final = "benchmarks.flow_tasks:app"
_LONGEST_S: Final = 300.0


@contextlib.contextmanager
def consumers(
    arena: Arena, app: str, queue: str, count: int, *options: str, source: Path | None = None
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run consumers of one queue of an application; ``source``: of the Headrace in that folder."""
    command = [sys.executable, "-m", "headrace", "consume", app]
    command += ["--queues", queue, "--url", arena.url, "--log-level", "error", *options]
    env = os.environ | {"HEADRACE_URL": arena.url}
    if source is not None:
        env["PYTHONPATH"] = str(source)
    running = [subprocess.Popen(command, env=env) for _ in range(count)]
    try:
        yield running
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait()


def until(predicate: Callable[[], Any], what: str) -> float:
    """Wait; give the instant (monotonic)."""
    deadline = time.monotonic() + _LONGEST_S
    while not predicate():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_LONGEST_S:.0f} s: {what}")
        time.sleep(0.002)
    return time.monotonic()


def done(arena: Arena, queue: str) -> int:
    return int(arena.redis.hget(keys_of(queue).stats, "done") or 0)


def drained_per_s(
    arena: Arena, app: str, queue: str, jobs: int, *, first: int = 1, source: Path | None = None
) -> float:
    """Return how many jobs of a queue end in a second at one consumer, from when so many have until all have."""
    with consumers(arena, app, queue, 1, source=source):
        began = until(lambda: done(arena, queue) >= first, f"the first of {queue} are done")
        before = done(arena, queue)
        ended = until(lambda: done(arena, queue) >= jobs, f"all of {queue} are done")
    return (jobs - before) / (ended - began)


def connected(arena: Arena, count: int) -> bool:
    """Whether so many consumers wait for work."""
    blocked = [one["name"] for one in arena.redis.client_list() if one["cmd"] == "blpop"]
    return len(blocked) >= count


def rate(arena: Arena) -> float:
    """Return how many jobs ended in 30 s, of a limit of 100/s."""
    with consumers(arena, APP, "rated", 4):
        until(lambda: connected(arena, 4), "four consumers wait")
        flow_tasks.app.enqueue_many(flow_tasks.rated.call(n) for n in range(10_000))
        began = until(lambda: done(arena, "rated") > 0, "the first one is done")
        time.sleep(max(0.0, began + RATE_S - time.monotonic()))
        return done(arena, "rated")


def fair(arena: Arena) -> float:
    """Return how many jobs had run when those of the small tenants were through."""
    call = flow_tasks.tenants.call
    flow_tasks.app.enqueue_many(call("big") for _ in range(BIG))
    flow_tasks.app.enqueue_many(call(f"small{n % SMALL}") for n in range(SMALL * EACH))
    with consumers(arena, APP, "fair", 2, "--concurrency", "10"):
        small = SMALL * EACH
        until(lambda: int(arena.redis.get(flow_tasks.SMALL) or 0) >= small, "the small ones end")
        return done(arena, "fair")


def holder(arena: Arena) -> float:
    """Return how long a slot is taken after its holder was killed, s."""
    flow_tasks.app.enqueue_many(flow_tasks.hold.call(n) for n in range(2))

    def held() -> int:
        return int(arena.redis.get(flow_tasks.HELD) or 0)

    with consumers(arena, APP, "held", 2, "--grace-period", "0") as running:
        until(lambda: connected(arena, 2) and held() == 1, "one holds the slot")
        time.sleep(2.0)  # whoever leads has seen both
        owner = next(iter(arena.redis.hvals(keys_of("held").claims))).split(b":")[0].decode()
        (killed,) = (one for one in running if f"-{one.pid}-" in owner)
        killed.send_signal(signal.SIGKILL)
        at = time.monotonic()
        return until(lambda: held() == 2, "another one holds it") - at


MEASURES: Final[dict[str, Callable[[Arena], float]]] = {
    "rate": rate,
    "fair": fair,
    "holder": holder,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", default=[*MEASURES])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    if unknown := {*options.what} - MEASURES.keys():
        parser.error(f"no {', '.join(sorted(unknown))} among {', '.join(MEASURES)}")
    with Arena(aof=True) as arena:
        for name in options.what:
            values = []
            for _ in range(options.rounds):
                arena.empty()
                flow_tasks.app.close()
                flow_tasks.app.use(arena.url)  # it declares its limits anew
                values.append(MEASURES[name](arena))
            print(f"{name:<16}{report.spread(sorted(values), 1)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
