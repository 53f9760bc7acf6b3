"""``GET /metrics`` for Prometheus: what Redis says at the instant of the scrape, and nothing else.

No number is kept here, so any server tells the same, and a restart forgets nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import StoreError
from headrace.operations import Snapshot
from headrace.web.reader import PLACES, Reader

_WITHIN_S: Final = 3.0  # a scraper waits 10 s by default, and wants to hear that Redis is away

# counter in Redis -> metric (Prometheus adds _total), help
_COUNTERS: Final = {
    "enqueued": ("enqueued", "Jobs accepted; a plain LPUSH is not counted."),
    "done": ("jobs_done", "Jobs that ended well."),
    "retry": ("jobs_retried", "Runs that failed and are tried again."),
    "dead": ("jobs_dead", "Jobs that failed for good and went to the dead letters."),
    "drop": ("jobs_dropped", "Jobs that failed for good, of tasks that keep no dead letters."),
    "cancel": ("jobs_cancelled", "Jobs that were cancelled."),
    "park": ("jobs_parked", "Jobs put off because the consumer does not know their task."),
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
    "renamed": ("jobs_renamed", "Jobs given a new id because an equal one was there."),
}


class QueueCollector(Collector):
    """Tells one scrape.

    Args:
        snapshots: all queues; None when Redis did not answer.
        leads: this server does the maintenance.
    """

    def __init__(self, snapshots: Sequence[Snapshot] | None, *, leads: bool) -> None:
        self._snapshots = snapshots
        self._leads = leads

    def collect(self) -> Iterator[Metric]:
        """Give all metrics."""
        up = self._snapshots is not None
        yield GaugeMetricFamily("headrace_redis_up", "1: Redis answers; 0: it does not.", up)
        yield GaugeMetricFamily(
            "headrace_maintenance_leader",
            "1: this server promotes due jobs and takes back expired leases; one process does.",
            self._leads,
        )
        if self._snapshots is not None:
            yield from _gauges(self._snapshots)
            for counter, (name, says) in _COUNTERS.items():
                family = CounterMetricFamily(f"headrace_{name}", says, labels=["queue"])
                for snapshot in self._snapshots:
                    family.add_metric([snapshot.queue], snapshot.counters.get(counter, 0))
                yield family


def _gauges(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
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
    for snapshot in snapshots:
        queue = [snapshot.queue]
        for place in PLACES:
            jobs.add_metric([*queue, place], getattr(snapshot, place))
        age_s = snapshot.oldest_s if snapshot.waiting else 0.0
        if age_s is not None:
            age.add_metric(queue, age_s)
        foreign.add_metric(queue, snapshot.foreign)
        paused.add_metric(queue, snapshot.paused)
    yield from (jobs, age, foreign, paused)


class Metrics:
    """The endpoint."""

    def __init__(self, reader: Reader, leads: Callable[[], bool]) -> None:
        self._reader = reader
        self._leads = leads

    async def scrape(self, request: Request) -> Response:
        """Answer a scrape, also when Redis does not."""
        snapshots: list[Snapshot] | None = None
        with suppress(StoreError, TimeoutError):  # headrace_redis_up says it
            async with asyncio.timeout(_WITHIN_S):
                snapshots, _ = await self._reader.read()
        registry = CollectorRegistry()
        registry.register(QueueCollector(snapshots, leads=self._leads()))
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=media_type)
