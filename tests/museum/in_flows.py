"""Bugs beside the core, each one place of a script: found by the simulation on real scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.museum import in_lua, in_schedules
from tests.museum.exhibit import Exhibit
from tests.museum.in_lua import CHANGED, misprint

Patch = Callable[[pytest.MonkeyPatch], None]


def _put_in(name: str, what: str, instead: str) -> Patch:
    def patch(patch: pytest.MonkeyPatch) -> None:
        assert misprint(patch, name, what, instead), CHANGED

    return patch


EXHIBITS: Final = [
    Exhibit(
        "what follows is enqueued before anybody has looked whose the job is",
        "whoever enqueues first and acknowledges then: Celery's chains, any task that calls enqueue",
        "`commit` hands on, then looks whether the job is there",
        patch=_put_in("workflows/commit", r"^if there then\n  for", "if true then\n  for"),
        seed=10,
    ),
    Exhibit(
        "a limit of how many run at once is not looked at when one ends",
        "counters that are raised by whoever starts, and compared by nobody else",
        "`admit` lets out whoever waits",
        patch=_put_in("lanes/admit", r"if one\.most > 0 and one\.used >= .*", ""),
    ),
    Exhibit(
        "a rate is not looked at when one ends",
        "the same",
        "`admit` takes no token",
        patch=_put_in("lanes/admit", r"if one\.rate > 0 and \(one\.free < 1 .*", ""),
        seed=1,
    ),
    Exhibit("a slot is never free again", "", "see above", patch=in_lua.leaking, seed=16),
    Exhibit("a job stays in its lane", "", "see above", patch=in_lua.staying),
    Exhibit(
        "a tick is lost at a leader's death",
        "",
        "see below",
        patch=in_schedules.loses_at_death,
        seed=2,
    ),
    Exhibit(
        "missed ticks are not counted",
        "",
        "see below",
        patch=in_schedules.forgets_what_is_missed,
        seed=12,
    ),
]
