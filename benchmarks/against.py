"""What a change costs or gains: jobs that do nothing, worked off by this checkout and by another one, in turn.

    git worktree add ../before COMMIT && python -m benchmarks.against ../before [--rounds N]

One consumer in a process of its own, at its default, works off jobs that wait already, which this checkout
has enqueued. Whoever is first changes with each round; what is compared is two runs of the same round.
Rounds differ by a tenth and more on a machine that is shared: 50 of them show two percent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks import against_tasks as tasks
from benchmarks.arena import Arena
from benchmarks.environment import ROOT
from benchmarks.flow import drained_per_s

JOBS: Final = 30_000
_FIRST: Final = 2_000  # jobs in which a process warms up
APP: Final = "benchmarks.against_tasks:app"
CALLS: Final = {"async": tasks.nothing_async.call, "sync": tasks.nothing_sync.call}


def per_s(arena: Arena, form: str, checkout: Path) -> float:
    """Return how many jobs end in a second."""
    arena.empty()
    tasks.app.close()
    tasks.app.use(arena.url)
    tasks.app.enqueue_many(CALLS[form]() for _ in range(JOBS))
    return drained_per_s(arena, APP, form, JOBS, first=_FIRST, source=checkout / "src")


def table(form: str, ours: Sequence[float], theirs: Sequence[float]) -> Iterable[str]:
    """Write what one form of task gave."""
    low, middle, high = quantiles([a / b for a, b in zip(ours, theirs, strict=True)])
    yield f"{form:<8}{median(ours):>12,.0f}{median(theirs):>12,.0f}{middle:>10.3f} ({low:.3f} to {high:.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkout", type=Path, help="where the other one is")
    parser.add_argument("--rounds", type=int, default=20, help="two or more")
    options = parser.parse_args(argv)
    other = options.checkout.resolve()
    if not (other / "src/headrace").is_dir():
        parser.error(f"{other} is no checkout: it has no src/headrace")
    if options.rounds < 2:
        parser.error("--rounds: two or more, for the quartiles")
    rates: dict[str, dict[Path, list[float]]] = {form: {ROOT: [], other: []} for form in CALLS}
    with Arena(aof=True) as arena:
        for number in range(options.rounds):
            for form, of in rates.items():
                for checkout in (ROOT, other) if number % 2 else (other, ROOT):
                    of[checkout].append(per_s(arena, form, checkout))
    print(f"{'jobs/s':<8}{'here':>12}{'there':>12}{'here / there, median (quartiles)':>36}")
    for form, of in rates.items():
        print(*table(form, of[ROOT], of[other]), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
