"""How numbers and lengths of time are written, for all who show them."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from headrace import wire

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
_SIZES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_NAMED: Final = 3  # of many ids, keys or consumers, so many are named


def span(seconds: float) -> str:
    """Write a length of time in its largest unit that says enough: 12 s, 3 min, 5 h, 2 d."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit}"
    return f"{max(0, round(seconds))} s"


def instant(ms: int) -> str:
    """Write an instant by the clock on the wall; one that no calendar has in ms since 1970."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{ms:,} ms after 1970"


def size(count: int) -> str:
    """Write a number of bytes: 1.5 GiB."""
    for unit, length in _SIZES:
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Write how many of a thing: 1 job, 1,200 jobs."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def verb(count: int, one: str = "is", many: str = "are") -> str:
    """Return the form of a verb that goes with so many things."""
    return one if count == 1 else many


def subject(count: int, noun: str, one: str = "is", many: str = "are") -> str:
    """Write how many of a thing, and the verb that goes with it: 1 job is, 3 jobs are."""
    return f"{counted(count, noun)} {verb(count, one, many)}"


def some(names: Collection[str]) -> str:
    """Name the first few."""
    more = "…" if len(names) > _NAMED else ""
    return ", ".join([*names][:_NAMED]) + more


def failure(error: wire.Error) -> str:
    """Say what a run raised: the exception's type and its message."""
    return ": ".join(part for part in (error.type, error.message) if part)


def ordinal(number: int) -> str:
    """Write a place in a row: 1st, 2nd, 17th."""
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def times(count: int) -> str:
    """Write how often: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def command(*words: str, of: str = "") -> str:
    """Write a command of ours so that it can be pasted into a shell, whatever a name in it holds.

    Args:
        words: what follows ``headrace``.
        of: the name of a queue or the id of a job, which goes last; "" if there is none.
    """
    marked = ("--", of) if of.startswith("-") else (of,)  # else it would be read as an option
    return shlex.join(("headrace", *words, *(marked if of else ())))
