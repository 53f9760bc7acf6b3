"""Bugs beside the core, each one place of a script: found by the simulation on real scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from headrace.flows import Flow
from headrace.keys import Keys
from headrace.workflows import workflow
from tests.museum import in_lua, in_schedules
from tests.museum.exhibit import Exhibit
from tests.museum.in_lua import CHANGED, misprint

Patch = Callable[[pytest.MonkeyPatch], None]


def looking_in_no_lane(patch: pytest.MonkeyPatch) -> None:
    """Who cancels a workflow looks for members where jobs wait, and lanes are no such place."""
    right = workflow._cancel_hashed

    def elsewhere(
        k: Keys, key: str, workflow_id: str, seen: set[str], tried: set[str]
    ) -> Flow[None]:
        if key != k.limited:
            yield from right(k, key, workflow_id, seen, tried)

    patch.setattr(workflow, "_cancel_hashed", elsewhere)


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
        seed=3,
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
        seed=12,
    ),
    Exhibit("a slot is never free again", "", "see above", patch=in_lua.leaking, seed=13),
    Exhibit("a job stays in its lane", "", "see above", patch=in_lua.staying),
    Exhibit(
        "a tick is lost at a leader's death",
        "",
        "see below",
        patch=in_schedules.loses_at_death,
        seed=3,
    ),
    Exhibit(
        "missed ticks are not counted",
        "",
        "see below",
        patch=in_schedules.forgets_what_is_missed,
        seed=12,
    ),
    Exhibit(
        "a tick fires twice, for two lead at once",
        "",
        "see above",
        patch=in_schedules.fires_twice,
        seed=113,
    ),
    Exhibit("a chord fires twice", "", "see above", patch=in_lua.counted_again, seed=11),
    Exhibit("a chord never fires", "", "see above", patch=in_lua.unheard, seed=1),
    Exhibit(
        "a consumer that has lost its job hands on all the same",
        "",
        "see above",
        patch=in_lua.handed_on_by_losers,
        seed=10,
    ),
    Exhibit(
        "what follows begins although all was cancelled",
        "whoever cancels jobs one by one; no issue at hand",
        "a member's end does not look at its workflow's state",
        patch=_put_in("workflows/commit", r"state ~= 'running' and state ~= 'failed' or ", ""),
        seed=1,
    ),
    Exhibit(
        "a member that waits for a limit outlives its workflow",
        "an earlier Headrace",
        "a cancel does not look into lanes",
        patch=looking_in_no_lane,
        seed=1,
    ),
]
