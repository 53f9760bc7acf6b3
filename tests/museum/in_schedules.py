"""Bugs of schedulers, found by the sum of a schedule's ticks while leaders overlap and die."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from headrace import operations as op
from headrace.clock import monotonic
from headrace.keys import keys_of
from headrace.schedules import Schedules, requests
from headrace.schedules.requests import Seen
from tests.museum.in_lua import misprint


def fires_twice(patch: pytest.MonkeyPatch) -> None:
    """``tick`` does not ask whether the tick that is due is still the one that was seen."""
    compares = r"if tonumber\(redis\.call\('ZSCORE', due, name\).*"
    assert misprint(patch, "schedules/tick", compares, "") == 1


def loses_at_death(patch: pytest.MonkeyPatch) -> None:
    """The next tick is set first; the job is enqueued by another request."""
    right = requests.tick
    jobs: list[tuple[str, bytes]] = []

    def without_jobs(name: bytes, definition: Any, raw: bytes, step: Any) -> Any:
        asked = right(name, definition, raw, step)
        jobs.extend((definition.queue, definition.job_of(name.decode(), at)) for at in step.fires)
        return asked._replace(args=(*asked.args[:7], 0))

    async def turn(self: Schedules, seen: Seen) -> bool:
        jobs.clear()
        planned = [one for due in seen.due if (one := self._plan(due, seen.now_ms)) is not None]
        asked = [without_jobs(p.due.name, p.definition, p.due.raw, p.step) for p in planned]
        answers = await self._store.run_all(asked)
        if "ok" in answers:
            pushes = [op.push(keys_of(queue), [job]) for queue, job in jobs]
            await self._store.run_all(pushes)
        self.due_at = monotonic()
        return any(p.step.next_ms <= seen.now_ms for p in planned)

    patch.setattr(Schedules, "turn", turn)


def forgets_what_is_missed(patch: pytest.MonkeyPatch) -> None:
    """Ticks that do not fire are passed over without a word."""
    assert misprint(patch, "schedules/tick", r"^if missed > 0 then .*", "") == 1


EXHIBITS: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "a tick fires twice, for two lead at once": fires_twice,
    "a tick is lost at a leader's death": loses_at_death,
    "missed ticks are passed over without a word": forgets_what_is_missed,
}
