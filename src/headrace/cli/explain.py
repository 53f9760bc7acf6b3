"""``headrace explain``: where a job is, and why it does not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Final

from cyclopts import Parameter

from headrace import doctor
from headrace.cli import output
from headrace.cli.connection import Connection, PassingOver, known_queues
from headrace.cli.flags import ALL, Json, Leases, Most, Queue, help_page
from headrace.cli.output import Line, paragraph
from headrace.doctor import Explanation

_STYLES: Final = {
    "dead": "bold red",
    "delayed": "yellow",
    "done": "green",
    "pending": "cyan",
    "processing": "green",
    "unknown": "yellow",
    "waiting": "cyan",
}


@help_page
def explain(
    job_id: Annotated[str, Parameter(name="ID", help="Its id, as produce printed it.")],
    /,
    queue: Queue = None,
    *,
    search: Most = 100_000,
    json: Json = False,
    leases: Leases = Leases(),
    connection: Connection = Connection(),
) -> int:
    """Say where a job is, and why it does not run.

    $ headrace explain 06f8c1…
    $ headrace explain 06f8c1… --queue emails --json

    A job that waits is looked for in its queue, one by one, up to --search. Exit code: 0 it is
    there, or its end is known; 1 nothing is known of it.
    """
    everywhere: list[Explanation] = []
    passing_over = PassingOver()
    with connection.store() as store:
        policy = leases.policy()
        for name in known_queues(store, [queue]):
            with passing_over(name):
                seen = store.follow(doctor.locate(name, job_id, most=search or ALL))
                everywhere.append(doctor.explain(seen, policy))
    found = [one for one in everywhere if one.state != "unknown"]
    shown = found or everywhere
    output.show([asdict(one) for one in shown], _lines(shown, known=bool(found)), json=json)
    return 0 if found else passing_over.exit_code


def _lines(shown: Sequence[Explanation], *, known: bool) -> Iterator[Line]:
    if not known and len(shown) > 1:
        yield from _nowhere(shown)
        return
    for number, one in enumerate(shown):
        if number:
            yield ""
        task = f", task {one.task}" if one.task else ""
        yield ((f"job {one.id}", "bold"), (f" in queue {one.queue}{task}", ""))
        yield from paragraph(one.headline, indent=2, style=_STYLES.get(one.state, ""))
        for reason in one.reasons:
            yield from paragraph(reason, indent=2)
        if one.todo:
            yield from paragraph(one.todo, first="→ ", indent=2)


def _nowhere(shown: Sequence[Explanation]) -> Iterator[Line]:
    yield ((f"job {shown[0].id}", "bold"),)
    queues = ", ".join(one.queue for one in shown)
    yield from paragraph(f"in none of the queues {queues}", indent=2, style=_STYLES["unknown"])
    for reason in dict.fromkeys(reason for one in shown for reason in one.reasons):
        yield from paragraph(reason, indent=2)
