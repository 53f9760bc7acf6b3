"""``headrace move``: move a queue to another Redis."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Final

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues, server_at
from headrace.cli.flags import Json, help_page
from headrace.doctor.humanize import counted, subject
from headrace.errors import InvalidSetting, StoreError
from headrace.moving import Move
from headrace.partitions import requests
from headrace.schedules import changes
from headrace.settings import redis_url
from headrace.store import Store

_LOOK_S: Final = 0.2  # between looks at what consumers still have


@help_page
def move(
    queue: Annotated[str, Parameter(name="QUEUE", help="This queue.")],
    /,
    *,
    to: Annotated[str | None, Parameter(metavar="URL", help="Where it goes.")] = None,
    leave_running: Annotated[bool, Parameter(help="Do not wait for jobs that run.")] = False,
    back: Annotated[
        bool, Parameter(help="Put back what is on its way to a server that is gone for good.")
    ] = False,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """Move a queue to another Redis, while consumers and producers work.

    $ headrace move emails --to redis+cluster://host1,host2,host3

    Point producers and consumers to the new one first, but leave some consumers here until it is done.
    Jobs that wait are moved, with their priorities, delays, limits and keys, and so are dead letters;
    jobs that run end where they are. If it is interrupted, run it again: it goes on where it was, and
    each job is moved once.
    """
    if back == (to is not None):
        raise InvalidSetting(
            "say where the queue goes, --to URL; or --back, as headrace move --help has it"
        )
    if to is None:
        with connection.store() as source:
            names = known_queues(source, [queue])
            count = sum(Move(name, source, source).back() for name in names)
        output.show({"back": count}, [f"{counted(count, 'job')} put back"], json=json)
        return 0
    where = redis_url(to)
    server_at(where)
    with connection.store() as source, replace(connection, url=to).store() as target:
        parts = [Move(name, source, target) for name in known_queues(source, [queue])]
        if len(parts) > 1:
            target.run(requests.change(queue, source.run(requests.counts([queue]))[queue]))
        for part in parts:
            _carry_out(part, source, wait=not leave_running)
        left = sum(part.left() for part in parts)
        moved = sum((part.moved for part in parts), Counter[str]())
        schedules = [each for each in source.follow(changes.all_schedules()) if each.queue == queue]
    answer = {"queue": queue, "to": str(where), "moved": dict(moved), "left": left}
    output.show(answer, _lines(moved, str(where), left, len(schedules)), json=json)
    return 0


def _lines(moved: Counter[str], where: str, left: int, schedules: int) -> Iterator[str]:
    places = ", ".join(f"{count:,} {place}" for place, count in moved.items())
    yield f"{counted(moved.total(), 'job')} moved to {where}{f' ({places})' if places else ''}"
    if left:
        yield f"{subject(left, 'job')} still there: run this again when they have ended"
    if schedules:
        yield (
            f"{subject(schedules, 'schedule')} not moved: have the application declare what it has on the "
            "new server, add the others there, and remove them here (headrace schedule)"
        )


def _carry_out(move: Move, source: Store, *, wait: bool) -> None:
    """Move all there is, until consumers have none either, unless that is not to be waited for."""
    told = False
    try:
        move.prepare()
        with output.progress("moved", None) as progress:
            while True:
                while move.step():
                    progress(move.moved.total())
                left = move.left() if wait else 0
                if not left:
                    return
                if not told:
                    told = True
                    output.note(_waiting(left, leader=source.run(op.leader())))
                threading.Event().wait(_LOOK_S)
    except StoreError:
        output.note(
            f"{counted(move.moved.total(), 'job')} moved so far; run it again, and it goes on there"
        )
        raise


def _waiting(left: int, *, leader: str) -> str:
    said = f"waiting for {counted(left, 'job')} that consumers still have there"
    if leader:
        return said
    return f"{said}; nobody looks after those of lost consumers: start headrace serve there"
