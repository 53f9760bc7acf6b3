"""What each feature costs: jobs that do nothing, plain and with it, in turn.

    python -m benchmarks.features [--rounds N] [FEATURE…]

One consumer in a process of its own, at its default, works off jobs that wait already. Counted is what
ends between the first job's end and the last one's; what is compared is the share of plain in the same
round. Features are named as their queues: see ``--help``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from benchmarks import feature_tasks as tasks
from benchmarks import report
from benchmarks.arena import Arena
from benchmarks.flow import drained_per_s
from headrace import RESULT, chain, group

JOBS: Final = 30_000
LINKS: Final = 10
PLAIN: Final = "plain"
APP: Final = "benchmarks.feature_tasks:app"


@dataclass(frozen=True)
class Feature:
    """One thing that jobs may have.

    Attributes:
        bring: enqueues so many jobs.
        jobs: how many, so that it takes a second or more.
    """

    bring: Callable[[int], object]
    jobs: int = JOBS


def many(call: Callable[[int], Any], jobs: int) -> None:
    """Enqueue one call for each number."""
    tasks.app.enqueue_many(call(n) for n in range(jobs))


def hand_on(jobs: int) -> None:
    """Let each of half of them hand on another one."""
    many(tasks.hands_on.call, jobs // 2)


def link(jobs: int) -> None:
    """Enqueue chains."""
    for _ in range(jobs // LINKS):
        chain(*(tasks.link.call(n) for n in range(LINKS))).enqueue()


def gather(member: Callable[[int], Any], last: Any, jobs: int) -> None:
    """Enqueue one group, and what follows it."""
    group(member(n) for n in range(jobs - 1)).then(last).enqueue()


def each(call: Callable[[int], Any]) -> Callable[[int], object]:
    """Bring jobs that differ in nothing but a number."""
    return partial(many, call)


FEATURES: Final = {
    PLAIN: Feature(each(tasks.plain.call)),
    "plain-sync": Feature(each(tasks.plain_sync.call)),
    "unique": Feature(each(lambda n: tasks.unique.options(key=f"k{n}").call(n))),
    "delayed": Feature(each(tasks.delayed.options(delay=0.1).call)),
    "priority": Feature(each(lambda n: tasks.priority.options(priority=n % 3).call(n))),
    "expires": Feature(each(tasks.expires.options(expires=600).call)),
    "timeouts": Feature(each(tasks.timeouts.call)),
    "results": Feature(each(tasks.results.call)),
    "progress": Feature(each(tasks.progress.call)),
    "dependencies": Feature(each(tasks.depends.call)),
    "hook": Feature(each(tasks.under_hook.call)),
    "hook-sync": Feature(each(tasks.under_hook_sync.call)),
    "async-hook-sync": Feature(each(tasks.under_async_hook.call), 6_000),
    "events": Feature(each(tasks.told.call)),
    "batches": Feature(each(tasks.batched.call)),
    "hand-off": Feature(hand_on),
    "chain": Feature(link, 10_000),
    "group": Feature(partial(gather, tasks.member.call, tasks.nothing_more.call()), 20_000),
    "chord": Feature(partial(gather, tasks.gives.call, tasks.takes.call(RESULT)), 10_000),
    "concurrency": Feature(each(tasks.capped.call)),
    "rate": Feature(each(tasks.fast.call)),
    "limit-by": Feature(each(lambda n: tasks.keyed.call(n % 100))),
    "fair": Feature(each(lambda n: tasks.turns.call(n % 100))),
    "own-process": Feature(each(tasks.isolated.call), 100),
}


def per_s(arena: Arena, name: str) -> float:
    """Return how many jobs end in a second."""
    feature = FEATURES[name]
    arena.empty()
    tasks.app.close()
    tasks.app.use(arena.url)  # it declares its limits anew
    feature.bring(feature.jobs)
    return drained_per_s(arena, APP, name, feature.jobs)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("features", nargs="*", metavar="FEATURE", help=", ".join(FEATURES))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    if unknown := set(options.features) - set(FEATURES):
        parser.error(f"no {', '.join(sorted(unknown))} among {', '.join(FEATURES)}")
    names = [PLAIN, *(name for name in options.features or FEATURES if name != PLAIN)]
    rates: dict[str, list[float]] = {name: [] for name in names}
    with Arena(aof=True) as arena:
        for _ in range(options.rounds):
            for name in names:
                rates[name].append(per_s(arena, name))
    print(*table(rates), sep="\n")
    return 0


def table(rates: dict[str, list[float]]) -> Iterable[str]:
    """Write it for people: the cheapest first."""
    yield f"{'':<18}{'of plain':>24}{'jobs/s':>36}"
    shares = {
        name: [rate / plain for rate, plain in zip(values, rates[PLAIN], strict=True)]
        for name, values in rates.items()
    }
    for name in sorted(shares, key=lambda name: -median(shares[name])):
        yield f"{name:<18}{report.spread(shares[name]):>24}{report.spread(rates[name], 0):>36}"


if __name__ == "__main__":
    sys.exit(main())
