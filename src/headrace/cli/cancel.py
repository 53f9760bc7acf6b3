"""``headrace cancel``: take out waiting jobs, ask running ones to stop."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from cyclopts import Parameter

from headrace import flows, logs, results
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import connected, known_queues
from headrace.cli.flags import Json, LogLevel, Queue, Url, help_page
from headrace.errors import StoreRefused
from headrace.keys import is_name, keys_of
from headrace.store import Store

Ids: TypeAlias = Annotated[
    str, Parameter(name="ID", required=True, help="Their ids, as produce printed them.")
]
Fate: TypeAlias = Literal["cancelled", "requested", "missing"]

_SAID: Final = {"cancelled": "is cancelled", "requested": "is running, and is asked to stop"}


@help_page
def cancel(
    *ids: Ids,
    queue: Queue = None,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Cancel jobs: waiting ones are taken out, running ones are asked to stop.

    $ headrace cancel 06f8c1…
    $ headrace cancel 06f8c1… 06f8c2… --queue emails --json

    A task that runs learns of it within a third of a lease, 5 s by default, and ends as one that
    ran out of its time. A job that waits is looked for in its queue, one by one. Exit code: 0 all are cancelled or asked to stop; 1 some are not there, or are over.
    """
    logs.configure(log_level)
    found: dict[Fate, list[str]] = {"cancelled": [], "requested": [], "missing": []}
    with connected(url) as store:
        named = [keys_of(queue).queue] if queue else []
        queues = [name for name in known_queues(store, named) if is_name(name)]
        for job_id in ids:
            fate = _cancel(store, queues, job_id)
            found[fate].append(job_id)
            if fate != "missing" and not json:
                output.say(f"{job_id} {_SAID[fate]}")
    if json:
        output.say_json(found)
    if found["missing"]:
        output.complain(
            f"no job {', '.join(found['missing'])} waits or runs in {', '.join(queues)}; "
            "headrace explain ID says what is known of one"
        )
    return 1 if found["missing"] else 0


def _cancel(store: Store, queues: list[str], job_id: str) -> Fate:
    for name in queues:
        k = keys_of(name)
        try:
            runs = store.run(op.find(k, job_id, b"")).word == "processing"
            asked = flows.cancel(k, job_id, b"", result_ttl_ms=0, result=results.CANCELLED)
            if store.follow(asked):
                return "requested" if runs else "cancelled"
        except StoreRefused as error:  # one queue's keys may be another program's
            output.complain(f"queue {name} cannot be read: {error}; see headrace doctor")
    return "missing"
