"""How many jobs a second, beside what the same machine can do without a job queue.

    python -m benchmarks.throughput [--rounds N] [--jobs N] [--no-aof] [--json FILE]

Every contestant runs once in each round, in a fresh process, against one private server. Machines
and their moods differ by more than contestants do, so what counts are the ratios within a round.
Exits with 1 if a job got lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks import contestants, report
from benchmarks.report import Result, Round
from benchmarks.stopwatch import Measured
from headrace.embedded import EmbeddedServer
from headrace.keys import keys_of
from headrace.settings import DEFAULT_QUEUE

K = keys_of(DEFAULT_QUEUE)

LONGEST_S = 120  # for one contestant: whoever takes longer does not end

# One round trip or two for each job: a part of the jobs takes as long as all of them elsewhere.
PART = {"hand loop": 8, "LPUSH": 8, "enqueue": 8}


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        # A server of our own: it is emptied again and again.
        args = ("--appendonly", "no") if options.no_aof else ()
        with EmbeddedServer.start(
            Path(folder) / "data", port=0, extra_args=args, die_with_parent=True
        ) as server:
            facts = _facts(server, options)
            print(
                "\n".join(f"{name:<8} {value}" for name, value in facts.items()), "\n", flush=True
            )
            rounds = _rounds(server.url, options)
    print(report.text(rounds))
    if options.json is not None:
        options.json.write_text(json.dumps(_document(facts, rounds), indent=1) + "\n")
    lost = sum(result.lost for a_round in rounds for result in a_round.values())
    if lost:
        print(f"{lost} jobs got lost.", file=sys.stderr)
    return 1 if lost else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each one runs (7)")
    parser.add_argument("--jobs", type=int, default=40_000, help="jobs for each run (40000)")
    parser.add_argument("--no-aof", action="store_true", help="keep nothing on disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.jobs < 1_000:
        parser.error("at least 1 round, and 1000 jobs")
    return options


def _rounds(url: str, options: argparse.Namespace) -> list[Round]:
    rounds: list[Round] = []
    for number in range(options.rounds):
        a_round: Round = {}
        for name in contestants.CONSUMING | contestants.ENQUEUING:
            if sys.stderr.isatty():
                print(
                    f"\r\033[Kround {number + 1}/{options.rounds}: {name}", end="", file=sys.stderr
                )
            a_round[name] = _run(name, url, options.jobs // PART.get(name, 1))
        rounds.append(a_round)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return rounds


def _run(name: str, url: str, jobs: int) -> Result:
    """Let one contestant run on a server that holds its jobs, and nothing else."""
    consumes = name in contestants.CONSUMING
    with Redis.from_url(url) as redis:
        _empty(redis)
        if consumes:
            _fill(url, jobs)
        before_s = _server_cpu_s(redis)
        measured = _measure(name, url, jobs)
        server_s = _server_cpu_s(redis) - before_s
        confirmed = _ended(redis, name, jobs) if consumes else redis.llen(K.pending)
    return Result(
        jobs=confirmed,
        lost=max(jobs, measured.jobs) - confirmed,
        per_s=confirmed / measured.seconds,
        cpu_us=measured.cpu_s / jobs * 1e6,
        server_us=server_s / jobs * 1e6,
    )


def _measure(name: str, url: str, jobs: int) -> Measured:
    command = [sys.executable, "-m", "benchmarks.contestants", name, url, str(jobs)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        sys.exit(f"{name!r} did not end within {LONGEST_S} s:\n{(error.stderr or b'').decode()}")
    if done.returncode:
        sys.exit(f"{name!r} ended with {done.returncode}:\n{done.stderr}")
    return Measured(**json.loads(done.stdout))


def _empty(redis: Any) -> None:
    redis.flushall()
    if redis.config_get("appendonly")["appendonly"] == "yes":
        # A rewrite now, of nothing, so that none is due while somebody is measured.
        redis.bgrewriteaof()
        while any(
            redis.info("persistence")[f"aof_rewrite_{state}"]
            for state in ("in_progress", "scheduled")
        ):
            time.sleep(0.01)


def _fill(url: str, jobs: int) -> None:
    app = contestants.application(url, is_async=False)
    task = app.find_task("nothing")
    app.enqueue_many(task.call(*contestants.ARGS) for _ in range(jobs))
    app.close()


def _ended(redis: Any, name: str, jobs: int) -> int:
    """Count what Redis confirms as done: its counter, or for plain commands what is not there."""
    places = redis.llen(K.pending) + redis.llen(K.processing) + redis.llen(K.dead)
    places += redis.zcard(K.delayed) + redis.zcard(K.priority) + redis.hlen(K.claims)
    done = jobs if name == "hand loop" else int(redis.hget(K.stats, "done") or 0)
    return done - places


def _server_cpu_s(redis: Any) -> float:
    used = redis.info("cpu")
    return used["used_cpu_user"] + used["used_cpu_sys"]


def _facts(server: EmbeddedServer, options: argparse.Namespace) -> dict[str, str]:
    call = contestants.application(server.url, is_async=False).call("nothing", *contestants.ARGS)
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "server": f"{server.engine}, {'no AOF' if options.no_aof else 'AOF, fsync every second'}",
        "jobs": f"{options.jobs:,} of {len(call.job)} bytes that do nothing",
    }


def _document(facts: dict[str, str], rounds: Sequence[Round]) -> dict[str, Any]:
    return {
        "facts": facts,
        "ratios": [dataclasses.asdict(ratio) for ratio in report.ratios(rounds)],
        "rounds": [
            {name: dataclasses.asdict(result) for name, result in a_round.items()}
            for a_round in rounds
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
