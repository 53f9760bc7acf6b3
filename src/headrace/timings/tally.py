"""A tally: how many jobs ended how, how long they waited and ran. Numbers in fixed buckets. Pure.

It is a plain list, so that to count a job is a few additions. In Redis it is those numbers with spaces
between; a later version may append some, and adds them position by position all the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from operator import add as plus
from typing import Annotated, Final, TypeAlias

import msgspec

BOUNDS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
)  # fmt: skip
"""Up to and with which second each bucket counts; what took longer is in one more."""

Tally: TypeAlias = list[int]

RUNS, DONE, RETRIED, DEAD, CANCELLED, WAIT_US, RUN_US = range(7)
"""Where in a tally: runs; how jobs ended; microseconds that they waited and ran, in sum."""

_Numbers: TypeAlias = list[Annotated[int, msgspec.Meta(ge=0)]]
_decode: Final = msgspec.json.Decoder(_Numbers).decode
_decode_rows: Final = msgspec.json.Decoder(list[_Numbers]).decode
_BUCKETS: Final = len(BOUNDS_S) + 1
WAITS: Final = 7
"""Where the buckets of waits begin."""
RUN_TIMES: Final = WAITS + _BUCKETS
"""Where those of runs do."""
_LENGTH: Final = RUN_TIMES + _BUCKETS


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took, again and again.

    Attributes:
        counts: how often it was in each bucket.
        sum_s: in sum, seconds.
    """

    counts: Sequence[int]
    sum_s: float

    @property
    def count(self) -> int:
        """How often."""
        return sum(self.counts)

    def cumulated(self) -> list[tuple[float, int]]:
        """Return how often it took at most so long, for each bound; the last is infinite."""
        return list(zip((*BOUNDS_S, float("inf")), accumulate(self.counts), strict=True))

    def quantile(self, share: float) -> float | None:
        """Return in how many seconds such a share was over, as Prometheus reckons; None of nothing.

        Evenly spread within a bucket; of what is beyond the last bound, that bound.
        """
        total = self.count
        if not total:
            return None
        rank, below = share * total, 0
        for at, count in enumerate(self.counts[:-1]):
            if count and below + count >= rank:
                low = BOUNDS_S[at - 1] if at else 0.0
                return low + (BOUNDS_S[at] - low) * max(0.0, rank - below) / count
            below += count
        return BOUNDS_S[-1]


def empty() -> Tally:
    """Return a tally of nothing."""
    return [0] * _LENGTH


def bucket_of(seconds: float) -> int:
    """Return the bucket that so many seconds are in."""
    return bisect_left(BOUNDS_S, seconds)


def add_runs(tally: Tally, seconds: list[float]) -> None:
    """Count runs that took so long."""
    tally[RUNS] += len(seconds)
    _add_durations(tally, RUN_US, RUN_TIMES, seconds)


def add_waits(tally: Tally, seconds: list[float]) -> None:
    """Count waits that took so long; what is below 0, as the clock of who enqueued it is ahead, as 0."""
    _add_durations(tally, WAIT_US, WAITS, seconds)


def waits(tally: Tally) -> Histogram:
    """Return how long jobs have waited."""
    return Histogram(tally[WAITS:RUN_TIMES], tally[WAIT_US] / 1e6)


def run_times(tally: Tally) -> Histogram:
    """Return how long they have run."""
    return Histogram(tally[RUN_TIMES:_LENGTH], tally[RUN_US] / 1e6)


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    rows = list(tallies)
    return list(map(sum, zip(*rows, strict=True))) if rows else empty()


def add(into: Tally, one: Tally) -> None:
    """Add a tally to another."""
    into[:] = map(plus, into, one)


def add_dated(into: Tally, rows: Sequence[Sequence[int]]) -> None:
    """Add tallies to another, as ``read_dated`` has read them."""
    columns = zip(*rows, strict=True)
    next(columns, None)  # when they are of
    # By columns: one sum over all rows, which are thousands for a page of charts.
    if rows:
        into[:] = map(plus, into, map(sum, columns))


def write(tally: Tally) -> str:
    """Write a tally as it stands in Redis."""
    return " ".join(map(str, tally))


def read(raw: bytes) -> Tally:
    """Read a tally; what somebody else has written counts as nothing."""
    return _fit(_numbers(raw), _LENGTH)


def read_dated(raws: Sequence[bytes | None]) -> list[Tally]:
    """Read tallies with a number before each, which says of when it is; nothing is of -1, and so is what is not ours.

    All by one call, in a fraction of the time.
    """
    whole = b"],[".join([raw or b"" for raw in raws]).replace(b" ", b",")
    rows: list[list[int]] | None = None
    with suppress(msgspec.MsgspecError):
        rows = _decode_rows(b"[[%b]]" % whole)
    if rows is None or len(rows) != len(raws):  # one of them is not ours
        rows = [_numbers(raw or b"") for raw in raws]
    return [row if len(row) == _LENGTH + 1 else _fit(row or [-1], _LENGTH + 1) for row in rows]


def _add_durations(tally: Tally, sum_us: int, buckets: int, seconds: list[float]) -> None:
    # Sorted, so that each bound is looked for once, and not each duration among the bounds.
    seconds = sorted(seconds)
    tally[sum_us] += int(sum(seconds[bisect_left(seconds, 0.0) :]) * 1e6)
    counted = 0
    for at, bound_s in enumerate(BOUNDS_S, buckets):
        if counted == len(seconds):
            return
        upto = bisect_right(seconds, bound_s)
        tally[at] += upto - counted
        counted = upto
    tally[buckets + len(BOUNDS_S)] += len(seconds) - counted


def _numbers(raw: bytes) -> list[int]:
    try:
        return _decode(b"[%b]" % raw.replace(b" ", b","))  # half the time of int()
    except msgspec.MsgspecError:
        return []


def _fit(numbers: list[int], length: int) -> list[int]:
    """Return what another version has written in as many numbers as this one has."""
    return [*numbers, *[0] * (length - len(numbers))][:length]
