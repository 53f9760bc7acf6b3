"""Statistics: what became of a queue's jobs lately, minute by minute, and how long they waited and ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypedDict

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from headrace.app import Headrace
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.timings import tally
from headrace.timings.recent import recent
from headrace.timings.requests import KEPT_MIN
from headrace.timings.tally import Histogram, Tally
from headrace.web.answers import answer
from headrace.web.api.asked import number_of, queue_of
from headrace.web.openapi import Endpoint
from headrace.web.reader import Reader
from headrace.web.shapes import QueueName

_DEFAULT_MIN: Final = 60

Minutes = Annotated[int, Meta(ge=1, le=KEPT_MIN)]
Seconds = Annotated[
    float | None,
    Meta(description="Seconds, as exact as the buckets; null: nothing was measured."),
]


class Quantiles(TypedDict):
    """How long something took, of all that was measured."""

    count: Annotated[int, Meta(description="How often it was measured.")]
    mean_s: Seconds
    p50_s: Seconds
    p95_s: Seconds
    p99_s: Seconds


class Ends(TypedDict):
    """What became of jobs, and how long they waited and ran."""

    runs: int
    done: int
    retried: Annotated[int, Meta(description="Failed, and tried again.")]
    dead: Annotated[int, Meta(description="Failed for good, also where no letter is kept.")]
    cancelled: int
    wait: Annotated[Quantiles, Meta(description="Of first runs, from when a job could have run.")]
    run: Annotated[Quantiles, Meta(description="Of all runs.")]


class Minute(TypedDict):
    """What became of jobs in a minute."""

    at_ms: Annotated[int, Meta(description="When it began, ms since 1970 by Redis' clock.")]
    runs: int
    done: int
    retried: int
    dead: int
    cancelled: int
    wait_s: Annotated[float, Meta(description="Waited in sum, seconds.")]
    run_s: Annotated[
        float, Meta(description="Run in sum, seconds: slots that were busy, times 60.")
    ]


class Statistics(TypedDict):
    """What became of a queue's jobs lately. Consumers tell every ten seconds."""

    queue: str
    partitions: Annotated[int, Meta(description="How many the queue has.")]
    partitions_read: Annotated[
        int,
        Meta(
            description="So many of them are summed up here, the first: a day of all may be too much. "
            "Ask for fewer minutes to have more."
        ),
    ]
    now_ms: int
    overall: Ends
    tasks: Annotated[
        dict[str, Ends],
        Meta(description="By task; of whole tens of minutes, so of up to ten minutes more."),
    ]
    minutes: Annotated[list[Minute], Meta(description="The oldest first; the last is under way.")]


class StatisticsOf:
    """The endpoint of statistics.

    Args:
        headrace: the application.
        store: the Redis.
        reader: knows which queues are divided.
    """

    def __init__(self, headrace: Headrace, store: AsyncStore, reader: Reader) -> None:
        self._headrace = headrace
        self._store = store
        self._reader = reader

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        asked = ("queue", QueueName, self._headrace.queue), ("minutes", Minutes, _DEFAULT_MIN)
        return [
            Endpoint(
                path="/statistics", handle=self.statistics, parameters=asked,
                says="Tell what became of a queue's jobs in the last minutes, and how long they waited and ran.",
                answers=(Statistics,), errors=(400, 503),
            ),
        ]  # fmt: skip

    async def statistics(self, request: Request) -> Response:
        """Tell what became of a queue's jobs lately."""
        queue = queue_of(request, self._headrace.queue)
        minutes = number_of(request, "minutes", _DEFAULT_MIN, KEPT_MIN)
        await self._reader.names()
        parts = [keys_of(part) for part in self._reader.parts(queue)]
        found = await self._store.follow(recent(parts, minutes))
        return answer(
            Statistics(
                queue=queue,
                partitions=len(parts),
                partitions_read=found.queues,
                now_ms=found.now_ms,
                overall=_ends(tally.total(found.minutes.values())),
                tasks={task: _ends(counts) for task, counts in found.tasks.items()},
                minutes=[_minute(at_ms, counts) for at_ms, counts in found.minutes.items()],
            )
        )


def _minute(at_ms: int, counts: Tally) -> Minute:
    return Minute(
        at_ms=at_ms,
        runs=counts[tally.RUNS],
        done=counts[tally.DONE],
        retried=counts[tally.RETRIED],
        dead=counts[tally.DEAD],
        cancelled=counts[tally.CANCELLED],
        wait_s=tally.waits(counts).sum_s,
        run_s=tally.run_times(counts).sum_s,
    )


def _ends(counts: Tally) -> Ends:
    return Ends(
        runs=counts[tally.RUNS],
        done=counts[tally.DONE],
        retried=counts[tally.RETRIED],
        dead=counts[tally.DEAD],
        cancelled=counts[tally.CANCELLED],
        wait=_quantiles(tally.waits(counts)),
        run=_quantiles(tally.run_times(counts)),
    )


def _quantiles(one: Histogram) -> Quantiles:
    at: Callable[[float], float | None] = one.quantile
    mean_s = one.sum_s / one.count if one.count else None
    return Quantiles(count=one.count, mean_s=mean_s, p50_s=at(0.5), p95_s=at(0.95), p99_s=at(0.99))
