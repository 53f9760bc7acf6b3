"""Compares queues: ``python -m benchmarks [--full] [--cases A,B] [--who A,B] [--rounds N] [--json FILE]``.

Every contestant runs once in each round of a case, each in fresh processes, in turn, against one
private server. Machines and their moods differ by more than contestants do, so what counts are the
ratios within a round. Without --full: Headrace and what can be written by hand, in a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.arena import Arena, GaveUp
from benchmarks.cases import CASES, Case, Numbers
from benchmarks.contestants import CONTESTANTS, OURS, Contestant
from benchmarks.environment import Missing, python_of

SHORT = ("drain", "drain-2", "wait-100", "latency", "enqueue", "enqueue-crowd", "enqueue-bulk")


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    who, absent = _present(options.who)
    failures: list[str] = [f"{name}: {why}" for name, why in absent.items()]
    results: dict[str, dict[str, list[Numbers]]] = {}
    with Arena(aof=not options.no_aof) as arena:
        facts = _facts(arena, options)
        print("\n".join(f"{name:<8} {value}" for name, value in facts.items()), flush=True)
        for case in options.cases:
            rounds = 1 if case.once else options.rounds
            results[case.name] = {one.name: [] for one in who if case.takes(one)}
            for contestant in _turns(case, who, rounds):
                try:
                    numbers = case.run(arena, contestant)
                except GaveUp as error:
                    failures.append(f"{case.name}, {contestant.name}: {error}")
                    continue
                results[case.name][contestant.name].append(numbers)
            _quiet()
            print("\n".join(["", *report.table(case, results[case.name])]), flush=True)
            if options.json is not None:
                document = {"facts": facts, "failures": failures, "results": results}
                options.json.write_text(json.dumps(document, indent=1) + "\n")
    for failure in failures:
        print(f"\nleft out: {failure}", file=sys.stderr)
    return (
        1 if any(failure.partition(", ")[2].startswith("headrace") for failure in failures) else 0
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every case and every peer")
    parser.add_argument("--cases", type=_named(CASES), help=", ".join(CASES))
    parser.add_argument("--who", type=_named(CONTESTANTS), help=", ".join(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=5, help="how often each one runs (5)")
    parser.add_argument("--no-aof", action="store_true", help="keep nothing on disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("at least 1 round")
    every: Any = CASES.values() if options.full else [CASES[name] for name in SHORT]
    options.cases = options.cases or list(every)
    options.who = options.who or list(CONTESTANTS.values() if options.full else OURS)
    return options


def _named(table: dict[str, Any]) -> Any:
    def read(text: str) -> list[Any]:
        unknown = [name for name in text.split(",") if name not in table]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r} among {', '.join(table)}")
        return [table[name] for name in text.split(",")]

    return read


def _present(who: Sequence[Contestant]) -> tuple[list[Contestant], dict[str, str]]:
    """Make the environments; tell who can take part, and why the others cannot."""
    present, absent = [], {}
    for contestant in who:
        try:
            python_of(contestant)
        except Missing as why:
            absent[contestant.name] = str(why)
        else:
            present.append(contestant)
    return present, absent


def _turns(case: Case, who: Sequence[Contestant], rounds: int) -> Iterator[Contestant]:
    """Give the contestants in turn; each round begins with another one."""
    taking = [contestant for contestant in who if case.takes(contestant)]
    for number in range(rounds):
        start = number % max(1, len(taking))
        for contestant in (*taking[start:], *taking[:start]):
            if sys.stderr.isatty():
                text = f"{case.name}, round {number + 1}/{rounds}: {contestant.name}"
                print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
            yield contestant


def _quiet() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _facts(arena: Arena, options: argparse.Namespace) -> dict[str, str]:
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "server": f"{arena.engine}, {'no AOF' if options.no_aof else 'AOF, fsync every second'}",
        "rounds": str(options.rounds),
    }


if __name__ == "__main__":
    sys.exit(main())
