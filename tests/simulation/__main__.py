"""Runs seeds: ``python -m tests.simulation --seeds 1000``, or one again: ``--seed 17 -v``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

from tests.simulation.faults import KINDS
from tests.simulation.flows import real_flows
from tests.simulation.run import PLAIN, Outcome, run_seed, simulated
from tests.simulation.server import spelled

TRACE_LINES = 40


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts have an order that it decides
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("-v", "--verbose", action="store_true", help="with its whole trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--flows", action="store_true", help="what is beside the core, on real scripts"
    )
    parser.add_argument("--keep-going", action="store_true", help="beyond the first failure")
    options = parser.parse_args()
    if options.seed is not None:
        _prepare(options.flows)
        outcome = _one(options.seed, keep=True)
        show(outcome, whole=options.verbose, flows=options.flows)
        return 1 if outcome.violations else 0
    return run_many(options)


def run_many(options: argparse.Namespace) -> int:
    started, outcomes, failed = time.monotonic(), [], 0
    seeds = range(options.first, options.first + options.seeds)
    faults: Counter[str] = Counter()
    with multiprocessing.Pool(options.jobs, _prepare, (options.flows,)) as pool:
        for outcome in pool.imap_unordered(_one, seeds, chunksize=20):
            outcomes.append(outcome)
            faults += outcome.faults
            if outcome.violations:
                failed += 1
                show(outcome, whole=False, flows=options.flows)
                if not options.keep_going:
                    pool.terminate()
                    break
    took_s = time.monotonic() - started
    print(f"{'fault':<18}{'injected':>10}")
    for kind in KINDS:
        print(f"{kind:<18}{faults[kind]:>10,}")
    jobs, runs = sum(o.jobs for o in outcomes), sum(o.runs for o in outcomes)
    hours = sum(o.seconds for o in outcomes) / 3600
    print(
        f"\n{len(outcomes):,} seeds in {took_s:.1f} s: {60 * len(outcomes) / took_s:,.0f} a minute; "
        f"{hours:,.1f} virtual hours, {jobs:,} jobs, {runs:,} runs; {failed} failed"
    )
    return 1 if failed else 0


_for_good = ExitStack()


_parts = PLAIN


def _prepare(flows: bool) -> None:
    """Prepare a process: until it ends."""
    global _parts
    if flows:
        _parts = _for_good.enter_context(real_flows())
    _for_good.enter_context(simulated())


def _one(seed: int, *, keep: bool = False) -> Outcome:
    outcome = run_seed(seed, parts=_parts)
    outcome.trace = outcome.trace if keep or outcome.violations else []
    return outcome


def line(event: tuple[Any, ...]) -> str:
    return f"{event[0]:>11.4f}  {event[1]:<10} {' '.join(map(spelled, event[2:]))}"


def show(outcome: Outcome, *, whole: bool, flows: bool) -> None:
    for event in outcome.trace if whole else outcome.trace[-TRACE_LINES:]:
        print(line(event))
    for violation in outcome.violations:
        print(f"seed {outcome.seed}: {violation}")
    if outcome.violations:
        option = "--flows " if flows else ""
        print(f"again: python -m tests.simulation {option}--seed {outcome.seed} -v\n")
    else:
        print(f"seed {outcome.seed}: nothing wrong; {dict(outcome.faults)}")


if __name__ == "__main__":
    sys.exit(main())
