"""``headrace workflow``: how far a workflow is, and which of its members are dead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter

from headrace import redaction
from headrace.cli import output
from headrace.cli.connection import Connection, PassingOver, known_queues
from headrace.cli.flags import Json, Queue, help_page
from headrace.cli.output import Line, paragraph
from headrace.keys import keys_of
from headrace.workflows import WorkflowStatus
from headrace.workflows.workflow import cancelled, status_of

_MOST = 20  # dead members that are shown to people


@help_page
def workflow(
    workflow_id: Annotated[str, Parameter(name="ID", help="Its id, as its program knows it.")],
    /,
    queue: Queue = None,
    *,
    cancel: Annotated[bool, Parameter(help="Cancel it as a whole.")] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Say how far a workflow is, and which of its members are dead; or cancel it.

    $ headrace workflow 06f8c1…
    $ headrace workflow 06f8c1… --cancel

    When a dead member is redriven (headrace dlq redrive), its workflow goes on. Exit code: 0 it is
    there; 1 nothing is known of it, or it could not be cancelled, for it is over.
    """
    passing_over = PassingOver()
    with connection.store() as store:
        queues = known_queues(store, [queue])
        for name in queues:
            with passing_over(name):
                k = keys_of(name)
                could = not cancel or store.follow(cancelled(k, workflow_id))
                status = store.follow(status_of(k, workflow_id))
                if status.state != "unknown":
                    answer = {"id": workflow_id, "queue": name, **_plain(status)}
                    output.show(answer, _lines(workflow_id, name, status), json=json)
                    return 0 if could else 1
    if looked := passing_over.looked_at(queues):
        output.complain(
            f"nothing is known of workflow {workflow_id} in {', '.join(looked)}: it never was, or has been "
            "over for longer than its ttl"
        )
    return passing_over.exit_code


def _plain(status: WorkflowStatus) -> dict[str, Any]:
    return status._asdict() | {
        "failed": [
            one._asdict() | {"message": redaction.masked(one.message, b"")} for one in status.failed
        ]
    }


def _lines(workflow_id: str, queue: str, status: WorkflowStatus) -> Iterator[Line]:
    yield ((f"workflow {workflow_id}", "bold"), (f" at home in queue {queue}", ""))
    far = f"{status.ended:,} of {status.total:,} members have ended, {status.running:,} wait or run"
    yield from paragraph(f"{status.state}: {far}", indent=2)
    for one in status.failed[:_MOST]:
        said = f"member {one.n:,}, {one.job_id}, is dead: {one.reason} {redaction.masked(one.message, b'')}"
        yield from paragraph(said.partition("\n")[0].rstrip(), indent=2, style="bold red")
    if len(status.failed) > _MOST:
        yield from paragraph(f"… {len(status.failed):,} in all", indent=2)
