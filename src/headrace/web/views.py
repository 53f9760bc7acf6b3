"""What is shown of queues and jobs: plain objects, small whatever the job holds."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from headrace import ids, redaction, wire
from headrace.operations import Snapshot
from headrace.reports import Progress
from headrace.web.shapes import JOB_ID, ErrorView, JobView, ProgressView, QueueView

_SHOWN: Final = 200  # bytes of arguments, characters of every other text


class _Call(msgspec.Struct):
    """A job's call, its arguments left as they are written."""

    task: str
    id: Any = None
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: dict[str, msgspec.Raw] = {}


_decode = msgspec.json.Decoder(_Call).decode


def queue_view(snapshot: Snapshot) -> QueueView:
    """Show a queue; nothing in it changes while the queue does not."""
    return {
        "queue": snapshot.queue,
        "paused": snapshot.paused,
        "pending": snapshot.pending,
        "priority": snapshot.priority,
        "delayed": snapshot.delayed,
        "limited": snapshot.limited,
        "processing": snapshot.processing,
        "dead": snapshot.dead,
        "foreign": snapshot.foreign,
        "oldest_at_ms": snapshot.oldest_at_ms,
        "next_due_at_ms": snapshot.due_at_ms,
        # Others than ours may stand in that hash, under names of any length.
        "counters": {name: n for name, n in snapshot.counters.items() if len(name) <= _SHOWN},
    }


def job_view(job: bytes, due_ms: int | None = None) -> JobView:
    """Show a job, or whatever else lies in a queue; ``due_ms``: when it is due, if it is delayed."""
    size, job = len(job), redaction.shown(job)
    parts = wire.split(job)
    head = parts[0] if parts else wire.Head("")
    error = wire.read_error(job) if b'"error"' in job else None
    try:
        call = _decode(job)
        task: str | None = call.task
        arguments = _arguments(call)
        if not parts and isinstance(call.id, str) and re.fullmatch(JOB_ID, call.id):
            head = wire.Head(call.id)  # plain JSON, with white space or the id elsewhere
    except Exception:  # malformed, which is what has to be shown
        task = None
        arguments = _cut(_malformed(job, error))
    return {
        "id": head.id or None,
        "task": None if task is None else _short(task),
        "arguments": arguments,
        "bytes": size,
        "made_at_ms": ids.time_ms_of(head.id),
        "due_at_ms": due_ms,
        "consumer": None,
        "progress": None,
        "seen_at_ms": None,
        "priority": head.priority,
        "attempt": head.attempt,
        "delivery": head.delivery,
        "crashes": head.crashes,
        "error": None if error is None else _error_view(error),
    }


def has_text(job: bytes, text: str) -> bool:
    """Whether a text stands in a job, as far as that may be shown; escaped, as "ü" may be, or not."""
    needle, shown = text.encode(), redaction.shown(job)
    if needle in shown:
        return True
    try:
        return b"\\u" in shown and needle in msgspec.json.encode(msgspec.json.decode(shown))
    except Exception:  # whatever decoding raises: it is no JSON
        return False


def progress_view(progress: Progress | None) -> ProgressView | None:
    """Show how far a job is."""
    if progress is None:
        return None
    return {
        "done": progress.done,
        "total": progress.total,
        "note": _short(progress.note),
        "at_ms": progress.at_ms,
        "says": _short(str(progress)),
    }


def _malformed(job: bytes, error: wire.Error | None) -> bytes:
    """Return the bytes that were no job: these, or those that a dead letter keeps."""
    try:
        payload = wire.wrapped_payload(error)
    except ValueError:  # base64 of another make
        payload = None
    return job if payload is None else payload


def _error_view(error: wire.Error) -> ErrorView:
    return {
        "reason": _short(error.reason),
        "type": _short(error.type),
        "message": _short(error.message),
        "failed_at_ms": error.failed_at or None,
    }


def _arguments(call: _Call) -> str:
    """Write the arguments of a call as Python would show them: ``"hi", n=3``."""
    args = memoryview(call.args)
    positional = _cut(args[1:-1] if args[0] == ord("[") else args)
    named = [f"{name}={_cut(memoryview(value))}" for name, value in [*call.kwargs.items()][:20]]
    return _cut(", ".join(filter(None, [positional, *named])).encode())


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _cut(text: bytes | memoryview) -> str:
    shown = bytes(text[:_SHOWN]).decode(errors="replace")
    return shown if len(text) <= _SHOWN else shown.rstrip("\ufffd") + "…"
