"""The first jobs of a queue's places, read in small steps: where jobs are large, fewer of them are shown.

Redis answers a range whole, whatever its jobs weigh. A step of five is 5 MiB at most, and reading
ends when a place has given its bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from headrace import operations as op
from headrace.doctor.places import Place
from headrace.keys import Keys
from headrace.operations import Operation
from headrace.web.shapes import JobView
from headrace.web.views import job_view

MAX_BYTES: Final = 1 << 18  # of one place

_STEP: Final = 5  # jobs
_REMEMBERED: Final = 10_000  # claims

Ask: TypeAlias = Callable[[Sequence[Operation[Any]]], Awaitable[list[Any]]]


@dataclass(slots=True)
class _Stretch:
    """What was read of a place so far."""

    place: Place
    key: str
    jobs: list[bytes] = field(default_factory=list)
    due_ms: list[int] = field(default_factory=list)
    whole: bool = False

    def next(self, limit: int) -> Operation[list[Any]]:
        """Return the operation that reads the next step."""
        start = len(self.jobs)
        stop = min(start + _STEP, limit) - 1
        if self.place == "dead":  # who died last is on the left
            return op.peek(self.key, start, stop)
        if self.place == "delayed":
            args = ("ZRANGE", self.key, start, stop, "WITHSCORES")
            return op.command(*args, parse=lambda raw: raw)
        if self.place == "priority":
            return op.peek_sorted(self.key, start, stop)
        return op.peek(self.key, -stop - 1, -start - 1)  # who is next, or was claimed first: right

    def take(self, found: list[bytes], limit: int) -> None:
        """Take what a step found."""
        if self.place == "delayed":
            self.due_ms += [int(min(max(0.0, float(score)), 1 << 52)) for score in found[1::2]]
            found = found[::2]
        self.jobs += found if self.place in {"dead", "delayed", "priority"} else found[::-1]
        read = sum(map(len, self.jobs))
        self.whole = len(found) < _STEP or len(self.jobs) >= limit or read >= MAX_BYTES


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
        stretches = [_Stretch(place, getattr(k, place)) for place in places]
        while some := [one for one in stretches if not one.whole]:
            answers = await self._ask([one.next(limit) for one in some])
            for one, found in zip(some, answers, strict=True):
                one.take(found, limit)
        shown = [[job_view(job) for job in one.jobs] for one in stretches]
        for one, jobs in zip(stretches, shown, strict=True):
            for job, due_ms in zip(jobs, one.due_ms, strict=False):
                job["due_at_ms"] = due_ms
            if one.place == "processing":
                await self._name_owners(k, jobs)
        return shown

    async def _name_owners(self, k: Keys, jobs: list[JobView]) -> None:
        """Note whose claimed jobs are, and since when they were seen so."""
        ids = [job["id"] for job in jobs if job["id"] is not None]
        if not ids:
            return
        claims = op.command("HMGET", k.claims, *ids, parse=lambda raw: raw)
        time = op.command("TIME", parse=lambda raw: int(raw[0]) * 1000 + int(raw[1]) // 1000)
        found, now_ms = await self._ask([claims, time])
        by_id = dict(zip(ids, found, strict=True))
        for job in jobs:
            token = (by_id.get(job["id"] or "") or b"").partition(b" ")[0]
            consumer = token.decode(errors="replace").rpartition(":")[0]
            if consumer:  # else nobody's, or leased by the sweep for a plain client
                job["consumer"] = consumer[:200]
                job["seen_at_ms"] = self._since((k.queue, job["id"] or "", token), now_ms)

    def _since(self, claim: tuple[str, str, bytes], now_ms: int) -> int:
        since = self._seen.pop(claim, now_ms)
        self._seen[claim] = since
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return since
