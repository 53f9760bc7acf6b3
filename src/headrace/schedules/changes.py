"""How schedules are read and changed: flows, which both stores drive."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from headrace import operations as op
from headrace.errors import InvalidSetting
from headrace.flows import Flow
from headrace.schedules import requests
from headrace.schedules.definition import Definition, checked_name, read
from headrace.schedules.requests import PauseAnswer
from headrace.schedules.schedule import Schedule, schedule_of

log: logging.Logger = logging.getLogger(__name__)

_TRIES: Final = 5  # of a change that others change meanwhile


def all_schedules() -> Flow[list[Schedule]]:
    """Read all schedules, by name."""
    now_ms, *parts = op.unfailed((yield [op.time_ms(), *requests.everything()]))
    stored = requests.together(*parts)
    return [schedule_of(name, one, int(now_ms)) for name, one in stored.items()]


def add(name: str, definition: Definition, *, replace: bool) -> Flow[bool]:
    """Put a schedule there; return whether one was there.

    Raises:
        InvalidSetting: there is one of that name, and it is not to be replaced.
    """
    raw = definition.encoded()
    checked_name(name)
    for _ in range(_TRIES):
        before, now_ms = yield from _before(name)
        if before and not replace:
            raise InvalidSetting(f"there is a schedule {name!r} already: say replace to change it")
        if (yield _put(name, definition, raw, before, now_ms)):
            return bool(before)
    raise InvalidSetting(f"schedule {name!r} is changed by others all the time: try again")


def pause(name: str) -> Flow[bool]:
    """Let a schedule have no ticks; return whether that changed anything.

    Raises:
        InvalidSetting: there is no such schedule.
    """
    answer: PauseAnswer = yield requests.pause(name)
    return _changed(name, answer)


def resume(name: str) -> Flow[bool]:
    """Let a paused schedule go on, from now; return whether that changed anything.

    Raises:
        InvalidSetting: there is no such schedule, or its definition cannot be read.
    """
    answer: PauseAnswer = "conflict"
    for _ in range(_TRIES):
        before, now_ms = yield from _before(name)
        if not before:
            return _changed(name, "missing")
        next_ms = read(before).timing.after(now_ms)
        answer = yield requests.resume(name, before, next_ms)
        if answer != "conflict":
            break
    return _changed(name, answer)


def remove(name: str) -> Flow[bool]:
    """Remove a schedule; return whether it was there."""
    found: bool = yield requests.remove(name)
    return found


def declare(declared: Mapping[str, Definition], *, replace: bool) -> Flow[None]:
    """Say which schedules the code of a running application declares.

    Those that are not there are put there. One that differs is replaced when an application starts,
    and only then: two versions that run side by side do not take turns.
    """
    names = list(declared)
    if not replace:
        names = yield requests.declare(names)  # those that are not there
    pending = names
    for _ in range(_TRIES if pending else 0):
        found, now_ms = op.unfailed((yield [requests.definitions(pending), op.time_ms()]))
        puts: dict[str, op.Operation[bool]] = {}
        for name, before in zip(pending, found, strict=True):
            raw = declared[name].encoded()
            if before != raw and (replace or not before):
                puts[name] = _put(name, declared[name], raw, before, int(now_ms))
        answers = op.unfailed((yield list(puts.values())))
        done = [name for name, is_done in zip(puts, answers, strict=True) if is_done]
        for name in done:
            log.info("schedule %s is now as this application declares it", name)
        pending = [name for name in puts if name not in done]
        if not pending:
            break
    if replace and names:
        yield requests.declare(names)


def _before(name: str) -> Flow[tuple[bytes, int]]:
    """Read a definition, and Redis' clock."""
    found, now_ms = op.unfailed((yield [requests.definitions([name]), op.time_ms()]))
    raw: Any = found
    return raw[0], int(now_ms)


def _put(
    name: str, definition: Definition, raw: bytes, before: bytes, now_ms: int
) -> op.Operation[bool]:
    keeps = False
    if before:
        with contextlib.suppress(InvalidSetting):  # what cannot be read is replaced
            keeps = read(before).timing == definition.timing  # then it goes on as it was
    next_ms = definition.timing.after(now_ms)
    return requests.put(
        name,
        raw,
        instead_of=before,
        next_ms=next_ms,
        keeps=keeps,
        declared=definition.declared,
    )


def _changed(name: str, answer: PauseAnswer) -> bool:
    if answer == "missing":
        raise InvalidSetting(f"there is no schedule {name!r}: headrace schedule list shows them")
    if answer == "conflict":
        raise InvalidSetting(f"schedule {name!r} is changed by others all the time: try again")
    return answer == "ok"
