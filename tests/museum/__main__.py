"""Prints what finds each exhibit: ``python -m tests.museum [--seeds 10000] [--first 0] [WORD…]``."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.museum import in_redis, in_the_consumer
from tests.museum.find import find


def main() -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":  # as in tests.simulation
        command = [sys.executable, "-m", "tests.museum", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(prog="python -m tests.museum", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="at most")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("words", nargs="*", help="only exhibits whose names have one of these")
    options = parser.parse_args()
    for exhibit in (*in_redis.EXHIBITS, *in_the_consumer.EXHIBITS, in_the_consumer.HARMLESS):
        if options.words and not any(word in exhibit.name for word in options.words):
            continue
        started = time.process_time()
        found = find(exhibit, range(options.first, options.first + options.seeds))
        took_s = time.process_time() - started
        what = f"{found.seeds:,} seeds: {found.outcome.violations[0]}" if found else "not found"
        print(f"{exhibit.name:<58} {took_s:6.1f} s  {what}", flush=True)


if __name__ == "__main__":
    main()
