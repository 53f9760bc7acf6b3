"""``headrace pause`` and ``headrace resume``: stop handing out a queue's jobs, and go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues
from headrace.cli.flags import help_page
from headrace.keys import keys_of
from headrace.store import Store

Queues: TypeAlias = Annotated[str, Parameter(name="QUEUE", required=True, help="These queues.")]


@help_page
def pause(*queues: Queues, connection: Connection = Connection()) -> int:
    """Stop handing out a queue's jobs.

    $ headrace pause emails
    $ headrace resume emails

    Jobs that run go on to their end; new ones are accepted, and wait.
    """
    return _turn(queues, connection, paused=True)


@help_page
def resume(*queues: Queues, connection: Connection = Connection()) -> int:
    """Hand out a paused queue's jobs again.

    $ headrace resume emails
    """
    return _turn(queues, connection, paused=False)


def _turn(queues: tuple[str, ...], connection: Connection, *, paused: bool) -> int:
    word, other = ("paused", "headrace resume") if paused else ("not paused", "headrace pause")
    with connection.store() as store:
        asked = [known_queues(store, [queue]) for queue in queues]
        changes = [_changed(store, names, paused=paused) for names in asked]
    for queue, changed in zip(queues, changes, strict=True):
        output.say(f"{queue} is {word}{'' if changed else ', as before'}")
        if changed and output.on_terminal():
            output.note(f"undo: {other} {queue}")
    return 0


def _changed(store: Store, names: Sequence[str], *, paused: bool) -> bool:
    """Pause a queue, or let it go on: all its partitions; return whether any was not so before."""
    asked = [op.pause(keys_of(name), paused=paused) for name in names]
    return any(op.unfailed(store.run_all(asked)))
