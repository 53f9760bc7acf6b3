"""The keys of workflows, all in the slot of one queue: its home.

    queue:workflow:<id>          hash    what it is, how far it is, and members that wait for others
    queue:workflow:<id>:ended    string  a bit for each member that has ended
    queue:workflow:<id>:results  hash    number of a member -> what it returned, for who waits for that
    queue:workflow:<id>:rest     list    members that wait for nobody and were not enqueued yet
    queue:workflows              zset    workflows that are not over; score: since when, ms
    queue:result:<id>            list    one element: how it ended, as a job's
    queue:forwarded:<id>         string  a job has handed it on: how many members it will have; "" once it has begun; expires

Those of one workflow expire when it is over; until then it is in ``queue:workflows``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from headrace.keys import Keys


class WorkflowKeys(NamedTuple):
    """The keys of one workflow, as the scripts take them."""

    hash: str
    ended: str
    results: str
    rest: str
    unfinished: str
    told: str


def unfinished_of(k: Keys) -> str:
    """Where the workflows of a home stand that are not over."""
    return f"{k.queue}:workflows"


def workflow_keys(home: Keys, workflow_id: str) -> WorkflowKeys:
    """Return the keys of a workflow."""
    one = f"{home.queue}:workflow:{workflow_id}"
    return WorkflowKeys(
        one,
        f"{one}:ended",
        f"{one}:results",
        f"{one}:rest",
        unfinished_of(home),
        home.result(workflow_id),
    )


REMEMBERED_MS: Final = 7 * 86_400_000
"""For how long it is known that a workflow that was handed on has begun, or is not to: starters run again sooner."""


def begun_of(home: Keys, workflow_id: str) -> str:
    """Where it stands whether a workflow that a job has handed on has begun."""
    return f"{home.queue}:forwarded:{workflow_id}"


def places_of(k: Keys) -> tuple[str, ...]:
    """The keys that a script needs to accept jobs into a queue."""
    return (k.pending, k.priority, k.delayed, k.nudge, k.stats)
