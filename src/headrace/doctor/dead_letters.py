"""Dead letters: read, grouped by what went wrong, put back, deleted. For the command line and the API."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from headrace import operations as op
from headrace import redaction, wire
from headrace.fields import body_of
from headrace.flows import Flow, chunks
from headrace.keys import Keys
from headrace.operations import Operation
from headrace.scripts import MAX_BYTES, MAX_ITEMS

Chosen: TypeAlias = Callable[[bytes], bool]
"""Whether a letter is meant, by its bytes."""

Progress: TypeAlias = Callable[[int], None]
"""Is told how many are done."""

_FIRST_STEP: Final = 10  # letters
# What differs between two failures of one kind: ids, numbers, addresses, what stands in quotes.
_VARIES: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F-]{16,}|\d+|'[^']*'|\"[^\"]*\"")

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


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

    @property
    def kind(self) -> str:
        """What letters have in common that died of the same: twelve letters."""
        first_line = self.error.message.partition("\n")[0]
        same = (self.error.reason, self.task, self.error.type, _VARIES.sub("*", first_line))
        return hashlib.sha256("\0".join(same).encode(errors="replace")).hexdigest()[:12]

    def _text(self, name: str) -> str:
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""


def read(queue: str, raw: bytes) -> DeadLetter:
    """Read a dead letter, whoever wrote it; what is to be hidden is hidden in all but its bytes."""
    shown = redaction.shown(raw)
    try:
        fields = _decode(shown)
    except Exception:  # whatever decoding raises: the list holds what plain clients pushed, too
        fields = {}
    return DeadLetter(queue, raw, fields, wire.read_error(shown) or wire.Error(reason=""))


class Page(NamedTuple):
    """Some letters, newest first.

    Attributes:
        letters: those that are meant.
        searched: how many were read.
        offset: where to go on, from the newest; None: there are no more.
    """

    letters: list[DeadLetter]
    searched: int
    offset: int | None


def page(
    k: Keys, meant: Callable[[DeadLetter], bool], offset: int, count: int, most: int
) -> Flow[Page]:
    """Read so many letters that are meant, newest first, looking at so many at most.

    Letters that come meanwhile push the others on: one may be seen twice, none is passed over.
    """
    found: list[DeadLetter] = []
    start, step = offset, _FIRST_STEP
    while len(found) < count and offset - start < most:
        asked = min(step, most - (offset - start))
        raws: list[bytes] = yield op.peek(k.dead, offset, offset + asked - 1)
        ends, step = len(raws) < asked, _next_step(step, raws)
        for raw in raws:
            offset += 1
            if meant(letter := read(k.queue, raw)):
                found.append(letter)
            if len(found) == count:
                return Page(found, offset - start, offset)
        if ends:
            return Page(found, offset - start, None)
    return Page(found, offset - start, offset)


def redrive(k: Keys, chosen: Chosen, progress: Progress, most: int | None = None) -> Flow[int]:
    """Put letters back to where jobs wait, oldest first, so many at most; return how many."""

    def act(letters: Sequence[bytes]) -> Operation[int]:
        return op.redrive(k, [(letter, wire.redriven(letter)) for letter in letters])

    # Each travels twice: as it is, and as it becomes.
    return (yield from _each(k, chosen, progress, act=act, most=most, max_bytes=MAX_BYTES // 2))


def purge(k: Keys, chosen: Chosen, progress: Progress, most: int | None = None) -> Flow[int]:
    """Delete letters for good, oldest first, so many at most; return how many."""
    return (
        yield from _each(
            k, chosen, progress, act=partial(op.purge, k), most=most, max_bytes=MAX_BYTES
        )
    )


def _each(
    k: Keys,
    chosen: Chosen,
    progress: Progress,
    *,
    act: Callable[[Sequence[bytes]], Operation[int]],
    most: int | None,
    max_bytes: int,
) -> Flow[int]:
    """Do something with letters, oldest first, page by page: from that end, which nobody adds to."""
    done, passed, ends, step = 0, 0, False, _FIRST_STEP
    while not ends and (most is None or done < most):
        page: list[bytes] = yield op.peek(k.dead, -passed - step, -passed - 1)
        ends, step = len(page) < step, _next_step(step, page)
        meant = [letter for letter in reversed(page) if chosen(letter)]
        passed += len(page) - len(meant)
        if most is not None:
            meant = meant[: most - done]
        for some in chunks(meant, max_bytes):
            done += yield act(some)
            progress(done)
    return done


def _next_step(step: int, read: Sequence[bytes]) -> int:
    """Return how many letters to read next: more and more, but not much over 1 MiB."""
    mean = 1 + sum(map(len, read)) // max(1, len(read))
    return max(1, min(MAX_ITEMS, 4 * step, MAX_BYTES // mean))


def edited(letter: bytes, **changes: Any) -> bytes:
    """Return the job that a letter becomes when it goes back with other arguments.

    Raises:
        ValueError: it is no job.
    """
    parts = wire.split(wire.redriven(letter))
    if parts is None:
        raise ValueError("it is no job that Headrace has written")
    head, body = parts
    fields = _decode_raw(b"{" + body.lstrip(b","))
    fields |= {name: msgspec.Raw(_encode(value)) for name, value in changes.items()}
    return wire.join(head, body_of(fields))


@dataclass(slots=True)
class Group:
    """Letters that died of the same.

    Attributes:
        sample: one of them, the newest.
        count: how many there are.
        first_ms: when the first of them died, as far as that is known …
        last_ms: … and the last.
    """

    sample: DeadLetter
    count: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def add(self, letter: DeadLetter) -> None:
        """Count one more."""
        self.count += 1
        if at_ms := letter.error.failed_at:
            self.first_ms = min(self.first_ms or at_ms, at_ms)
            self.last_ms = max(self.last_ms, at_ms)


def group(k: Keys, groups: dict[str, Group], most: int) -> Flow[Page]:
    """Add the newest letters, so many at most, to groups by their kind; return how far that was."""

    def add(letter: DeadLetter) -> bool:
        groups.setdefault(letter.kind, Group(letter)).add(letter)
        return False

    return (yield from page(k, add, 0, 1, most))
