"""``headrace explain``: where a job is, and why it does not run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace import doctor, logs
from headrace.cli import output
from headrace.cli.connection import connected, known_queues
from headrace.cli.flags import POLICY, BareLease, Json, Lease, LogLevel, Queue, Url, help_page
from headrace.cli.prose import say_paragraph, say_styled
from headrace.doctor import Explanation
from headrace.errors import StoreRefused
from headrace.keys import keys_of
from headrace.policy import LeasePolicy
from headrace.store import Store

JobId: TypeAlias = Annotated[str, Parameter(name="ID", help="Its id, as produce printed it.")]
Search: TypeAlias = Annotated[
    int,
    Parameter(
        metavar="N", validator=Number(gte=0), help="Read so many jobs of each list; 0 all of them."
    ),
]

_ALL: Final = 1 << 40
_STYLES: Final = {
    "dead": "bold red",
    "delayed": "yellow",
    "done": "green",
    "pending": "cyan",
    "processing": "green",
    "unknown": "yellow",
}


@help_page
def explain(
    job_id: JobId,
    /,
    queue: Queue = None,
    *,
    search: Search = 100_000,
    json: Json = False,
    lease: Lease = POLICY.lease_s,
    bare_lease: BareLease = POLICY.bare_lease_s,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Say where a job is, and why it does not run.

    $ headrace explain 06f8c1…
    $ headrace explain 06f8c1… --queue emails --json

    A job that waits is looked for in its queue, one by one, up to --search. Exit code: 0 it is
    there, or its end is known; 1 nothing is known of it.
    """
    logs.configure(log_level)
    policy = LeasePolicy(lease_s=lease, bare_lease_s=bare_lease)
    with connected(url) as store:
        names = known_queues(store, [keys_of(queue).queue] if queue else [])
        everywhere = [
            one for name in names if (one := _one(store, name, job_id, policy, search or _ALL))
        ]
    found = [one for one in everywhere if one.state != "unknown"]
    shown = found or everywhere
    if json:
        output.say_json([asdict(one) for one in shown])
        return 0 if found else 1
    if not found and len(everywhere) != 1:
        _say_nowhere(everywhere)
        return 1
    for number, one in enumerate(shown):
        if number:
            output.say()
        _say(one)
    return 0 if found else 1


def _one(
    store: Store, queue: str, job_id: str, policy: LeasePolicy, most: int
) -> Explanation | None:
    try:
        return doctor.explain(store.follow(doctor.locate(queue, job_id, most=most)), policy)
    except StoreRefused as error:  # one queue's keys may be another program's
        see = doctor.command("doctor", of=queue)
        output.complain(f"queue {queue} cannot be read: {error}; see {see}")
        return None


def _say(one: Explanation) -> None:
    task = f", task {one.task}" if one.task else ""
    say_styled((f"job {one.id}", "bold"), (f" in queue {one.queue}{task}", ""))
    say_paragraph(one.headline, first="  ", indent=2, style=_STYLES.get(one.state, ""))
    for reason in one.reasons:
        say_paragraph(reason, first="  ", indent=2)
    if one.todo:
        say_paragraph(one.todo, first="→ ", indent=2)


def _say_nowhere(everywhere: list[Explanation]) -> None:
    if not everywhere:
        return
    say_styled((f"job {everywhere[0].id}", "bold"))
    queues = ", ".join(one.queue for one in everywhere)
    say_paragraph(f"in none of the queues {queues}", first="  ", indent=2, style=_STYLES["unknown"])
    for reason in dict.fromkeys(reason for one in everywhere for reason in one.reasons):
        say_paragraph(reason, first="  ", indent=2)
