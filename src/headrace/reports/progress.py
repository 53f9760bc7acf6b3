"""Progress: how far a running job is, as it tells itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from headrace.errors import InvalidSetting
from headrace.keys import Keys
from headrace.operations import Argument, Operation, command, run, texts
from headrace.reports.keys import progress_of

KEPT_MS: Final = 300_000
"""How long it is kept after it was told: again and again while the job runs, so that it outlives that
by so much at most."""

_MOST_NOTE: Final = 200  # characters


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a job was when it last told so.

    Attributes:
        done: how much is done …
        total: … of how much, in the same unit; None if that is not known.
        note: what it does, in words.
        attempt: in which attempt, from 1 …
        delivery: … and in which delivery.
        at_ms: when Redis was told so, ms since 1970, by its clock; up to a second later.
    """

    done: int | float
    total: int | float | None = None
    note: str = ""
    attempt: int = 1
    delivery: int = 0
    at_ms: int = 0

    @property
    def share(self) -> float | None:
        """Which part is done, 0 to 1; None if that is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    def __str__(self) -> str:
        """Return it for people: ``340 of 1,000 (34 %): loading``."""
        of = "" if self.total is None else f" of {self.total:,}"
        share = "" if self.share is None else f" ({self.share:.0%})".replace("%", " %")
        return f"{self.done:,}{of}{share}{self.note and f': {self.note}'}"


class Told(NamedTuple):
    """The progress of one claim, for one call."""

    job_id: str
    claim: int
    progress: Progress


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Progress).decode


def checked(done: object, total: object, note: object, *, attempt: int, delivery: int) -> Progress:
    """Make a progress of what a task says.

    Raises:
        InvalidSetting: a number is none, or below 0.
    """
    return Progress(
        _number("done", done),
        None if total is None else _number("total", total),
        str(note)[:_MOST_NOTE].encode(errors="backslashreplace").decode(),
        attempt,
        delivery,
    )


def _number(name: str, value: object) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not 0 <= value < math.inf or value > 2**53:  # type: ignore[operator]
        raise InvalidSetting(f"progress: {name}={value!r} must be a number from 0 to 2**53")
    return value  # type: ignore[return-value]


def tell(k: Keys, consumer: str, told: Sequence[Told]) -> Operation[list[str]]:
    """Note the progress of claims; return the ids that were lost. Sent again, it tells the same."""
    args: list[Argument] = [consumer, KEPT_MS]
    for one in told:
        args += (one.job_id, one.claim, _encode(one.progress).removesuffix(b"}"))
    used = (k.claims, *(progress_of(k, one.job_id) for one in told))
    return run("reports/progress", used, args, texts)


def read(k: Keys, job_ids: Sequence[str]) -> Operation[list[Progress | None]]:
    """Return how far jobs are; None for each that has not told so, or a while ago."""
    keys = (progress_of(k, job_id) for job_id in job_ids)
    return command("MGET", *keys, parse=lambda raw: [_of(one) for one in raw])


def _of(raw: Any) -> Progress | None:
    try:
        return None if raw is None else _decode(raw)
    except msgspec.MsgspecError:  # somebody else wrote it
        return None
