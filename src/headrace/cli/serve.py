"""``headrace serve``: a Redis if there is none, the sweep, and the page."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace import logs
from headrace.app import Headrace
from headrace.cli.flags import (
    POLICY,
    BareLease,
    Lease,
    LogFormat,
    LogLevel,
    MaxCrashes,
    Url,
    help_page,
)
from headrace.policy import LeasePolicy

log = logging.getLogger(__name__)

Host: TypeAlias = Annotated[
    str, Parameter(metavar="HOST", help="Where the page listens: a loopback address.")
]
Port: TypeAlias = Annotated[
    int,
    Parameter(validator=Number(gte=0, lte=65_535), metavar="PORT", help="Its port; 0 a free one."),
]
DataDir: TypeAlias = Annotated[
    Path, Parameter(metavar="DIR", help="The data of the Redis, should it have to start one.")
]


@help_page
def serve(
    *,
    host: Host = "127.0.0.1",
    port: Port = 8390,
    data_dir: DataDir = Path(".headrace"),
    lease: Lease = POLICY.lease_s,
    bare_lease: BareLease = POLICY.bare_lease_s,
    max_crashes: MaxCrashes = POLICY.max_crashes,
    url: Url = None,
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> int:
    """Serve the page, the HTTP API and metrics; keep queues in order.

    $ headrace serve                          # with a Redis, if there is none
    $ headrace serve --url redis://db/0       # beside your own Redis

    With no URL given and nothing at 127.0.0.1:6379, it starts a Redis (or Valkey) there and ends it
    again when it ends itself; jobs stay in .headrace and are there at the next start.
    """
    logs.configure(log_level, json=log_format == "json")
    application = Headrace(url)
    policy = LeasePolicy(lease_s=lease, bare_lease_s=bare_lease, max_crashes=max_crashes)
    from headrace import embedded, web
    from headrace.store import probe

    with embedded.ended_by_signals(lambda _number: 0):
        server = embedded.ensure_server(application.redis_url, data_dir)
        try:
            where = application.redis_url
            log.info("The queues are in %s at %s", probe(where.url), where)
            asyncio.run(web.serve(application, host=host, port=port, policy=policy))
        finally:
            if server is not None:
                server.stop()
    return 0
