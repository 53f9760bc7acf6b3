"""The leader's duty: to fire the ticks that are due. Redis decides that each fires once."""

from __future__ import annotations

import logging
import math
from typing import Final, NamedTuple

from headrace.clock import monotonic
from headrace.errors import InvalidSetting, StoreError, StoreRefused
from headrace.operations import Operation
from headrace.schedules import requests
from headrace.schedules.definition import Definition, read
from headrace.schedules.requests import Due, Seen
from headrace.schedules.step import Step, step
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_AT_ONCE: Final = 100  # schedules that one turn looks after


class _Planned(NamedTuple):
    due: Due
    definition: Definition
    step: Step


class Schedules:
    """Fires the ticks of schedules, while its process leads.

    Args:
        store: the Redis.

    Attributes:
        due_at: when the next tick is due (monotonic); infinite if there is none.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self.due_at: float = math.inf
        self._asked_at = 0.0  # before the others' duties, which may take a while
        self._broken: dict[bytes, str] = {}  # what is due and cannot fire, and why

    def begin(self) -> None:
        """Note that this one leads from now on."""
        self._broken.clear()

    def look(self) -> Operation[Seen]:
        """Return the question which ticks are due."""
        self._asked_at = monotonic()
        # What is broken stands before the others for ever, and must not hold them up.
        return requests.look(min(1000, _AT_ONCE + len(self._broken)))

    async def turn(self, seen: Seen) -> bool:
        """Fire what is due; whether there is more to do at once.

        Raises:
            StoreError: Redis is away: it may have fired, and the next look will tell.
        """
        planned = [one for due in seen.due if (one := self._plan(due, seen.now_ms)) is not None]
        planned, there = await self._enqueue(planned)
        asked = [
            requests.tick(p.due.name, p.definition, p.due.raw, p.step, fired=there) for p in planned
        ]
        fired: list[_Planned] = []
        for one, answer in zip(planned, await self._store.run_all(asked), strict=True):
            if isinstance(answer, StoreError):
                self._is_broken(one.due.name, answer)
                continue
            self._broken.pop(one.due.name, None)
            if answer == "ok":
                _tell(one)
                fired.append(one)
        instants = [one.step.next_ms for one in fired]
        if seen.next_ms is not None:
            instants.append(seen.next_ms)
        next_ms = min(instants, default=math.inf)
        self.due_at = self._asked_at + max(0.0, next_ms - seen.now_ms) / 1000
        return next_ms <= seen.now_ms or len(seen.due) >= _AT_ONCE + len(self._broken)

    async def _enqueue(self, planned: list[_Planned]) -> tuple[list[_Planned], bool]:
        """Enqueue the jobs first where that cannot be the same step; return what is left to be done.

        Whoever dies in between leaves ticks that have fired and are due: they do not fire again.
        """
        if self._store.server.joins_queues or not planned:
            return planned, not self._store.server.joins_queues
        asked = [requests.fire(p.due.name, p.definition, p.step) for p in planned]
        answers = await self._store.run_all(asked)
        for one, answer in zip(planned, answers, strict=True):
            if isinstance(answer, StoreError):
                self._is_broken(one.due.name, answer)
        pairs = zip(planned, answers, strict=True)
        return [one for one, answer in pairs if not isinstance(answer, StoreError)], True

    def _plan(self, due: Due, now_ms: int) -> _Planned | None:
        try:
            due.name.decode()  # a name of ours can be read
            definition = read(due.raw)
            return _Planned(due, definition, step(definition, due.due_ms, now_ms))
        except (InvalidSetting, UnicodeDecodeError) as error:
            self._is_broken(due.name, error)
            return None

    def _is_broken(self, name: bytes, error: Exception) -> None:
        """Tell once why a schedule's ticks do not fire; they wait, and are tried again."""
        why = str(error)
        if self._broken.get(name) != why:
            said = "Redis refuses it" if isinstance(error, StoreRefused) else "it is broken"
            shown = name.decode(errors="backslashreplace")
            log.error("schedule %s has a tick that does not fire, %s: %s", shown, said, why)
        self._broken[name] = why


def _tell(one: _Planned) -> None:
    name, fires, missed = one.due.name.decode(), len(one.step.fires), one.step.missed
    if missed:
        log.warning(
            "schedule %s: %d ticks are missed, from %d to %d (ms since 1970), and %d fired: its "
            "policy is %r",
            name,
            missed,
            one.step.due_ms,
            one.step.last_ms,
            fires,
            one.definition.missed,
        )
    else:
        log.debug("schedule %s: %d fired, the last of %d", name, fires, one.step.last_ms)
