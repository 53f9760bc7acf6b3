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
from headrace.cli.flags import Json, LogLevel, Url
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


def info(
    *queues: QueueNames,
    watch: Watch = False,
    interval: Interval = 1.0,
    json: Json = False,
    url: Url = None,
    log_level: LogLevel = "warning",
) -> int:
    """See where jobs are.

        headrace info
        headrace info emails --watch
        headrace info --json | jq '.queues[] | {queue, waiting, oldest_s}'

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
