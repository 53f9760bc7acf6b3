"""``headrace consumers``: who runs jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

from headrace.cli import output
from headrace.cli.connection import Connection, known_queues, tell_of_broken
from headrace.cli.flags import Json, help_page
from headrace.cli.output import Column, Line, Row, Table
from headrace.doctor import consumers as looked_at
from headrace.doctor.consumers import ConsumerFacts
from headrace.doctor.humanize import span

_COLUMNS: Final = (
    Column("Consumer", "cyan", least=16),
    Column("Connected"),
    Column("Jobs"),
    Column("Queues", least=8),
    Column("State"),
)


@help_page
def consumers(*, json: Json = False, connection: Connection = Connection()) -> int:
    """List the consumers: who is connected, and who holds jobs.

    $ headrace consumers
    $ headrace consumers --json

    A consumer's name begins with its host and process, unless --name says otherwise. Queues are
    those of which it holds jobs: from which others it would take some, Redis does not know. One
    that is not connected, and holds jobs, is gone, or cut off; its jobs run again when its leases
    have run out. One over HTTP has no connection, and is seen while it holds jobs.
    """
    with connection.store() as store:
        found, broken = store.follow(looked_at.look(known_queues(store)))
    for queue, error in broken.items():
        tell_of_broken(queue, error)
    output.show([asdict(one) for one in found], _lines(found), json=json)
    return 0


def _lines(found: Sequence[ConsumerFacts]) -> Iterator[Line]:
    if found or not output.on_terminal():
        yield table_of(found)
    else:
        yield "No consumer is connected: headrace consume, with your application."


def table_of(found: Sequence[ConsumerFacts]) -> Table:
    """Return consumers as a table."""
    return Table(_COLUMNS, [_row(one) for one in found])


def _row(one: ConsumerFacts) -> Row:
    since = None if one.connected_s is None else span(one.connected_s)
    leads = ", leads" if one.leader else ""
    queues = ", ".join(one.queues) or None
    return (one.name, since, one.jobs, queues, f"{one.state}{leads}")
