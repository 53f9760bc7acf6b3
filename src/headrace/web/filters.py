"""How the page writes numbers, lengths of time and names. The page's script writes them the same way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from headrace.doctor import humanize
from headrace.logs import one_line
from headrace.timings.tally import BOUNDS_S

_SHORT: Final = (("B", 10**9), ("M", 10**6))


def count(number: int) -> str:
    """Write a number: 1,500; from a million on 1.5M."""
    for unit, size in _SHORT:
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return f"{number:,}"


def span(ms: float) -> str:
    """Write a length of time, rounded down, for it is shown as "for over": 12 s, 3 min, 5 h, 2 d."""
    s = int(max(0, ms) // 1000)
    for unit, size, until in (("s", 1, 100), ("min", 60, 6_000), ("h", 3_600, 172_800)):
        if s < until:
            return f"{s // size} {unit}"
    return f"{s // 86_400} d"


def instant(ms: int) -> str:
    """Write an instant for ``datetime``; "" one that no calendar has."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def clock(ms: int) -> str:
    """Write an instant by the clock, in UTC: 19:05."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M}"


def lasting(seconds: float) -> str:
    """Write how long something took at most, as exactly as timings tell it: 5 ms, 1.5 s, 3 min."""
    if seconds >= BOUNDS_S[-1]:
        return "over 2 h"
    about = float(f"{max(seconds, BOUNDS_S[0]):.2g}")
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if about >= size:
            return f"{float(f'{about / size:.2g}'):g} {unit}"
    return f"{about * 1000:g} ms"


def lines_visible(text: str) -> str:
    """Write a text of several lines: what would turn the direction of writing is seen, line ends stay."""
    return "\n".join(map(one_line, text.split("\n")))


def segment(text: str) -> str:
    """Write a text as one part of an address, a slash in it too."""
    return quote(text, safe="")


FILTERS: Final[dict[str, Any]] = {
    "count": count,
    "span": span,
    "instant": instant,
    "clock": clock,
    "lasting": lasting,
    # Marks that turn the direction of writing make one name look like another.
    "visible": one_line,
    "lines_visible": lines_visible,
    "segment": segment,
    "long_span": humanize.span,
    "size": humanize.size,
}
"""For Jinja."""
