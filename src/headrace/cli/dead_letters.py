"""Dead letters as the command line shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from headrace import operations as op
from headrace import redaction
from headrace.cli.output import Row
from headrace.clock import now_ms
from headrace.doctor.dead_letters import DeadLetter, read
from headrace.doctor.humanize import failure, instant, span
from headrace.flows import PAGE
from headrace.keys import keys_of
from headrace.logs import one_line
from headrace.store import Store

_LATEST_MS: Final = 253_402_000_000_000  # in the year 9999, the last that datetime knows
_OWN_LINES: Final = ("id", "task", "args", "kwargs", "error")


def as_json(letter: DeadLetter) -> dict[str, Any]:
    """Return what a list says of a letter, for programs."""
    error = letter.error
    return {
        "queue": letter.queue, "id": letter.id, "task": letter.task, "reason": error.reason,
        "type": error.type, "message": error.message, "failed_at": error.failed_at,
        "consumer": error.consumer,
    }  # fmt: skip


def row(letter: DeadLetter) -> Row:
    """Return what a list says of a letter, for people."""
    message = failure(letter.error).partition("\n")[0]
    return [letter.id, letter.queue, letter.task, letter.error.reason, _age(letter), message]


def lines(letter: DeadLetter) -> Iterator[str]:
    """Write all of a letter, for people."""
    error, fields = letter.error, letter.fields
    shown = [("job", letter.id), ("queue", letter.queue), ("call", _call(letter))]
    shown += [(name, _json(fields[name])) for name in fields if name not in _OWN_LINES]
    shown.append(("reason", error.reason))
    if 0 < error.failed_at < _LATEST_MS:
        shown.append(("failed", f"{instant(error.failed_at)} ({_age(letter)} ago)"))
    shown += [("consumer", error.consumer), ("error", failure(error))]
    shown.append(("payload", error.payload or ""))
    shown.append(("payload (base64)", error.payload_base64 or ""))
    shown.append(("bytes", "" if fields else repr(redaction.shown(letter.raw))))
    shown = [(one_line(name), value) for name, value in shown if value]
    width = max(len(name) for name, _ in shown) + 2
    yield from (f"{name:<{width}}{value}" for name, value in shown)
    if error.traceback:
        yield from ("", *error.traceback.rstrip().splitlines())


def dead_letters(store: Store, queue: str) -> Iterator[DeadLetter]:
    """Read a queue's dead letters, newest first, as far as they are asked for.

    Raises:
        StoreError: Redis did not answer.
    """
    dead, start = keys_of(queue).dead, 0
    while page := store.run(op.peek(dead, start, start + PAGE - 1)):
        yield from (read(queue, raw) for raw in page)
        start += PAGE


def _age(letter: DeadLetter) -> str:
    """How long ago it died; "" if unknown."""
    failed_at = letter.error.failed_at
    return span((now_ms() - failed_at) / 1000) if failed_at else ""


def _call(letter: DeadLetter) -> str:
    args, kwargs = letter.fields.get("args", []), letter.fields.get("kwargs", {})
    if not letter.task or not isinstance(args, list) or not isinstance(kwargs, dict):
        return letter.task
    parts = [_json(arg) for arg in args]
    parts += [f"{name}={_json(value)}" for name, value in kwargs.items()]
    return f"{letter.task}({', '.join(parts)})"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
