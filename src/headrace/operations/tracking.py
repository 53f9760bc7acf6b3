"""What job handles ask of Redis: where a job is, how it ended, and that it be cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from headrace import keys, wire
from headrace.keys import Keys
from headrace.operations.request import Operation, command, run, text
from headrace.scripts import MAX_ITEMS

CANCEL_REQUEST_TTL_MS: Final = 3_600_000
"""How long a running job can find out that it should stop; longer than any lease by far."""

CancelAnswer = Literal["cancelled", "requested", "absent"]


def cancel(
    k: Keys, job_id: str, job: bytes, *, result_ttl_ms: int = 0, result: bytes = b""
) -> Operation[CancelAnswer]:
    """Take out a waiting job, or ask a running one to stop."""
    used = [
        k.pending, k.processing, k.priority, k.delayed, k.claims, k.stats, k.cancelled, k.result(job_id)
    ]  # fmt: skip
    parts = wire.split(job)
    if parts is not None and parts[0].key:
        used.append(k.unique(parts[0].key))
    parse: Callable[[Any], CancelAnswer] = text  # type: ignore[assignment]
    args = (job_id, job, CANCEL_REQUEST_TTL_MS, result_ttl_ms, result, keys.CHANNEL_PREFIX)
    return run("cancel", used, args, parse)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a job is.

    Attributes:
        word: pending, processing, delayed, dead, cancelled; ``ended``: its result is kept; unknown.
        raw: how it ended, encoded; or its bytes, when it was searched for.
    """

    word: Literal["pending", "processing", "delayed", "dead", "cancelled", "ended", "unknown"]
    raw: bytes = b""


def find(k: Keys, job_id: str, job: bytes) -> Operation[Found]:
    """Return where a job is, as far as that needs no search."""
    used = (
        k.pending, k.processing, k.priority, k.delayed, k.claims, k.cancelled, k.result(job_id)
    )  # fmt: skip
    return run("find", used, (job_id, job), lambda raw: Found(text(raw[0]), raw[1]))  # type: ignore[arg-type]


def seek(place: str, job_id: str, offset: int) -> Operation[tuple[bytes, int]]:
    """Look for a job in a stretch of a place; return its bytes or b"", and where to go on, or 0."""
    return run("seek", (place,), (job_id, offset, MAX_ITEMS), tuple)


def await_result(k: Keys, job_id: str, wait_s: float) -> Operation[bytes | None]:
    """Wait for a job's end. The list has one element and is moved onto itself: it stays for others."""
    key = k.result(job_id)
    args = ("BLMOVE", key, key, "LEFT", "LEFT", wait_s)
    return command(*args, parse=lambda raw: raw, wait_s=wait_s)
