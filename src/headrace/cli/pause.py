"""``headrace pause`` and ``headrace resume``: stop handing out a queue's jobs, and go on."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

from headrace import logs
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import answers, connected
from headrace.cli.flags import LogLevel, Url, help_page
from headrace.keys import keys_of

Queues: TypeAlias = Annotated[str, Parameter(name="QUEUE", required=True, help="These queues.")]


@help_page
def pause(
    *queues: Queues,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Stop handing out a queue's jobs.

    $ headrace pause emails
    $ headrace resume emails

    Jobs that run go on to their end; new ones are accepted, and wait.
    """
    return _turn(queues, paused=True, url=url, log_level=log_level)


@help_page
def resume(
    *queues: Queues,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """Hand out a paused queue's jobs again.

    $ headrace resume emails
    """
    return _turn(queues, paused=False, url=url, log_level=log_level)


def _turn(queues: tuple[str, ...], *, paused: bool, url: str | None, log_level: str) -> int:
    logs.configure(log_level)
    word, other = ("paused", "headrace resume") if paused else ("not paused", "headrace pause")
    with connected(url) as store:
        changes = answers(store, [op.pause(keys_of(queue), paused=paused) for queue in queues])
    for queue, changed in zip(queues, changes, strict=True):
        output.say(f"{queue} is {word}{'' if changed else ', as before'}")
        if changed and output.on_terminal():
            output.note(f"undo: {other} {queue}")
    return 0
