"""``headrace info``: where jobs are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter

from headrace import logs
from headrace import operations as op
from headrace.cli import output
from headrace.cli.connection import answers, connected, known_queues
from headrace.cli.flags import Json, LogLevel, Url, help_page
from headrace.cli.overview import Look
from headrace.clock import monotonic
from headrace.errors import StoreError, StoreUnavailable
from headrace.keys import keys_of
from headrace.settings import RedisUrl, redis_url
from headrace.store import Store, advice, probe

QueueNames: TypeAlias = Annotated[str, Parameter(name="QUEUE", help="Only these.")]
Watch: TypeAlias = Annotated[
    bool, Parameter(("--watch", "-f"), help="Look again and again, until Ctrl-C.")
]
Interval: TypeAlias = Annotated[
    float, Parameter(metavar="SECONDS", help="How long between two looks of --watch.")
]

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

    Waiting is what a consumer could take now; dead is what failed for good (headrace dlq list).
    Oldest is the age of the job that is next, by the clock of the producer that made it.
    """
    logs.configure(log_level)
    with connected(url) as store:
        eye = _Eye(redis_url(url), store, queues)
        if not watch:
            look = eye.look()
            if json:
                output.say_json(look.as_json())
            else:
                look.say(counters=bool(queues))
        elif json or not output.on_terminal():
            _watch_lines(eye, max(_LEAST_S, interval), json=json)
        else:
            _watch_live(eye, max(_LEAST_S, interval))
    return 0


class _Eye:
    """Looks at queues again and again, and counts what was done in between."""

    def __init__(self, where: RedisUrl, store: Store, queues: Sequence[str]) -> None:
        self._where = where
        self._store = store
        self._queues = [keys_of(queue).queue for queue in queues]  # an invalid name is refused
        self._done: dict[str, int] = {}
        self._looked_at = 0.0

    def look(self) -> Look:
        """Look once.

        Raises:
            StoreError: Redis cannot be reached, or will not do.
        """
        server = probe(self._where.url)
        if server is None:
            raise StoreUnavailable(f"no Redis at {self._where}. {advice(self._where.url)}")
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
        return Look(str(self._where), server, snapshots, rates)


def _watch_lines(eye: _Eye, interval_s: float, *, json: bool) -> None:
    pause = threading.Event()
    while True:
        look = eye.look()
        if json:
            output.say_json(look.as_json(), lines=True)
        else:
            look.say_lines()
        output.flush()
        pause.wait(interval_s)


def _watch_live(eye: _Eye, interval_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    pause = threading.Event()
    seen: Any = ""
    # What is drawn ends with an empty line: there Ctrl-C leaves its ^C, and is drawn over.
    with Live(auto_refresh=False) as live:
        while output.on_terminal():  # it may be closed without a signal to us
            try:
                look = eye.look()
                seen = shown = Group(look.server_line(), "", look.table(), "")
            except StoreError as error:
                shown = Group(Text(str(error), style="red"), "", seen)
            live.update(shown, refresh=True)
            pause.wait(interval_s)
