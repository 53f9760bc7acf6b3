"""How long jobs wait and run, as Prometheus takes it: a histogram for each queue and task, so many and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily

from headrace.timings import tally
from headrace.timings.recorder import OTHERS
from headrace.timings.tally import Histogram, Tally

MOST: Final = 200
"""So many tasks have series of their own, about 40 each; of the others there is a sum for each queue."""

Pair: TypeAlias = tuple[str, str]
"""A queue, and a task of it."""


class Choice:
    """Which tasks have series of their own: once chosen, for as long as this process lives.

    A task that moved between its own series and the sum would look to Prometheus as if counters had been
    reset, so it stays where it was seen first. The first by name are chosen, so that a process that begins
    anew, or another one, chooses the same of the same tasks; of those that came since it may choose others.
    """

    def __init__(self) -> None:
        self._named: set[Pair] = set()
        self._others: set[Pair] = set()

    def part(self, tallies: Mapping[str, Mapping[str, Tally]]) -> dict[Pair, Tally]:
        """Return what is shown of tallies by queue and task: those that are chosen, and the sums."""
        seen = {(queue, task) for queue, tasks in tallies.items() for task in tasks}
        self._named &= seen  # of a queue that is forgotten nothing is left
        self._others &= seen
        new = {p for p in seen if p[1] != OTHERS} - self._named - self._others
        self._named.update(sorted(new)[: MOST - len(self._named)])
        self._others |= new - self._named
        shown: dict[Pair, Tally] = {}
        for queue, tasks in tallies.items():
            shown |= {(queue, t): one for t, one in tasks.items() if (queue, t) in self._named}
            if rest := [one for t, one in tasks.items() if (queue, t) not in self._named]:
                shown[queue, OTHERS] = tally.total(rest)
        return shown


def histograms(shown: Mapping[Pair, Tally]) -> Iterator[Metric]:
    """Return the metrics of what is shown."""
    labels = ["queue", "task"]
    waited = HistogramMetricFamily(
        "headrace_job_wait_seconds",
        "From the enqueue, or from when it was due, to the begin of a job's first run.",
        labels=labels,
    )
    ran = HistogramMetricFamily(
        "headrace_job_run_seconds", "How long runs of jobs took, however they ended.", labels=labels
    )
    for pair, counts in sorted(shown.items()):
        _add(waited, pair, tally.waits(counts))
        _add(ran, pair, tally.run_times(counts))
    yield from (waited, ran)


def _add(family: HistogramMetricFamily, pair: Pair, one: Histogram) -> None:
    *bounded, (_, count) = one.cumulated()
    buckets = [*((str(bound), float(n)) for bound, n in bounded), ("+Inf", float(count))]
    family.add_metric([*pair], buckets, one.sum_s)
