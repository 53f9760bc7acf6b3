"""``GET /metrics`` for Prometheus: what Redis says at the instant of the scrape.

No number is kept here, so any server tells the same, and a restart forgets nothing; except which
queues have series of their own, where more came than can have, since the server began.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from headrace import operations as op
from headrace.doctor.places import PLACES
from headrace.errors import StoreError
from headrace.operations import Snapshot
from headrace.partitions.view import sums
from headrace.timings.tally import Tally
from headrace.web.access import may_use_all
from headrace.web.histograms import Choice, Pair, histograms
from headrace.web.reader import SHOWN, Reader
from headrace.web.vitals import Vitals, asked, measured, vitals_of

_WITHIN_S: Final = 3.0  # a scraper waits 10 s by default, and wants to hear that Redis is away

# counter in Redis -> metric (Prometheus adds _total), help
_COUNTERS: Final = {
    "enqueued": ("enqueued", "Jobs accepted; a plain LPUSH is not counted."),
    "done": ("jobs_done", "Jobs that ended well."),
    "retry": ("jobs_retried", "Runs that failed and are tried again."),
    "dead": ("jobs_dead", "Jobs that failed for good and went to the dead letters."),
    "drop": ("jobs_dropped", "Jobs that failed for good, of tasks that keep no dead letters."),
    "cancel": ("jobs_cancelled", "Jobs that were cancelled."),
    "replaced": ("jobs_replaced", "Cancelled jobs whose place a later one with their key took."),
    "park": ("jobs_parked", "Jobs put off because the consumer does not know their task."),
    "hold": ("jobs_held", "Claimed jobs that went into their lanes: a limit let them not run yet."),
    "admitted": ("jobs_admitted", "Jobs let out of their lanes."),
    "release": (
        "jobs_released",
        "Claimed jobs given back unfinished, as when a consumer shuts down.",
    ),
    "reclaimed": (
        "leases_expired",
        "Jobs taken back from consumers that were lost; they run again.",
    ),
    "lost": ("stale_settles", "Ends reported by consumers that had lost the job; nothing changed."),
    "redriven": ("jobs_redriven", "Dead letters put back to run again."),
    "purged": ("jobs_purged", "Dead letters deleted for good."),
    "moved": ("jobs_moved", "Jobs and dead letters moved to another server."),
    "renamed": ("jobs_renamed", "Jobs given a new id because an equal one was there."),
}


REST: Final = "all others"
"""What stands for the queues that are not shown one by one. No queue can be called so."""


class QueueCollector(Collector):
    """Tells one scrape.

    Args:
        snapshots: all queues; None when they could not be read.
        named: which are shown one by one; None all of them.
        up: Redis answers.
        leads: this server does the maintenance.
        forgotten: what queues had counted that are forgotten, by counter.
        vitals: how consumers and Redis are.
        timings: how long jobs wait and run, by queue and task.
    """

    def __init__(
        self,
        snapshots: Sequence[Snapshot] | None,
        *,
        named: Collection[str] | None = None,
        up: bool = True,
        leads: bool,
        forgotten: Mapping[str, int] = MappingProxyType({}),
        vitals: Vitals = Vitals(),  # noqa: B008  it is frozen
        timings: Mapping[Pair, Tally] = MappingProxyType({}),
    ) -> None:
        self._snapshots = snapshots
        self._named = named
        self._up = up
        self._leads = leads
        self._forgotten = forgotten
        self._vitals = vitals
        self._timings = timings

    def collect(self) -> Iterator[Metric]:
        """Return all metrics."""
        yield GaugeMetricFamily("headrace_redis_up", "1: Redis answers; 0: it does not.", self._up)
        yield GaugeMetricFamily(
            "headrace_queues_read",
            "1: all queues were read; 0: Redis is down, or too slow for that.",
            self._snapshots is not None,
        )
        yield GaugeMetricFamily(
            "headrace_maintenance_leader",
            "1: this server promotes due jobs and takes back expired leases; one process does.",
            self._leads,
        )
        if self._snapshots is None:
            return
        yield GaugeMetricFamily("headrace_queues", "Queues that are known.", len(self._snapshots))
        shown, rest = _parted(self._snapshots, self._named)
        yield from _gauges(shown, rest)
        for counter, (name, says) in _COUNTERS.items():
            family = CounterMetricFamily(f"headrace_{name}", says, labels=["queue"])
            for snapshot in shown:
                family.add_metric([snapshot.queue], snapshot.counters.get(counter, 0))
            if rest or self._forgotten:
                others = rest.counters.get(counter, 0) if rest else 0
                family.add_metric([REST], others + self._forgotten.get(counter, 0))
            yield family
        yield from histograms(self._timings)
        yield from measured(self._vitals)


def _parted(
    snapshots: Sequence[Snapshot], named: Collection[str] | None
) -> tuple[list[Snapshot], Snapshot | None]:
    """Return the queues that are shown one by one, and the sum of the others, if there are any."""
    shown = [one for one in snapshots if named is None or one.queue in named]
    rest = [one for one in snapshots if named is not None and one.queue not in named]
    return shown, replace(rest[0], queue=REST, **sums(rest)) if rest else None


def _gauges(snapshots: Sequence[Snapshot], rest: Snapshot | None) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "headrace_jobs", "Jobs by the place where they are now.", labels=["queue", "place"]
    )
    age = GaugeMetricFamily(
        "headrace_oldest_job_age_seconds",
        "How long ago the waiting job at the head was first enqueued; 0: none waits; absent: unknown.",
        labels=["queue"],
    )
    foreign = GaugeMetricFamily(
        "headrace_foreign_jobs",
        "Jobs that plain clients brought (below 0: took). 0 when only Headrace moves jobs.",
        labels=["queue"],
    )
    paused = GaugeMetricFamily(
        "headrace_queue_paused", "1: nothing is claimed from the queue.", labels=["queue"]
    )
    overdue = GaugeMetricFamily(
        "headrace_delayed_overdue_seconds",
        "For how long the next delayed job has been due, and is delayed all the same; 0: none is.",
        labels=["queue"],
    )
    for snapshot in snapshots:
        queue = [snapshot.queue]
        late_ms = snapshot.now_ms - (snapshot.due_at_ms or snapshot.now_ms)
        overdue.add_metric(queue, max(0, late_ms) / 1000)
        for place in PLACES:
            jobs.add_metric([*queue, place], getattr(snapshot, place))
        age_s = snapshot.oldest_s if snapshot.waiting else 0.0
        if age_s is not None:
            age.add_metric(queue, age_s)
        foreign.add_metric(queue, snapshot.foreign)
        paused.add_metric(queue, snapshot.paused)
    if rest:
        for place in PLACES:
            jobs.add_metric([REST, place], getattr(rest, place))
        foreign.add_metric([REST], rest.foreign)
    yield from (jobs, age, overdue, foreign, paused)


class Metrics:
    """The endpoint.

    Up to ``SHOWN`` queues have series of their own. Once there are more, those that were chosen keep
    theirs for as long as this process lives, and so does the sum of the others: a queue that moved
    them would look to Prometheus as if counters had been reset. The first by name are chosen, and not the
    largest of the instant, so that after a restart, and on another server, they are the same.
    """

    def __init__(self, reader: Reader, leads: Callable[[], bool]) -> None:
        self._reader = reader
        self._leads = leads
        self._named: set[str] = set()
        self._left: Counter[str] = (
            Counter()
        )  # counted by queues that had a series and are forgotten
        self._last: dict[str, Mapping[str, int]] = {}  # what those with a series had counted
        self._tasks = Choice()

    async def scrape(self, request: Request) -> Response:
        """Answer a scrape, also when Redis does not."""
        may_use_all(request)
        snapshots: list[Snapshot] | None = None
        forgotten: dict[str, int] = {}
        vitals, timings = Vitals(), dict[str, dict[str, Tally]]()
        try:
            async with asyncio.timeout(_WITHIN_S):
                names = await self._reader.names()
                found = await self._reader.read(names)
                named = sorted(self._chosen(found).intersection(names))
                forgotten, *beside = await self._reader.ask([op.forgotten(), *asked()])
                vitals, timings = vitals_of(*beside), await self._reader.timings(named)
            snapshots = found
            up = True
        except (StoreError, TimeoutError):
            up = not await self._reader.why_down()
        registry = CollectorRegistry()
        shown = QueueCollector(
            snapshots,
            named=self._named,
            up=up,
            leads=self._leads(),
            forgotten=Counter(forgotten) - self._left,
            vitals=vitals,
            timings=self._tasks.part(timings) if snapshots is not None else {},
        )
        registry.register(shown)
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=media_type)

    def _chosen(self, snapshots: Sequence[Snapshot]) -> set[str]:
        """Choose which queues have series of their own: those that had, and the first by name."""
        by_name = {snapshot.queue: snapshot for snapshot in snapshots}
        for name in self._last.keys() - by_name.keys() if snapshots else ():
            self._left.update(self._last.pop(name))
        free = SHOWN - len(self._named)
        if free > 0:
            self._named.update(sorted(by_name.keys() - self._named)[:free])
        self._last |= {name: by_name[name].counters for name in self._named & by_name.keys()}
        return self._named
