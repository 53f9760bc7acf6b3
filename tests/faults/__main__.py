"""``python -m tests.faults``: run fault classes side by side, print a line for each, and the verdict."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import coverage, history
from tests.faults.bench import Bench
from tests.faults.classes import CLASSES, FaultClass
from tests.faults.evidence import Verdict
from tests.faults.nursery import die_with_parent

FULL_MINUTES = 15.0
_LANES = 4  # classes at a time: they mostly wait, for leases
_JOBS = 100_000
_SHOWN = 4  # violations of one kind
_REFUSALS = ("refused READONLY", "refused LOADING")
_HEADER = (
    f"{'class':<38}{'faults':>7}{'jobs':>8}{'lost':>6}{'doubled':>9}{'stuck':>7}{'late':>7}{'stale':>7}"
    f"{'recovery p50':>14}{'p99':>8}{'took':>7}"
)


@dataclass
class Result:
    """What came of one class."""

    name: str
    seed: int
    verdict: Verdict = field(default_factory=Verdict)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    took_s: float = 0.0
    failure: str = ""

    @property
    def good(self) -> bool:
        return not (self.failure or self.verdict.violations)

    def line(self) -> str:
        v = self.verdict
        # Most refusals follow from another fault; where nothing else was done, they are the faults.
        others = sum(
            n
            for (what, _), n in self.faults.items()
            if what != history.BUSY and not what.startswith("refused ")
        )
        events = others or sum(n for (what, _), n in self.faults.items() if what in _REFUSALS)
        return (
            f"{self.name:<38}{events:>7}{v.jobs:>8}{v.lost:>6}{v.doubled:>9}{v.stuck:>7}{v.late:>7}{v.stale:>7}"
            f"{_quantile(v.recoveries_s, 0.5):>14}{_quantile(v.recoveries_s, 0.99):>8}"
            f"{self.took_s:>6.0f}s" + ("" if self.good else "  FAILED")
        )


def _quantile(values: list[float], q: float) -> str:
    return f"{values[int(len(values) * q)]:.2f} s" if values else "-"


def run_one(one: FaultClass, seed: int, scale: float, folder: Path) -> Result:
    """Run one class in this process."""
    result, began = Result(one.name, seed), time.monotonic()
    own_seed = random.Random(f"{seed}:{one.name}").getrandbits(64)
    try:
        with Bench(folder, own_seed, scale=scale, lease=one.lease) as bench:
            result.verdict = one.run(bench)
    except BaseException:
        result.failure = traceback.format_exc()
    result.took_s = time.monotonic() - began
    faults = history.read(folder / "history").faults
    result.faults = Counter((fault.fault, fault.transition) for fault in faults)
    return result


def _fork(one: FaultClass, seed: int, scale: float, folder: Path) -> int:
    """Run one class in a process of its own, forked while we have one thread; gives its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)
        result = run_one(one, seed, scale, folder)
        (folder / "result").write_bytes(pickle.dumps(result))
        os._exit(0)
    return pid


def run_all(
    classes: list[FaultClass], seed: int, scales: dict[str, float], root: Path, *, lanes: int
) -> list[Result]:
    """Run classes in lanes, the dearest first, and print each when it ends."""
    waiting = sorted(classes, key=lambda one: -one.cost_s)
    running: dict[int, FaultClass] = {}
    results = []
    while waiting or running:
        while waiting and len(running) < lanes:
            one = waiting.pop(0)
            folder = root / one.name.replace(" ", "-").replace(",", "")
            folder.mkdir()
            running[_fork(one, seed, scales[one.name], folder)] = one
        pid, _ = os.wait()
        if (ended := running.pop(pid, None)) is None:
            continue
        path = root / ended.name.replace(" ", "-").replace(",", "") / "result"
        result = (
            pickle.loads(path.read_bytes())
            if path.exists()
            else Result(ended.name, seed, failure="its process died")
        )
        print(result.line(), flush=True)
        results.append(result)
    return results


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay the schedule of this seed")
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="about how long")
    parser.add_argument("--only", action="append", metavar="CLASS", help="a part of its name")
    parser.add_argument("--short", action="store_true", help="a minute of it")
    parser.add_argument("--third", action="store_true", help="a third of the classes, by the seed")
    parser.add_argument("--lanes", type=int, default=_LANES, help="classes at a time")
    parser.add_argument("--keep", action="store_true", help="keep what was written")
    args = parser.parse_args()
    seed = secrets.randbits(32) if args.seed is None else args.seed
    classes = [
        one
        for one in CLASSES.values()
        if (not args.short or one.short)
        and (not args.only or any(part.lower() in one.name.lower() for part in args.only))
    ]
    if args.third:
        classes = random.Random(seed).sample(classes, -(-len(classes) // 3))
    if not classes:
        parser.error("no class has such a name; there are: " + ", ".join(CLASSES))
    reasons = {one.name: one.why_not() for one in classes}
    for name, reason in reasons.items():
        if reason:
            print(f"left out: {name}: {reason}")
    classes = [one for one in classes if not reasons[one.name]]
    if not classes:
        parser.error("nothing of that can run here")
    scale = args.minutes / FULL_MINUTES
    scales = {one.name: one.short if args.short else scale for one in classes}
    root = Path(tempfile.mkdtemp(prefix="headrace-faults-"))
    began = time.monotonic()
    print(f"seed {seed}; {len(classes)} classes\n{_HEADER}", flush=True)
    results = run_all(classes, seed, scales, root, lanes=args.lanes)
    passed = _report(results, whole=not (args.short or args.only) and scale >= 1)
    print(f"{time.monotonic() - began:.0f} s; replay with --seed {seed}")
    if args.keep or not passed:
        print(f"everything that was written is in {root}")
    else:
        shutil.rmtree(root)
    print("PASS" if passed else "FAIL")
    return 0 if passed else 1


def _report(results: list[Result], *, whole: bool) -> bool:
    """Print the table and what is wrong; tell whether all is well."""
    counts: Counter[tuple[str, str]] = sum((result.faults for result in results), Counter())
    jobs = sum(result.verdict.jobs for result in results)
    print(
        f"\n{jobs} jobs. Fault × transition; · cannot be, ! too seldom\n"
        f"{coverage.table(counts, coverage.GOAL if whole else 0)}\n"
    )
    for result in results:
        kinds = Counter(violation.invariant for violation in result.verdict.violations)
        for kind, count in kinds.items():
            of_kind = [v for v in result.verdict.violations if v.invariant == kind]
            for violation in of_kind[:_SHOWN]:
                print(f"{result.name}: {violation}")
            if count > _SHOWN:
                print(f"{result.name}: {kind}: … {count} in all")
        if result.failure:
            print(f"{result.name}:\n{result.failure}")
    good = all(result.good for result in results)
    if whole:
        if jobs < _JOBS:
            print(f"coverage: {jobs} jobs; a full run has {_JOBS} or more")
            good = False
        for fault, name in coverage.missing(counts):
            print(f"coverage: {fault} × {name}: {counts[fault, name]} of {coverage.GOAL}")
            good = False
    return good


if __name__ == "__main__":
    sys.exit(main())
