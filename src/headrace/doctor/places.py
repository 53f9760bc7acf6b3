"""The places in which a job can stand in a queue, and how their jobs and claims are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from headrace import operations as op
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.lanes import operations as lanes
from headrace.operations import Operation
from headrace.scripts import MAX_BYTES, MAX_ITEMS

Place: TypeAlias = Literal["pending", "priority", "delayed", "processing", "dead", "limited"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)

SORTED: Final = frozenset({"priority", "delayed"})
"""Those that are sorted sets; the others are lists, and ``limited`` is a hash."""

_COUNTS: Final = {"zset": "ZCARD", "list": "LLEN", "hash": "HLEN"}

_FIRST_STEP: Final = 10  # jobs
_FAR_MS: Final = 1 << 52


class PlacedJob(NamedTuple):
    """A job as it stands in a place.

    Attributes:
        job: its bytes.
        due_ms: when it is due, if it is delayed; else None.
    """

    job: bytes
    due_ms: int | None = None


def key_of(k: Keys, place: Place) -> str:
    """Return the key that holds a place."""
    key: str = getattr(k, place)
    return key


def type_of(place: Place) -> str:
    """Return the type of the key that holds a place."""
    return "hash" if place == "limited" else "zset" if place in SORTED else "list"


def holder_of(claim: bytes) -> str:
    """Name the consumer whose a claim is; "" if nobody's: the sweep gave the lease."""
    token = claim.partition(b" ")[0]
    return token.rpartition(b":")[0].decode(errors="replace")


def count(k: Keys, place: Place) -> Operation[int]:
    """Count the jobs of a place."""
    return op.command(_COUNTS[type_of(place)], key_of(k, place), parse=int)


def page(k: Keys, place: Place, start: int, most: int) -> Operation[list[PlacedJob]]:
    """Read jobs of a place in its order: who is next, was claimed first, is due first, died last."""
    key, stop = key_of(k, place), start + most - 1
    if place == "limited":  # lane by lane
        waiting: Operation[Any] = lanes.page(k, start, most)
        return waiting._replace(parse=lambda raw: [*map(PlacedJob, raw)])
    if place == "delayed":
        return op.command("ZRANGE", key, start, stop, "WITHSCORES", parse=_due)
    if place == "priority":
        return op.command("ZRANGE", key, start, stop, parse=lambda raw: [*map(PlacedJob, raw)])
    if place == "dead":  # who died last is on the left
        return op.command("LRANGE", key, start, stop, parse=lambda raw: [*map(PlacedJob, raw)])
    return op.command(
        "LRANGE", key, -stop - 1, -start - 1, parse=lambda raw: [*map(PlacedJob, raw[::-1])]
    )


def _due(raw: Sequence[bytes]) -> list[PlacedJob]:
    return [*map(PlacedJob, raw[::2], map(instant_of, raw[1::2]))]


def instant_of(score: bytes) -> int:
    """Read a score that is an instant, ms; a plain client's may be infinite."""
    return int(min(max(0.0, float(score)), _FAR_MS))


class Read(NamedTuple):
    """How far a place was read.

    Attributes:
        jobs: how many were read.
        complete: whether there are no more, or no more were wanted.
        found: the job that was wanted; None if it was not there.
    """

    jobs: int
    complete: bool
    found: PlacedJob | None = None


def read(k: Keys, place: Place, most: int, is_wanted: Callable[[bytes], bool]) -> Flow[Read]:
    """Read up to so many jobs of a place, in steps of about 1 MiB, until one is wanted."""
    looked_at, step = 0, _FIRST_STEP
    while looked_at < most:
        asked = min(step, most - looked_at)
        jobs: list[PlacedJob] = yield page(k, place, looked_at, asked)
        for one in jobs:
            looked_at += 1
            if is_wanted(one.job):
                return Read(looked_at, complete=True, found=one)
        if len(jobs) < asked:
            return Read(looked_at, complete=True)
        mean = 1 + sum(len(one.job) for one in jobs) // len(jobs)
        step = max(1, min(MAX_ITEMS, 4 * step, MAX_BYTES // mean))
    return Read(looked_at, complete=False)
