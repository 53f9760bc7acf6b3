"""``headrace serve``: a Redis if there is none, the sweep, and the page."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from headrace.app import Headrace
from headrace.cli.connection import Service
from headrace.cli.flags import LeasesAndCrashes, help_page

log: logging.Logger = logging.getLogger(__name__)


@help_page
def serve(
    *,
    host: Annotated[
        str, Parameter(metavar="HOST", help="Where the page listens: a loopback address.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        Parameter(
            validator=Number(gte=0, lte=65_535), metavar="PORT", help="Its port; 0 for a free one."
        ),
    ] = 8390,
    data_dir: Annotated[
        Path,
        Parameter(metavar="DIR", help="Where the Redis keeps its data, if it has to start one."),
    ] = Path(".headrace"),
    leases: LeasesAndCrashes = LeasesAndCrashes(),
    service: Service = Service(),
) -> int:
    """Serve the page, the HTTP API and metrics; keep queues in order.

    $ headrace serve                          # with a Redis, if there is none
    $ headrace serve --url redis://db/0       # beside your own Redis

    With no URL given and nothing at 127.0.0.1:6379, it starts a Redis (or Valkey) there, and stops
    it when it is stopped itself; jobs stay in .headrace and are there at the next start.
    """
    service.write_logs()
    application = Headrace(service.url)
    policy = leases.policy()
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
