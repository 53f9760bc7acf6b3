"""Reads a queue's jobs through, up to so many: equal ids, and bytes that are no job.

Jobs move while they are read, so whatever looks as if it stood twice is looked at again, all of it in
one MULTI … EXEC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from headrace import operations as op
from headrace import wire
from headrace.doctor import places
from headrace.doctor.places import PLACES, SORTED, Place, Read, key_of
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation

_MOST_SUSPECTS: Final = 100


@dataclass(frozen=True, slots=True)
class Scan:
    """What stands in a queue, as far as it was read.

    Attributes:
        looked_at: how many jobs were read.
        total: how many there were.
        twins: ids that stand more than once, each with the places.
        malformed: how many bytes that are no job stand in each place.
    """

    looked_at: int
    total: int
    twins: dict[str, tuple[Place, ...]]
    malformed: dict[Place, int]


@dataclass(slots=True)
class _Notes:
    seen: dict[str, list[tuple[Place, bytes]]] = field(default_factory=dict)
    malformed: Counter[Place] = field(default_factory=Counter)

    def take(self, place: Place, job: bytes) -> bool:
        """Note a job; more are wanted."""
        if not _is_job(job):
            self.malformed[place] += 1
        if (parts := wire.split(job)) is not None:
            self.seen.setdefault(parts[0].id, []).append((place, job))
        return False


def scan(k: Keys, most: int) -> Flow[Scan]:
    """Read up to so many jobs of each place."""
    notes, looked_at = _Notes(), 0
    sizes = yield [places.count(k, place) for place in PLACES]
    for place in PLACES:
        read: Read = yield from places.read(k, place, most, partial(notes.take, place))
        looked_at += read.jobs
    twins = {}
    suspects = [(i, where) for i, where in notes.seen.items() if len(where) > 1]
    for job_id, where in suspects[:_MOST_SUSPECTS]:
        if (yield from _confirmed(k, where)):
            twins[job_id] = tuple(place for place, _ in where)
    return Scan(looked_at, max(sum(sizes), looked_at), twins, dict(notes.malformed))


def _is_job(job: bytes) -> bool:
    """Whether a consumer could read it; a dead letter of bytes that were no job counts, too."""
    try:
        wire.read_body(job)
    except Exception:  # whatever decoding raises
        return wire.read_error(job) is not None
    return True


def _confirmed(k: Keys, where: Sequence[tuple[Place, bytes]]) -> Flow[bool]:
    """Look again, at one instant: does each of them stand there as often as it was seen?"""
    counts = Counter(where)
    reads = [
        _plain("ZSCORE", key_of(k, place), job)
        if place in SORTED
        else _plain("HGET", key_of(k, place), (wire.split(job) or (wire.Head(""), b""))[0].id)
        if place == "limited"
        else _plain("LPOS", key_of(k, place), job, "COUNT", count)
        for (place, job), count in counts.items()
    ]
    answers: list[Any] = yield [_plain("MULTI"), *reads, _plain("EXEC")]
    there = answers[-1]
    if isinstance(there, StoreError):
        return False
    # LPOS answers with as many positions as it found, ZSCORE with a score or nothing.
    return all(
        len(found) == count if isinstance(found, list) else found is not None
        for count, found in zip(counts.values(), there, strict=True)
    )


def _plain(*words: str | bytes | int) -> Operation[Any]:
    return op.command(*words, parse=lambda raw: raw)
