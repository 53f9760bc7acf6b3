"""What became of jobs lately, as pages show it: charts by the minute, and wait and run times by task.

The numbers are those that consumers tell in sum (see ``headrace.timings``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from starlette.requests import Request

from headrace.keys import Keys
from headrace.store import AsyncStore
from headrace.timings import tally
from headrace.timings.recent import Kept, Recent, recent, recent_by_ten
from headrace.timings.requests import STEP_MIN
from headrace.timings.tally import BOUNDS_S, Histogram, Tally
from headrace.web.filters import clock, lasting
from headrace.web.pages import charts
from headrace.web.pages.charts import Column, Part, Plot
from headrace.web.problems import Refusal

SPANS: Final[Mapping[int, tuple[str, int]]] = {60: ("1 h", 1), 360: ("6 h", 10), 1440: ("24 h", 20)}
"""How many minutes can be looked at: what that is called, and how many of them are one column."""

MOST_READ: Final = 20
"""So many queues, or partitions of one, are read for a page, some hundredths of a second for most.

Of a day of very many tasks it is tenths of a second, in which others are served, and of fewer queues (see
``timings.recent.MOST_PLACES``)."""

_USUAL_MIN: Final = 60
_MINUTE_MS: Final = 60_000
_LEAST_S: Final = 0.001  # where the scale of lengths of time begins …
_RANGE: Final = math.log10(BOUNDS_S[-1] / _LEAST_S)  # … and how many powers of ten it has

_WRITTEN: Final = ((0.01, "10 ms"), (1.0, "1 s"), (60.0, "1 min"), (3600.0, "1 h"))


class Slice(NamedTuple):
    """What became of jobs in a minute, or in so many."""

    at_ms: int
    counts: Tally
    is_whole: bool

    @property
    def done(self) -> int:
        """How many jobs were done."""
        return self.counts[tally.DONE]

    @property
    def retried(self) -> int:
        """How many failed, and are tried again."""
        return self.counts[tally.RETRIED]

    @property
    def dead(self) -> int:
        """How many failed for good."""
        return self.counts[tally.DEAD]

    @property
    def cancelled(self) -> int:
        """How many were cancelled."""
        return self.counts[tally.CANCELLED]

    @property
    def wait(self) -> Range | None:
        """How long those waited that ran for the first time; None: none did."""
        return range_of(tally.waits(self.counts))


class Chart(NamedTuple):
    """One chart.

    Attributes:
        name: of it, for ids.
        title: what it shows.
        unit: what is measured upwards.
        legend: what each kind of bar is, and what they come to.
        says: the whole, for those who do not see it.
        plot: what is drawn.
    """

    name: str
    title: str
    unit: str
    legend: tuple[tuple[str, str], ...]
    says: str
    plot: Plot


class Range(NamedTuple):
    """How long something took: half, 95 % and 99 % of the times at most so many seconds."""

    p50: float
    p95: float
    p99: float

    @property
    def places(self) -> tuple[float, float, float]:
        """Where they are on a scale of powers of ten, percent."""
        return place_of(self.p50), place_of(self.p95), place_of(self.p99)


class TaskRow(NamedTuple):
    """What the jobs of a task came to; None: nothing was measured."""

    task: str
    runs: int
    retried: int
    dead: int
    wait: Range | None
    run: Range | None


class Lately(NamedTuple):
    """What became of jobs lately.

    Attributes:
        minutes: in so many minutes.
        step_min: so many of which are one column.
        told: whether consumers have told of anything, ever.
        slices: the numbers of the columns, the oldest first.
        charts: the charts.
        tasks: the busiest first.
        tasks_from_ms: since when the tasks are counted, ms since 1970.
        spans: what else can be looked at, see ``SPANS``.
        scale: of lengths of time: what is written where, percent.
        queues: so many queues, or partitions, were read.
    """

    minutes: int
    step_min: int
    told: bool
    slices: Sequence[Slice]
    charts: Sequence[Chart]
    tasks: Sequence[TaskRow]
    tasks_from_ms: int
    spans: Mapping[int, tuple[str, int]]
    scale: Sequence[tuple[float, str]]
    queues: int


def span_of(request: Request) -> int:
    """Return how many minutes are asked for.

    Raises:
        Refusal: so many are not offered.
    """
    asked = request.query_params.get("minutes", str(_USUAL_MIN))
    found = next((one for one in SPANS if str(one) == asked), None)
    if found is None:
        offered = ", ".join(map(str, SPANS))
        raise Refusal("invalid", f"minutes={asked} is not offered: use one of {offered}")
    return found


def some_of(parts: Sequence[Keys], read: Lately | None) -> str:
    """Say that of a queue with very many partitions some were read; "" of any other."""
    if read is None or read.queues == len(parts):
        return ""
    return f", {read.queues} of its {len(parts):,} partitions"


async def lately(store: AsyncStore, queues: Sequence[Keys], minutes: int, *, kept: Kept) -> Lately:
    """Read what became of the jobs of these queues, as of one; of the first ``MOST_READ`` of them.

    Args:
        store: the Redis.
        queues: they.
        minutes: one of ``SPANS``.
        kept: what earlier pages have read of it.

    Raises:
        StoreError: Redis did not answer, or answered with an error.
    """
    some = queues[:MOST_READ]
    by_minute = SPANS[minutes][1] < STEP_MIN
    flow = recent(some, minutes) if by_minute else recent_by_ten(some, minutes, kept)
    return shown(await store.follow(flow), minutes)


def shown(found: Recent, minutes: int) -> Lately:
    """Draw what became of jobs."""
    step_min = SPANS[minutes][1]
    slices = slices_of(found, step_min)
    return Lately(
        minutes, step_min, found.told, slices,
        (_done(slices, step_min), _failed(slices, step_min), _waited(slices, step_min)),
        sorted((_row(*one) for one in found.tasks.items()), key=lambda row: (-row.runs, row.task)),
        found.tasks_from_ms, SPANS, [(place_of(at_s), says) for at_s, says in _WRITTEN],
        found.queues,
    )  # fmt: skip


def slices_of(found: Recent, step_min: int) -> list[Slice]:
    """Sum minutes up to whole steps of the clock; of the first step only a part may be there: then it is not shown."""
    step_ms, each_min = step_min * _MINUTE_MS, 1 if step_min < STEP_MIN else STEP_MIN
    steps: dict[int, list[Tally]] = {}
    for at_ms, counts in found.minutes.items():
        steps.setdefault(at_ms // step_ms * step_ms, []).append(counts)
    first, last = min(steps), found.now_ms // step_ms * step_ms
    if len(steps[first]) * each_min < step_min and first != last:
        del steps[first]
    return [Slice(at_ms, tally.total(some), at_ms != last) for at_ms, some in steps.items()]


def _done(slices: Sequence[Slice], step_min: int) -> Chart:
    columns = [
        Column(one.at_ms, (Part("done", one.done),), f"{_at(one)}: {one.done:,} done", one.is_whole)
        for one in slices
    ]  # fmt: skip
    total = sum(one.done for one in slices)
    says = f"Jobs done, {_by(step_min)}: {total:,} in all{_most(columns)}."
    legend = (("done", f"{total:,} in all"),)
    return Chart("done", "Done", _unit(step_min), legend, says, charts.counted(columns, step_min))


def _failed(slices: Sequence[Slice], step_min: int) -> Chart:
    columns = [
        Column(
            one.at_ms, (Part("dead", one.dead), Part("retried", one.retried)),
            f"{_at(one)}: {one.dead:,} failed for good, {one.retried:,} to be tried again", one.is_whole,
        )
        for one in slices
    ]  # fmt: skip
    dead, again = sum(one.dead for one in slices), sum(one.retried for one in slices)
    says = f"Failures, {_by(step_min)}: {dead:,} for good, {again:,} to be tried again{_most(columns)}."
    legend = (("dead", f"{dead:,} for good"), ("retried", f"{again:,} to be tried again"))
    plot = charts.counted(columns, step_min)
    return Chart("failed", "Failed", _unit(step_min), legend, says, plot)


def _waited(slices: Sequence[Slice], step_min: int) -> Chart:
    columns = [
        Column(one.at_ms, (), "", one.is_whole)
        if times is None
        else Column(
            one.at_ms, (Part("half", times.p50), Part("most", times.p95 - times.p50)),
            f"{_at(one)}: half of the jobs within {lasting(times.p50)}, 95 % within {lasting(times.p95)}",
            one.is_whole,
        )
        for one in slices
        for times in [one.wait]
    ]  # fmt: skip
    whole = range_of(tally.waits(tally.total(one.counts for one in slices)))
    legend = (("half", "half of the jobs"), ("most", "95 % of them"))
    says = f"How long jobs waited before their first run, {_by(step_min)}: nothing was measured."
    if whole is not None:
        half, most = lasting(whole.p50), lasting(whole.p95)
        says = says.replace("nothing was measured", f"half within {half}, 95 % within {most}")
        legend = (("half", f"half within {half}"), ("most", f"95 % within {most}"))
    return Chart(
        "waited", "Waited", "before the first run", legend, says, charts.lasting(columns, step_min)
    )


def _row(task: str, counts: Tally) -> TaskRow:
    return TaskRow(
        task, counts[tally.RUNS], counts[tally.RETRIED], counts[tally.DEAD],
        range_of(tally.waits(counts)), range_of(tally.run_times(counts)),
    )  # fmt: skip


def range_of(one: Histogram) -> Range | None:
    """Return how long something took; None of nothing."""
    p50, p95, p99 = one.quantile(0.5), one.quantile(0.95), one.quantile(0.99)
    return None if p50 is None or p95 is None or p99 is None else Range(p50, p95, p99)


def place_of(seconds: float) -> float:
    """Return where a length of time is on a scale of powers of ten, percent."""
    share = math.log10(max(seconds, _LEAST_S) / _LEAST_S) / _RANGE
    return round(100 * min(1.0, share), 1)


def _unit(step_min: int) -> str:
    return "jobs each minute" if step_min == 1 else f"jobs each {step_min} min"


def _by(step_min: int) -> str:
    return "by the minute" if step_min == 1 else f"by {step_min} minutes"


def _at(one: Slice) -> str:
    return clock(one.at_ms) + ("" if one.is_whole else ", not over yet")


def _most(columns: Sequence[Column]) -> str:
    """Say which column is the tallest."""
    most = max(columns, key=lambda one: one.total, default=None)
    if most is None or not most.total:
        return ""
    return f"; most at {clock(most.at_ms)} UTC, {most.total:,.0f}"
