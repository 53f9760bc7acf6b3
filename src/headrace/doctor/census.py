"""Reads a queue's jobs through, in steps and only so many: equal ids, and bytes that are no job.

Jobs move while they are read, so whatever looks as if it stood twice is looked at again, all of it in
one MULTI … EXEC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headrace import operations as op
from headrace import wire
from headrace.doctor.places import PLACES, SORTED, Place, key_of
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation
from headrace.scripts import MAX_BYTES, MAX_ITEMS

FIRST_STEP: Final = 10
_MOST_SUSPECTS: Final = 100


@dataclass(frozen=True, slots=True)
class Census:
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
    looked_at: int = 0


def step_of(k: Keys, place: Place, start: int, count: int) -> Operation[list[bytes]]:
    """Read some jobs of a place, counted from the one that is next; those of lists come last first."""
    if place in SORTED:
        return op.peek_sorted(key_of(k, place), start, start + count - 1)
    return op.peek(key_of(k, place), -start - count, -start - 1)


def walk(k: Keys, place: Place, most: int) -> Flow[Iterator[bytes]]:
    """Read up to so many jobs of a place, those that are next first; in steps of about 1 MiB."""
    found: list[bytes] = []
    step = FIRST_STEP
    while len(found) < most:
        asked = min(step, most - len(found))
        page: list[bytes] = yield step_of(k, place, len(found), asked)
        found += page if place in SORTED else page[::-1]
        if len(page) < asked:
            break
        step = next_step(page, step)
    return iter(found)


def next_step(page: Sequence[bytes], step: int) -> int:
    """Return how many jobs to read next, after a page of so many: about 1 MiB of such jobs."""
    mean = 1 + sum(map(len, page)) // len(page)
    return max(1, min(MAX_ITEMS, 4 * step, MAX_BYTES // mean))


def take(k: Keys, most: int) -> Flow[Census]:
    """Read up to so many jobs of each place."""
    notes, total = _Notes(), 0
    sizes = yield [
        op.command("ZCARD" if place in SORTED else "LLEN", key_of(k, place), parse=int)
        for place in PLACES
    ]
    for place, count in zip(PLACES, sizes, strict=True):
        total += count
        for job in (yield from walk(k, place, most)):
            _note(notes, place, job)
    twins = {}
    suspects = [(i, where) for i, where in notes.seen.items() if len(where) > 1]
    for job_id, where in suspects[:_MOST_SUSPECTS]:
        if (yield from _confirmed(k, where)):
            twins[job_id] = tuple(place for place, _ in where)
    return Census(notes.looked_at, max(total, notes.looked_at), twins, dict(notes.malformed))


def _note(notes: _Notes, place: Place, job: bytes) -> None:
    notes.looked_at += 1
    if not is_job(job):
        notes.malformed[place] += 1
    if (parts := wire.split(job)) is not None:
        notes.seen.setdefault(parts[0].id, []).append((place, job))


def is_job(job: bytes) -> bool:
    """Whether a consumer could read it; a dead letter of bytes that were no job counts, too."""
    try:
        wire.read_body(job)
    except Exception:  # whatever decoding raises
        return wire.read_error(job) is not None
    return True


def _confirmed(k: Keys, where: Sequence[tuple[Place, bytes]]) -> Flow[bool]:
    """Look again, at one instant: does each of them stand there as often as it was seen?"""
    counts = Counter(where)
    answers: list[Any] = yield [_plain("MULTI"), *_reads(k, counts), _plain("EXEC")]
    there = answers[-1]
    if isinstance(there, StoreError):
        return False
    for ((place, _), count), found in zip(counts.items(), there, strict=True):
        times = len(found) if isinstance(found, list) else found is not None
        if (place not in SORTED and times < count) or found is None:
            return False
    return True


def _reads(k: Keys, counts: Counter[tuple[Place, bytes]]) -> Iterator[Operation[Any]]:
    for (place, job), count in counts.items():
        if place in SORTED:
            yield _plain("ZSCORE", key_of(k, place), job)
        else:
            yield _plain("LPOS", key_of(k, place), job, "COUNT", count)


def _plain(*words: str | bytes | int) -> Operation[Any]:
    return op.command(*words, parse=lambda raw: raw)
