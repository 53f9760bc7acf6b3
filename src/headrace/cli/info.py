"""``headrace info``: where jobs are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Annotated, Any, Final

from cyclopts import Parameter

from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import Connection, answers, known_queues, server_at
from headrace.cli.flags import Json
from headrace.cli.overview import Overview
from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.settings import redis_url
from headrace.store import Store

_LEAST_S: Final = 0.1


def info(
    *queues: Annotated[str, Parameter(name="QUEUE", help="Only these.")],
    watch: Annotated[
        bool, Parameter(("--watch", "-f"), help="Look again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, Parameter(metavar="SECONDS", help="How long between two looks of --watch.")
    ] = 1.0,
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
        poller = _Poller(store, queues)
        if not watch:
            seen = poller.look()
            output.show(seen.as_json(), seen.lines(counters=bool(queues)), json=json)
        elif json or not output.on_terminal():
            _print_looks(poller, max(_LEAST_S, interval), json=json)
        else:
            _redraw(poller, max(_LEAST_S, interval))
    return 0


class _Poller:
    """Looks at queues again and again, and counts what was done in between."""

    def __init__(self, store: Store, queues: Sequence[str]) -> None:
        self._where = redis_url(store.url)
        self._store = store
        self._queues = [keys_of(queue).queue for queue in queues]  # an invalid name is refused
        self._done: dict[str, int] = {}
        self._looked_at = 0.0

    def look(self) -> Overview:
        """Look once.

        Raises:
            StoreError: Redis cannot be reached, or will not do.
        """
        server = server_at(self._where)
        names = known_queues(self._store, self._queues)
        counts = op.snapshots([keys_of(name) for name in names])
        snapshots = [one for some in answers(self._store, counts) for one in some]
        before, since_s = self._done, monotonic() - self._looked_at
        self._done = {s.queue: s.counters.get("done", 0) for s in snapshots}
        self._looked_at = monotonic()
        rates = {
            name: (done - before[name]) / since_s
            for name, done in self._done.items()
            if name in before
        }
        return Overview(str(self._where), server, snapshots, rates)


def _print_looks(poller: _Poller, interval_s: float, *, json: bool) -> None:
    pause = threading.Event()
    while True:
        seen = poller.look()
        if json:
            output.say_json(seen.as_json(), lines=True)
        else:
            for line in seen.log_lines():
                output.say(line)
        output.flush()
        pause.wait(interval_s)


def _redraw(poller: _Poller, interval_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    pause = threading.Event()
    last: Any = ""
    # What is drawn ends with an empty line: there Ctrl-C leaves its ^C, and is drawn over.
    with Live(auto_refresh=False) as live:
        while output.on_terminal():  # it may be closed without a signal to us
            try:
                seen = poller.look()
                last = shown = Group(seen.server_line(), "", seen.table().drawn(), "")
            except StoreError as error:
                shown = Group(Text(str(error), style="red"), "", last)
            live.update(shown, refresh=True)
            pause.wait(interval_s)
