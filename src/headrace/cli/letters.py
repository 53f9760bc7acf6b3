"""Dead letters as the command line reads, chooses and shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from headrace import operations as op
from headrace import wire
from headrace.cli.output import say
from headrace.clock import now_ms
from headrace.doctor.humanize import span
from headrace.errors import InvalidJob
from headrace.flows import PAGE
from headrace.keys import keys_of
from headrace.logs import one_line
from headrace.store import Store

_LATEST_MS: Final = 253_402_000_000_000  # in the year 9999, the last that datetime knows


@dataclass(frozen=True, slots=True)
class Letter:
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
        job_id = self.fields.get("id")
        return job_id if isinstance(job_id, str) else ""

    @property
    def task(self) -> str:
        """Its task's name, or "" when it has none."""
        task = self.fields.get("task")
        return task if isinstance(task, str) else ""

    @property
    def message(self) -> str:
        """What the exception said, after its type."""
        return ": ".join(part for part in (self.error.type, self.error.message) if part)

    def as_json(self) -> dict[str, Any]:
        """Return what a list says of it, for programs."""
        error = self.error
        return {
            "queue": self.queue, "id": self.id, "task": self.task, "reason": error.reason,
            "type": error.type, "message": error.message, "failed_at": error.failed_at,
            "consumer": error.consumer,
        }  # fmt: skip

    def age(self) -> str:
        """Say how long ago it died; "" if unknown."""
        failed_at = self.error.failed_at
        return span((now_ms() - failed_at) / 1000) if failed_at else ""

    def say(self) -> None:
        """Print all of it, for a person."""
        error, fields = self.error, self.fields
        shown = [("job", self.id), ("queue", self.queue), ("call", self._call())]
        options = {name: fields[name] for name in fields if name not in _SHOWN}
        shown += [(name, _json(value)) for name, value in options.items()]
        shown.append(("reason", error.reason))
        if 0 < error.failed_at < _LATEST_MS:
            at = datetime.fromtimestamp(error.failed_at / 1000, UTC).astimezone()
            shown.append(("failed", f"{at:%Y-%m-%d %H:%M:%S} ({self.age()} ago)"))
        shown += [("consumer", error.consumer), ("error", self.message)]
        shown.append(("payload", error.payload or ""))
        shown.append(("payload (base64)", error.payload_base64 or ""))
        if not fields:
            shown.append(("bytes", repr(self.raw)))
        shown = [(name, value) for name, value in shown if value]
        width = max(len(name) for name, _ in shown) + 2
        for name, value in shown:
            say(f"{name:<{width}}{one_line(value)}")
        if error.traceback:
            say()
            for line in error.traceback.rstrip().splitlines():
                say(one_line(line))

    def _call(self) -> str:
        args, kwargs = self.fields.get("args", []), self.fields.get("kwargs", {})
        if not self.task or not isinstance(args, list) or not isinstance(kwargs, dict):
            return self.task
        parts = [_json(arg) for arg in args]
        parts += [f"{name}={_json(value)}" for name, value in kwargs.items()]
        return f"{self.task}({', '.join(parts)})"


_SHOWN = ("id", "task", "args", "kwargs", "error")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def read(queue: str, raw: bytes) -> Letter:
    """Read a dead letter, whoever wrote it."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except Exception:  # whatever decoding raises: the list holds what plain clients pushed, too
        fields = {}
    return Letter(queue, raw, fields, wire.read_error(raw) or wire.Error(reason=""))


def letters(store: Store, queue: str) -> Iterator[Letter]:
    """Read a queue's dead letters, newest first, as far as they are asked for.

    Raises:
        StoreError: Redis did not answer.
    """
    dead, start = keys_of(queue).dead, 0
    while page := store.run(op.peek(dead, start, start + PAGE - 1)):
        yield from (read(queue, raw) for raw in page)
        start += PAGE


@dataclass(slots=True)
class Choice:
    """Which dead letters are meant: some by id, those with a reason, or all.

    Attributes:
        ids: these.
        reason: or those with this reason.
        everything: or all.
        found: the ids that were met.
        chosen: how many it chose.
    """

    ids: frozenset[str]
    reason: str | None
    everything: bool
    found: set[str] = field(default_factory=set)
    chosen: int = 0

    def __call__(self, raw: bytes) -> bool:
        """Whether a letter is meant."""
        letter = read("", raw)
        if self.ids:
            meant = letter.id in self.ids
            self.found |= {letter.id} if meant else set()
        else:
            meant = self.everything or letter.error.reason == self.reason
        self.chosen += meant
        return meant

    @property
    def missing(self) -> list[str]:
        """The ids that were not met."""
        return sorted(self.ids - self.found)

    @property
    def failed(self) -> bool:
        """Whether what was asked for was not there; all of nothing is there."""
        return bool(self.missing) or (self.reason is not None and not self.chosen)


def choice(ids: Sequence[str], *, reason: str | None, everything: bool) -> Choice:
    """Read the choice of a command line.

    Raises:
        InvalidJob: it does not say exactly one thing.
    """
    if [bool(ids), reason is not None, everything].count(True) != 1:
        raise InvalidJob("say which dead letters: their ids, or --reason REASON, or --all")
    return Choice(frozenset(ids), reason, everything)
