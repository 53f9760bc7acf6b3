"""``headrace info``: where jobs are."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter

from headrace import logs, wire
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import answers, connected, known_queues
from headrace.cli.flags import Json, LogLevel, Url, help_page
from headrace.cli.output import Column, Row
from headrace.clock import monotonic
from headrace.errors import StoreError, StoreUnavailable
from headrace.ids import time_ms_of
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.settings import redis_url
from headrace.store import ServerInfo, Store, probe

QueueNames: TypeAlias = Annotated[str, Parameter(help="Only these.")]
Watch: TypeAlias = Annotated[
    bool, Parameter(("--watch", "-f"), help="Look again and again, until Ctrl-C.")
]
Interval: TypeAlias = Annotated[
    float, Parameter(metavar="SECONDS", help="How often to look again, with --watch.")
]

_COLUMNS: Final = (
    Column("Queue", "bold"),
    Column("Waiting"),
    Column("Processing"),
    Column("Delayed"),
    Column("Dead", "red"),
    Column("Done"),
    Column("Done/s"),
    Column("Oldest"),
    Column("", "yellow"),
)
_RATE: Final = 6  # the column that is there with --watch alone
_LEAST_S: Final = 0.1


@help_page
def info(
    *queues: QueueNames,
    watch: Watch = False,
    interval: Interval = 1.0,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """See where jobs are.

    $ headrace info
    $ headrace info emails --watch
    $ headrace info --json | jq '.queues[] | {queue, waiting, oldest_s}'

    Waiting is what a consumer could take now, dead what failed for good (headrace dlq list).
    Oldest is the age of the job that is next, by the clock of the producer that made it.
    """
    logs.configure(log_level)
    for queue in queues:
        keys_of(queue)
    view = _View(url, queues, json=json)
    if watch:
        view.watch(max(_LEAST_S, interval))
    else:
        view.once()
    return 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen at one look: a server, its queues, and how many jobs a second were done since."""

    url: str
    server: ServerInfo
    snapshots: Sequence[Snapshot]
    rates: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        server = asdict(self.server) | {"version": ".".join(map(str, self.server.version))}
        return {"url": self.url, "server": server, "queues": [_as_json(s) for s in self.snapshots]}


class _View:
    """Looks at queues, once or again and again."""

    def __init__(self, url: str | None, queues: Sequence[str], *, json: bool) -> None:
        self._url = url
        self._queues = queues
        self._json = json
        self._done: dict[str, int] = {}
        self._looked_at = 0.0

    def once(self) -> None:
        with connected(self._url) as store:
            look = self._look(store)
        if self._json:
            output.say_json(look.as_json())
        elif output.on_terminal():
            _draw(look, named=bool(self._queues))
        else:
            _print(look)

    def watch(self, interval_s: float) -> None:
        pause = threading.Event()
        with connected(self._url) as store:
            if output.on_terminal() and not self._json:
                self._watch_live(store, pause, interval_s)
            while True:
                look = self._look(store)
                if self._json:
                    output.say_json(look.as_json(), lines=True)
                else:
                    _print_lines(look)
                pause.wait(interval_s)

    def _watch_live(self, store: Store, pause: threading.Event, interval_s: float) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        columns = list(_COLUMNS)
        with Live(auto_refresh=False) as live:
            seen = Text()
            while True:
                try:
                    look = self._look(store)
                    seen = Group(_server_line(look), "", output.drawn(columns, _rows(look)))
                    shown = seen
                except StoreError as error:
                    shown = Group(Text(str(error), style="red"), "", seen)
                live.update(shown, refresh=True)
                pause.wait(interval_s)

    def _look(self, store: Store) -> _Look:
        where = redis_url(self._url)
        server = probe(where.url)
        if server is None:
            raise StoreUnavailable(
                f"no Redis at {where}: start one with redis-server or headrace serve"
            )
        snapshots = answers(
            store, [op.snapshot(keys_of(queue)) for queue in known_queues(store, self._queues)]
        )
        now, since = monotonic(), self._looked_at
        done = {s.queue: s.counters.get("done", 0) for s in snapshots}
        rates = {
            queue: (count - self._done[queue]) / (now - since)
            for queue, count in done.items()
            if queue in self._done
        }
        self._done, self._looked_at = done, now
        return _Look(str(where), server, snapshots, rates)
