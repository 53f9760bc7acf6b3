"""The first jobs of a queue's places, read in small steps: where jobs are large, fewer of them are shown.

Redis answers a range whole, whatever its jobs weigh. A step of five is 5 MiB at most, and reading
ends when a place has given its bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from headrace import operations as op
from headrace.keys import Keys
from headrace.operations import Operation
from headrace.web.shapes import JobView, Place
from headrace.web.views import job_view

MAX_BYTES: Final = 1 << 18  # of one place

_STEP: Final = 5  # jobs

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
        """Give the operation that reads the next step."""
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


async def listed(ask: Ask, k: Keys, places: Sequence[Place], limit: int) -> list[list[JobView]]:
    """Read the first jobs of places of a queue: who is next, runs longest, is due first, died last.

    Args:
        ask: runs operations in one round trip.
        k: the queue's keys.
        places: which.
        limit: at most so many jobs of each.

    Raises:
        StoreError: Redis did not answer, or answered with an error.
    """
    stretches = [_Stretch(place, getattr(k, place)) for place in places]
    while some := [one for one in stretches if not one.whole]:
        answers = await ask([one.next(limit) for one in some])
        for one, found in zip(some, answers, strict=True):
            one.take(found, limit)
    shown = [[job_view(job) for job in one.jobs] for one in stretches]
    for one, jobs in zip(stretches, shown, strict=True):
        for job, due_ms in zip(jobs, one.due_ms, strict=False):
            job["due_at_ms"] = due_ms
        if one.place == "processing":
            await _name_owners(ask, k, jobs)
    return shown


async def _name_owners(ask: Ask, k: Keys, jobs: list[JobView]) -> None:
    """Note whose claimed jobs are."""
    claimed = [job for job in jobs if job["id"] is not None]
    if not claimed:
        return
    ids = [str(job["id"]) for job in claimed]
    (claims,) = await ask([op.command("HMGET", k.claims, *ids, parse=lambda raw: raw)])
    for job, claim in zip(claimed, claims, strict=True):
        token = (claim or b"").partition(b" ")[0].decode(errors="replace")
        job["consumer"] = token.rpartition(":")[0][:200] or None  # "-": the sweep leased it
