"""An event: what a webhook is told, as JSON. Pure.

What is hidden where people would see it is hidden here, and arguments are not told at all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from headrace import redaction, wire
from headrace.operations import Snapshot
from headrace.webhooks.hook import EventKind

_encode = msgspec.json.Encoder().encode
_task_of = msgspec.json.Decoder(dict[str, Any]).decode
_MOST: Final = 1_000  # characters of each text: letters of somebody else may say very much
_LATEST_MS: Final = 253_402_300_799_000  # in 9999: a letter of somebody else may say anything


class Event(NamedTuple):
    """What is told.

    Attributes:
        message_id: the same each time that it is sent.
        at_ms: when it happened, ms since 1970.
        body: what is sent.
    """

    message_id: str
    at_ms: int
    body: bytes


def died(queue: str, letter: bytes, message_id: str) -> Event:
    """Tell that a job has failed for good."""
    shown = _shown(letter)
    parts, error = wire.split(letter), wire.read_error(shown) or wire.Error(reason="")
    about = {
        "queue": queue,
        "id": parts[0].id if parts is not None else None,
        "task": _task(shown),
        "reason": error.reason[:_MOST],
        "error_type": error.type[:_MOST],
        "message": error.message[:_MOST],
        "failed_at_ms": _instant(error.failed_at),
        "consumer": error.consumer[:_MOST],
    }
    return _event(message_id, "dead", error.failed_at, about)


def aged(queue: str, oldest: Snapshot, waiting: int, max_age_s: float, message_id: str) -> Event:
    """Tell that jobs wait too long."""
    about = {
        "queue": queue,
        "oldest_age_s": oldest.oldest_s,
        "max_age_s": max_age_s,
        "waiting": waiting,
    }
    return _event(message_id, "age", oldest.now_ms, about)


def _event(message_id: str, kind: EventKind, at_ms: int, about: dict[str, Any]) -> Event:
    at_ms = _instant(at_ms)
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    told = {"type": kind, "timestamp": at.replace("+00:00", "Z"), "data": about}
    return Event(message_id, at_ms, _encode(told))


def _shown(letter: bytes) -> bytes:
    try:
        return redaction.shown(letter)
    except Exception:  # numbers of somebody else that cannot be written again
        return b""  # it is told of without its text


def _instant(ms: int) -> int:
    return max(0, min(ms, _LATEST_MS))


def _task(letter: bytes) -> str | None:
    try:
        task = _task_of(letter).get("task")
    except Exception:  # whatever decoding raises
        return None
    return task[: wire.MAX_TASK_NAME] if isinstance(task, str) else None
