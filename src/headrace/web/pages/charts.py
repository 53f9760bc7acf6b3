"""Charts of what happened over time: bars, their scales, and the same in a sentence. Pure.

Across, all is in percent of whatever width the screen has, and upwards in px: so a chart fits a phone and a
desk, with letters of the same size.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from headrace.web.filters import clock

HEIGHT: Final = 104
"""Of the tallest bar, px."""

ABOVE: Final = 9
"""Room above it, for half a line of its scale."""

_SHARE: Final = 0.76  # of its place that a bar takes; the rest is air
_LEAST: Final = 1.5  # px: what is not 0 is seen
_EDGE: Final = 6.0  # percent; no instant is written nearer to an edge
_MINUTE_MS: Final = 60_000

_EACH_MS: Final = tuple(one * _MINUTE_MS for one in (15, 60, 240, 720))
_MOST_TIMES: Final = 6.5  # of them across: a phone has room for six
_TOPS_S: Final = (
    0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0,
    600.0, 1200.0, 2400.0, 3600.0, 7200.0,
)  # fmt: skip


class Part(NamedTuple):
    """A part of a column: what it is of, and how much."""

    kind: str
    value: float


class Column(NamedTuple):
    """What stands at one place of a chart: parts upon each other.

    Attributes:
        at_ms: when its time begins, ms since 1970.
        parts: from the bottom.
        says: the same in words.
        is_whole: its time is over.
    """

    at_ms: int
    parts: tuple[Part, ...]
    says: str
    is_whole: bool = True

    @property
    def total(self) -> float:
        """How tall it is."""
        return sum(part.value for part in self.parts)


class Bar(NamedTuple):
    """A part as it is drawn: its top and its height are px."""

    kind: str
    y: float
    height: float


class Drawn(NamedTuple):
    """A column as it is drawn; x and width are percent."""

    x: float
    width: float
    bars: tuple[Bar, ...]
    says: str
    is_whole: bool


class Mark(NamedTuple):
    """A place on a scale: px from above, or percent from the left."""

    at: float
    says: str
    anchor: str = "middle"


class Plot(NamedTuple):
    """Columns and their scales."""

    columns: tuple[Drawn, ...]
    levels: tuple[Mark, ...]
    times: tuple[Mark, ...]


def counted(columns: Sequence[Column], step_min: int) -> Plot:
    """Draw how many there were of something, by the minute or by so many minutes."""
    return _plot(columns, step_min, top_of_count, short_count)


def lasting(columns: Sequence[Column], step_min: int) -> Plot:
    """Draw how long something took, in seconds."""
    return _plot(columns, step_min, top_of_seconds, _whole_span)


def _plot(
    columns: Sequence[Column],
    step_min: int,
    top_of: Callable[[float], float],
    written: Callable[[float], str],
) -> Plot:
    top = top_of(max((one.total for one in columns), default=0))
    place = 100 / max(1, len(columns))
    drawn = [
        Drawn(
            round(n * place + place * (1 - _SHARE) / 2, 2), round(place * _SHARE, 2),
            _bars(one.parts, top), one.says, one.is_whole,
        )
        for n, one in enumerate(columns)
        if one.total
    ]  # fmt: skip
    shares = (0.0, 1.0) if top == 1 and top_of is top_of_count else (0.0, 0.5, 1.0)
    levels = tuple(Mark(ABOVE + HEIGHT * (1 - share), written(top * share)) for share in shares)
    return Plot(tuple(drawn), levels, times([one.at_ms for one in columns], step_min))


def _bars(parts: Sequence[Part], top: float) -> tuple[Bar, ...]:
    """Put parts upon each other, none so low that it is not seen."""
    bars, y = list[Bar](), float(ABOVE + HEIGHT)
    for part in parts:
        if part.value:
            height = max(_LEAST, round(HEIGHT * part.value / top, 1))
            y -= height
            bars.append(Bar(part.kind, round(y, 1), height))
    return tuple(bars)


def top_of_count(largest: float) -> float:
    """Return where a scale of whole numbers ends: at 1, or at an even 2, 4, 6, 8, 10, 20 and so on."""
    if largest <= 1:
        return 1
    size = int(10 ** max(0, math.ceil(math.log10(largest)) - 1))
    return next(n * size for n in (1, 2, 4, 6, 8, 10) if n * size >= largest and n * size > 1)


def top_of_seconds(largest: float) -> float:
    """Return where a scale of seconds ends."""
    return _TOPS_S[min(bisect_left(_TOPS_S, largest), len(_TOPS_S) - 1)]


def times(starts_ms: Sequence[int], step_min: int) -> tuple[Mark, ...]:
    """Write whole quarters of an hour or hours below columns, in UTC, and that the last one is now."""
    if not starts_ms:
        return ()
    step_ms = step_min * _MINUTE_MS
    length_ms = starts_ms[-1] + step_ms - starts_ms[0]
    each_ms = next((one for one in _EACH_MS if length_ms <= _MOST_TIMES * one), _EACH_MS[-1])
    first = -(-starts_ms[0] // each_ms) * each_ms
    written = range(first, starts_ms[-1], each_ms)
    places = ((at, 100 * (at - starts_ms[0]) / length_ms) for at in written)
    found = [Mark(round(x, 2), clock(at)) for at, x in places if _EDGE < x < 100 - 2 * _EDGE]
    return (*found, Mark(100, "now", "end"))


def short_count(number: float) -> str:
    """Write a number in little room: 1,500; 20k; 2M."""
    if number < 10_000:
        return f"{number:,.0f}"
    return f"{number / 1e6:g}M" if number >= 1e6 else f"{number / 1e3:g}k"


def _whole_span(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds * 1000:g} ms" if seconds else "0"
