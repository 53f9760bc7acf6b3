"""``headrace info``: where jobs are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, known_queues, server_at
from headrace.cli.flags import Json, Seconds, help_page
from headrace.cli.overview import Overview
from headrace.cli.watching import LEAST_S, redraw
from headrace.keys import keys_of
from headrace.partitions import view
from headrace.settings import redis_url
from headrace.store import Store

if TYPE_CHECKING:
    from rich.console import RenderableType


@help_page
def info(
    *queues: Annotated[str, Parameter(name="QUEUE", help="Only these.")],
    watch: Annotated[
        bool, Parameter(alias="-f", help="Look again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[Seconds, Parameter(help="How long between two looks of --watch.")] = 1.0,
    json: Json = False,
    connection: Connection = Connection(),
) -> int:
    """See where jobs are.

    $ headrace info
    $ headrace info emails --watch
    $ headrace info --json | jq '.queues[] | {queue, waiting, oldest_s}'

    Waiting is what a consumer could take now; dead is what failed for good (headrace dlq list).
    Oldest is the age of the job that is next, by the clock of the producer that made it.
    """
    with connection.store() as store:
        if not watch:
            seen = _look(store, queues)
            # Only what is shown is made: there may be 10,000 queues.
            output.show(json and seen.as_json(), seen.lines(counters=bool(queues)), json=json)
        elif json or not output.on_terminal():
            _print_looks(store, queues, max(LEAST_S, interval), json=json)
        else:
            redraw(Looks(store, queues).drawn, interval)
    return 0


def _look(store: Store, queues: Sequence[str], before: Overview | None = None) -> Overview:
    """Look once; ``before``: what was seen last, so that it can be told how fast queues are.

    Raises:
        StoreError: Redis cannot be reached, or will not do.
    """
    where = redis_url(store.url)
    named = [keys_of(queue).queue for queue in queues]  # an invalid name is refused at once
    server = server_at(where)
    parts = store.follow(view.look(named))
    counts = op.snapshots([keys_of(name) for name in known_queues(store, named, parts)])
    with ThreadPoolExecutor(2) as pool:  # Redis counts for one while the other reads
        found = op.snapshots_of(pool.map(store.run, counts))
    seen = view.joined(found, parts)
    return Overview(str(where), server, seen, before.snapshots if before else ())


def _print_looks(store: Store, queues: Sequence[str], interval_s: float, *, json: bool) -> None:
    pause = threading.Event()
    while True:
        seen = _look(store, queues)
        output.show(json and seen.as_json(), seen.log_lines(), json=json, compact=True)
        output.flush()
        pause.wait(interval_s)


class Looks:
    """Looks at queues, one after the other, each of which knows the one before.

    Args:
        store: the Redis.
        queues: these; none for all.
    """

    def __init__(self, store: Store, queues: Sequence[str] = ()) -> None:
        self._store = store
        self._queues = queues
        self._seen: Overview | None = None

    def drawn(self) -> RenderableType:
        """Look once; return what is drawn of it.

        Raises:
            StoreError: Redis cannot be reached, or will not do.
        """
        from rich.console import Group

        self._seen = seen = _look(self._store, self._queues, self._seen)
        return Group(seen.server_line(), "", seen.table().drawn())
