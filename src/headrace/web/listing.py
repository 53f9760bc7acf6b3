"""The first jobs of a queue's places, read in small steps: where jobs are large, fewer of them are shown.

Redis answers a range whole, whatever its jobs weigh. A step of five is 5 MiB at most, and reading
ends when a place has given its bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from headrace import operations as op
from headrace.doctor.places import Place, PlacedJob, holder_of, page
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation
from headrace.reports import progress
from headrace.web.shapes import JobView
from headrace.web.views import job_view, progress_view

MAX_BYTES: Final = 1 << 18  # of one place

_STEP: Final = 5  # jobs
_MOST_STEP: Final = 500  # jobs, when they are small …
_STEP_BYTES: Final = 1 << 20  # … and so many bytes else
_MOST_READ: Final = 16 << 20  # bytes that one search reads
_REMEMBERED: Final = 10_000  # claims

Ask: TypeAlias = Callable[[Sequence[Operation[Any]]], Awaitable[list[Any]]]


@dataclass(slots=True)
class _Listing:
    """What was read of a place so far."""

    k: Keys
    place: Place
    limit: int
    jobs: list[PlacedJob] = field(default_factory=list)
    whole: bool = False

    def next(self) -> Operation[list[PlacedJob]]:
        """Return the operation that reads the next step."""
        start = len(self.jobs)
        return page(self.k, self.place, start, min(_STEP, self.limit - start))

    def take(self, found: list[PlacedJob]) -> None:
        """Take what a step found."""
        self.jobs += found
        read = sum(len(one.job) for one in self.jobs)
        self.whole = len(found) < _STEP or len(self.jobs) >= self.limit or read >= MAX_BYTES


class Lister:
    """Reads the first jobs of places; remembers since when it has seen each claim.

    Redis keeps no instant of a claim: a plain job would pay for it. So how long a job runs is told as
    far as it was seen: at least since then.

    Args:
        ask: runs operations in one round trip.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._seen: dict[tuple[str, str, bytes], int] = {}  # queue, id, token -> ms; oldest first

    async def listed(self, k: Keys, places: Sequence[Place], limit: int) -> list[list[JobView]]:
        """Read the first jobs of places of a queue: who is next, claimed first, due first, died last.

        Args:
            k: the queue's keys.
            places: which.
            limit: at most so many jobs of each.

        Raises:
            StoreError: Redis did not answer, or answered with an error.
        """
        listings = [_Listing(k, place, limit) for place in places]
        while some := [one for one in listings if not one.whole]:
            answers = await self._ask([one.next() for one in some])
            for one, found in zip(some, answers, strict=True):
                one.take(found)
        shown = [[job_view(job, due_ms) for job, due_ms in one.jobs] for one in listings]
        for place, jobs in zip(places, shown, strict=True):
            if place == "processing":
                await self.name_owners(k, jobs)
        return shown

    async def name_owners(self, k: Keys, jobs: list[JobView]) -> None:
        """Note whose claimed jobs are, since when they were seen so, and how far they are.

        Raises:
            StoreError: Redis did not answer, or answered with an error.
        """
        ids = [job["id"] for job in jobs if job["id"] is not None]
        if not ids:
            return
        claims = op.command("HMGET", k.claims, *ids, parse=lambda raw: raw)
        asked = [claims, op.time_ms(), progress.read(k, ids)]
        found, now_ms, told = await self._ask(asked)
        by_id = dict(zip(ids, found, strict=True))
        progress_of = dict(zip(ids, told, strict=True))
        for job in jobs:
            claim = by_id.get(job["id"] or "") or b""
            if consumer := holder_of(claim):  # else nobody's, or leased for a plain client
                token = claim.partition(b" ")[0]
                job["consumer"] = consumer[:200]
                job["progress"] = progress_view(progress_of.get(job["id"] or ""))
                job["seen_at_ms"] = self._since((k.queue, job["id"] or "", token), int(now_ms))

    def _since(self, claim: tuple[str, str, bytes], now_ms: int) -> int:
        since = self._seen.pop(claim, now_ms)
        self._seen[claim] = since
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return since


class Search(NamedTuple):
    """Jobs of a place that fit.

    Attributes:
        jobs: those that do.
        searched: how many were read.
        offset: where to go on, in the place's order; None: there are no more.
    """

    jobs: list[PlacedJob]
    searched: int
    offset: int | None


def search(
    k: Keys, place: Place, fits: Callable[[bytes], bool], *, offset: int, count: int, most: int
) -> Flow[Search]:
    """Read so many jobs of a place that fit, in its order, looking at so many at most.

    Jobs move meanwhile: between two pages one may be seen twice, or passed over.
    """
    found: list[PlacedJob] = []
    start, step, read = offset, _STEP, 0
    while len(found) < count and offset - start < most and read < _MOST_READ:
        asked = min(step, most - (offset - start))
        jobs: list[PlacedJob] = yield page(k, place, offset, asked)
        for one in jobs:
            offset += 1
            read += len(one.job)
            if fits(one.job):
                found.append(one)
            if len(found) == count:
                return Search(found, offset - start, offset)
        if len(jobs) < asked:
            return Search(found, offset - start, None)
        mean = 1 + sum(len(one.job) for one in jobs) // len(jobs)
        step = max(1, min(_MOST_STEP, 4 * step, _STEP_BYTES // mean))
    return Search(found, offset - start, offset)
