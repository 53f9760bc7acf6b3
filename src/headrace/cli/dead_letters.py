"""Dead letters as the command line reads and shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from headrace import operations as op
from headrace import wire
from headrace.cli.output import Row
from headrace.clock import now_ms
from headrace.doctor.humanize import failure, instant, span
from headrace.flows import PAGE
from headrace.keys import keys_of
from headrace.logs import one_line
from headrace.store import Store

_LATEST_MS: Final = 253_402_000_000_000  # in the year 9999, the last that datetime knows
_OWN_LINES: Final = ("id", "task", "args", "kwargs", "error")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        queue: whose it is.
        raw: its bytes.
        fields: the bytes as an object; empty when they are not one.
        error: why it is dead; one that says nothing when plain clients put it there.
    """

    queue: str
    raw: bytes
    fields: dict[str, Any]
    error: wire.Error

    @property
    def id(self) -> str:
        """Its job's id, or "" when it has none."""
        return self._text("id")

    @property
    def task(self) -> str:
        """Its task's name, or "" when it has none."""
        return self._text("task")

    def _text(self, name: str) -> str:
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    @property
    def _age(self) -> str:
        """How long ago it died; "" if unknown."""
        failed_at = self.error.failed_at
        return span((now_ms() - failed_at) / 1000) if failed_at else ""

    def as_json(self) -> dict[str, Any]:
        """Return what a list says of it, for programs."""
        error = self.error
        return {
            "queue": self.queue, "id": self.id, "task": self.task, "reason": error.reason,
            "type": error.type, "message": error.message, "failed_at": error.failed_at,
            "consumer": error.consumer,
        }  # fmt: skip

    def row(self) -> Row:
        """Return what a list says of it, for people."""
        message = failure(self.error).partition("\n")[0]
        return [self.id, self.queue, self.task, self.error.reason, self._age, message]

    def lines(self) -> Iterator[str]:
        """Write all of it, for people."""
        error, fields = self.error, self.fields
        shown = [("job", self.id), ("queue", self.queue), ("call", self._call())]
        shown += [(name, _json(fields[name])) for name in fields if name not in _OWN_LINES]
        shown.append(("reason", error.reason))
        if 0 < error.failed_at < _LATEST_MS:
            shown.append(("failed", f"{instant(error.failed_at)} ({self._age} ago)"))
        shown += [("consumer", error.consumer), ("error", failure(error))]
        shown.append(("payload", error.payload or ""))
        shown.append(("payload (base64)", error.payload_base64 or ""))
        shown.append(("bytes", "" if fields else repr(self.raw)))
        shown = [(one_line(name), value) for name, value in shown if value]
        width = max(len(name) for name, _ in shown) + 2
        yield from (f"{name:<{width}}{value}" for name, value in shown)
        if error.traceback:
            yield from ("", *error.traceback.rstrip().splitlines())

    def _call(self) -> str:
        args, kwargs = self.fields.get("args", []), self.fields.get("kwargs", {})
        if not self.task or not isinstance(args, list) or not isinstance(kwargs, dict):
            return self.task
        parts = [_json(arg) for arg in args]
        parts += [f"{name}={_json(value)}" for name, value in kwargs.items()]
        return f"{self.task}({', '.join(parts)})"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def read(queue: str, raw: bytes) -> DeadLetter:
    """Read a dead letter, whoever wrote it."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except Exception:  # whatever decoding raises: the list holds what plain clients pushed, too
        fields = {}
    return DeadLetter(queue, raw, fields, wire.read_error(raw) or wire.Error(reason=""))


def dead_letters(store: Store, queue: str) -> Iterator[DeadLetter]:
    """Read a queue's dead letters, newest first, as far as they are asked for.

    Raises:
        StoreError: Redis did not answer.
    """
    dead, start = keys_of(queue).dead, 0
    while page := store.run(op.peek(dead, start, start + PAGE - 1)):
        yield from (read(queue, raw) for raw in page)
        start += PAGE
