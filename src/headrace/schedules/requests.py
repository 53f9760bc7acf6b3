"""What schedules ask of Redis: each transition is a script of this part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any, Final, Literal, NamedTuple

import msgspec

from headrace import keys
from headrace.keys import keys_of
from headrace.operations import Operation, command, is_one, run, text, texts
from headrace.schedules.definition import Definition
from headrace.schedules.step import Step

_REMEMBERED_MS: Final = 604_800_000
"""How long it is known which tick has fired: a leader that has died in between is replaced in seconds."""

_ALL: Final = (keys.SCHEDULES, keys.SCHEDULE_DUE, keys.SCHEDULE_STATE)


class State(msgspec.Struct, frozen=True):
    """What is known of a schedule beside its definition; instants by Redis' clock, ms; 0 never.

    Attributes:
        fired: ticks that fired.
        missed: ticks that did not.
        last_due: the last tick that fired …
        last_fired_at: … and when it did.
        missed_at: when it was last noted that ticks are missed.
        declared_at: when an application last said that it declares it.
        paused: it has no ticks until it goes on.
    """

    fired: int = 0
    missed: int = 0
    last_due: int = 0
    last_fired_at: int = 0
    missed_at: int = 0
    declared_at: int = 0
    paused: bool = False


class Due(NamedTuple):
    """A schedule with a tick that is due: its name, the tick, and its definition, or b""."""

    name: bytes
    due_ms: int
    raw: bytes


class Seen(NamedTuple):
    """A look at all schedules: the time, when the next tick comes (None: none), and what is due."""

    now_ms: int
    next_ms: int | None
    due: list[Due]


class Stored(NamedTuple):
    """One schedule as it stands in Redis; None and b"" for what does not."""

    raw: bytes
    due_ms: int | None
    state: State


def digest(raw: bytes) -> str:
    """Return what scripts know a definition by."""
    return sha1(raw, usedforsecurity=False).hexdigest()


def look(limit: int) -> Operation[Seen]:
    """Tell which schedules are due: so many at most."""

    def parse(raw: Any) -> Seen:
        due = [Due(name, int(float(at)), definition) for name, at, definition in raw[2]]
        return Seen(raw[0], int(float(raw[1])) if raw[1] else None, due)

    return run("schedules/look", _ALL[:2], (limit,), parse)


TickAnswer = Literal["ok", "stale", "early"]


def tick(
    name: bytes, definition: Definition, raw: bytes, step: Step, *, fired: bool = False
) -> Operation[TickAnswer]:
    """Carry out a step of a schedule; ``fired``: its jobs are enqueued already."""
    k, count = keys_of(definition.queue), len(step.fires)
    args = (name, step.due_ms, digest(raw), step.last_ms, step.next_ms, step.missed, k.queue, count)
    if fired:
        return run("schedules/tick", (*_ALL, keys.QUEUES), args, _answer)
    used = (*_ALL, keys.QUEUES, k.pending, k.priority, k.delayed, k.nudge, k.stats)
    jobs = [definition.job_of(name.decode(), at) for at in step.fires]
    return run("schedules/tick", used, (*args, *jobs), _answer)


def fire(name: bytes, definition: Definition, step: Step) -> Operation[int]:
    """Enqueue the jobs of a step whose schedule is on another node; return how many are new."""
    k = keys_of(definition.queue)
    used = (f"{k.queue}:ticks", k.pending, k.priority, k.delayed, k.nudge, k.stats)
    jobs = [part for at in step.fires for part in (at, definition.job_of(name.decode(), at))]
    return run("schedules/fire", used, (name, _REMEMBERED_MS, *jobs), int)


def put(
    name: str, raw: bytes, *, instead_of: bytes, next_ms: int, keeps: bool, declared: bool
) -> Operation[bool]:
    """Put a schedule there; False when what it replaces is not there any more, or is new.

    Args:
        name: its name.
        raw: its definition.
        instead_of: the one that it replaces; b"" if it is to be new.
        next_ms: its next tick …
        keeps: … unless it has one already.
        declared: an application declares it.
    """
    replaced = digest(instead_of) if instead_of else ""
    args = (name, raw, replaced, next_ms, int(keeps), int(declared))
    return run("schedules/put", _ALL, args, lambda answer: text(answer) == "ok")


def declare(names: Sequence[str]) -> Operation[list[str]]:
    """Note that schedules are declared; return those that are not there."""
    return run("schedules/declare", (_ALL[0], _ALL[2]), names, texts)


PauseAnswer = Literal["ok", "same", "missing", "conflict"]


def pause(name: str) -> Operation[PauseAnswer]:
    """Let a schedule have no ticks."""
    return run("schedules/pause", _ALL, (name, "1", "", ""), _answer)


def resume(name: str, raw: bytes, next_ms: int) -> Operation[PauseAnswer]:
    """Let a schedule go on with a tick that was computed from a definition."""
    return run("schedules/pause", _ALL, (name, "0", digest(raw), next_ms), _answer)


def remove(name: str) -> Operation[bool]:
    """Remove a schedule; return whether it was there."""
    return run("schedules/remove", _ALL, (name,), is_one)


def definitions(names: Sequence[str]) -> Operation[list[bytes]]:
    """Read definitions; b"" for those that are not there."""
    return command("HMGET", keys.SCHEDULES, *names, parse=lambda raw: [one or b"" for one in raw])


def everything() -> list[Operation[Any]]:
    """Read all schedules: to be put together by ``together``."""
    return [
        command("HGETALL", keys.SCHEDULES, parse=_pairs),
        command("ZRANGE", keys.SCHEDULE_DUE, 0, -1, "WITHSCORES", parse=_pairs),
        command("HGETALL", keys.SCHEDULE_STATE, parse=_pairs),
    ]


def together(
    found: dict[bytes, bytes], due: dict[bytes, bytes], states: dict[bytes, bytes]
) -> dict[str, Stored]:
    """Put together what ``everything`` has read, in the order of the names."""
    stored: dict[str, Stored] = {}
    for name in sorted({*found, *due}):
        at = due.get(name)
        due_ms = None if at is None else int(float(at))
        stored[name.decode(errors="replace")] = Stored(
            found.get(name, b""), due_ms, read_state(states.get(name, b""))
        )
    return stored


def read_state(raw: bytes) -> State:
    """Read a state; one that somebody else has written counts as none."""
    try:
        return msgspec.json.decode(raw, type=State)
    except msgspec.DecodeError:
        return State()


def _pairs(raw: Iterable[bytes]) -> dict[bytes, bytes]:
    flat = list(raw)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _answer(raw: Any) -> Any:
    return text(raw)
