"""What many queues cost: ``python -m benchmarks.queues [--queues N] [--rounds N] [--json FILE]``.

Each of the queues holds one job, and nobody consumes. Measured is what it takes to look at all of them,
and what a server and its Redis use while nothing happens. Each number comes with its limit, for 10,000
queues on a quiet machine of two cores; the exit code is 1 when one is exceeded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from benchmarks import report
from benchmarks.arena import Arena
from headrace import Headrace

QUEUES: Final = 10_000
WATCHED_S: Final = 20.0
SETTLED_S: Final = 10.0  # the first turn of a new leader looks at each queue once
LIMITS: Final = {
    "headrace info, s": 1.0,
    "GET /metrics, s": 0.5,
    "GET /metrics, kB": 300.0,
    "server at rest, of a core": 0.02,
    "its Redis, of a core": 0.02,
}
_COMMAND: Final = (sys.executable, "-m", "headrace")


def fill(arena: Arena, count: int) -> None:
    arena.empty()
    app = Headrace(arena.url)
    calls = (app.call_with("nothing", (), {}, {"queue": f"queue{n}"}) for n in range(count))
    app.enqueue_many(calls)
    app.close()


@contextlib.contextmanager
def serving(url: str) -> Iterator[tuple[int, str]]:
    """Run a server; gives its process and its address."""
    command = [*_COMMAND, "serve", "--url", url, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "Serving at" in line)
        try:
            yield server.pid, "http://" + line.partition("http://")[2].split()[0]
        finally:
            server.terminate()


def cpu_s(pid: int) -> float:
    """Give the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(arena: Arena) -> dict[str, float]:
    """Measure one round."""
    started = time.perf_counter()
    command = [*_COMMAND, "info", "--url", arena.url]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    numbers = {"headrace info, s": time.perf_counter() - started}
    with serving(arena.url) as (pid, address):
        time.sleep(SETTLED_S)
        started = time.perf_counter()
        with urlopen(f"{address}/metrics") as answer:
            size = len(answer.read())
        numbers["GET /metrics, s"] = time.perf_counter() - started
        numbers["GET /metrics, kB"] = size / 1000
        before, redis_before, since = cpu_s(pid), arena.server_cpu_s(), time.monotonic()
        time.sleep(WATCHED_S)
        took_s = time.monotonic() - since
        numbers["server at rest, of a core"] = (cpu_s(pid) - before) / took_s
        numbers["its Redis, of a core"] = (arena.server_cpu_s() - redis_before) / took_s
    return numbers


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=__doc__)
    parser.add_argument("--queues", type=int, default=QUEUES, help=f"how many ({QUEUES:,})")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    with Arena(aof=True) as arena:
        fill(arena, options.queues)
        rounds = [measured(arena) for _ in range(options.rounds)]
    exceeded = False
    for name, limit in LIMITS.items():
        values = sorted(one[name] for one in rounds)
        over = values[len(values) // 2] > limit
        exceeded |= over
        word = "  EXCEEDED" if over else ""
        print(f"{name:<28}{report.spread(values, 3):<24} limit {limit:g}{word}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
