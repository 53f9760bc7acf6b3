"""``headrace cancel``: take out waiting jobs, ask running ones to stop."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from cyclopts import Parameter

from headrace import flows, results
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, PassingOver, known_queues
from headrace.cli.flags import Json, Queue, help_page
from headrace.keys import keys_of
from headrace.store import Store

Answer: TypeAlias = Literal["cancelled", "requested", "missing"]

_SAID: Final = {"cancelled": "is cancelled", "requested": "is running, and is asked to stop"}


@help_page
def cancel(
    *ids: Annotated[
        str, Parameter(name="ID", required=True, help="Their ids, as produce printed them.")
    ],
    queue: Queue = None,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Cancel jobs: waiting ones are taken out, running ones are asked to stop.

    $ headrace cancel 06f8c1…
    $ headrace cancel 06f8c1… 06f8c2… --queue emails --json

    A task that runs learns of it within a third of a lease, 5 s by default, and ends as one that
    ran out of its time. A job that waits is looked for in its queue, one by one. Exit code: 0 all
    are cancelled or asked to stop; 1 some are not there, or are over; 11 Redis does not allow it.
    """
    found: dict[Answer, list[str]] = {"cancelled": [], "requested": [], "missing": []}
    passing_over = PassingOver()
    with connection.store() as store:
        queues = known_queues(store, [queue])
        for job_id in ids:
            answer = _cancel(store, queues, job_id, passing_over)
            found[answer].append(job_id)
            if answer != "missing" and not json:
                output.say(f"{job_id} {_SAID[answer]}")
    if json:
        output.say_json(found)
    missing, looked = found["missing"], passing_over.looked_at(queues)
    if missing and looked:
        output.complain(
            f"no job {', '.join(missing)} waits or runs in {', '.join(looked)}; "
            "headrace explain ID says what is known of one"
        )
    return passing_over.exit_code if missing else 0


def _cancel(store: Store, queues: list[str], job_id: str, passing_over: PassingOver) -> Answer:
    for name in queues:
        keys = keys_of(name)
        with passing_over(name):
            runs = store.run(op.find(keys, job_id, b"")).word == "processing"
            asked = flows.cancel(keys, job_id, b"", result_ttl_ms=0, result=results.CANCELLED)
            if store.follow(asked):
                return "requested" if runs else "cancelled"
    return "missing"
