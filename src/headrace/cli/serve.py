"""``headrace serve``: a Redis if there is none, the sweep, and the page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from headrace.access import Tokens
from headrace.app import Headrace
from headrace.cli.application import load
from headrace.cli.connection import Service
from headrace.cli.flags import LeasesAndCrashes, Port, help_page
from headrace.errors import InvalidSetting

if TYPE_CHECKING:
    from headrace.web import Access
    from headrace.webhooks.hook import Webhook

log: logging.Logger = logging.getLogger(__name__)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the server listens."""

    host: Annotated[str, Parameter(metavar="HOST")] = "127.0.0.1"
    """Where it listens: a loopback address; with --tokens, any."""
    port: Port = 8390
    """Its port; 0 for a free one."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Told:
    """Who is told of what happens."""

    webhooks: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Tell the addresses in this file of dead letters, and of jobs that wait too long."""

    def hooks(self) -> list[Webhook]:
        """Read the file.

        Raises:
            InvalidSetting: it is no such file.
        """
        from headrace.webhooks.hook import read_webhooks

        return read_webhooks(self.webhooks) if self.webhooks is not None else []


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Part:
    """What part it takes."""

    read_only: Annotated[bool, Parameter(negative=())] = False
    """Take no part in keeping queues in order: for a user of Redis who may only look. Consumers do so without it."""

    def check(self, hooks: Sequence[Webhook]) -> None:
        """Check that nothing else is asked of it.

        Raises:
            InvalidSetting: it would have to write.
        """
        if self.read_only and hooks:
            raise InvalidSetting("--webhooks notes in Redis what was told: leave out --read-only")


@Parameter(name="*", group=Group("Access", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class Reached:
    """Who may reach the server, and how."""

    tokens: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Ask for one of these: see headrace token."""
    name: Annotated[list[str] | None, Parameter(metavar="HOST")] = None
    """It is reached under this name; may be repeated. Without: under any, if there are tokens."""
    tls_certificate: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """Its certificate, for https."""
    tls_key: Annotated[Path | None, Parameter(metavar="FILE")] = None
    """The key to that."""

    def access(self) -> Access:
        """Return what they say.

        Raises:
            InvalidSetting: a file is not there, or is no such file; or one option needs another one.
        """
        from headrace import web

        tokens = None if self.tokens is None else Tokens(self.tokens)
        hosts: tuple[str, ...] | None = web.LOOPBACK if tokens is None else None
        if self.name:
            hosts = (*self.name, *web.LOOPBACK)
        return web.Access(tokens, hosts, self._certificate())

    def _certificate(self) -> tuple[Path, Path] | None:
        chain, key = self.tls_certificate, self.tls_key
        if chain is None and key is None:
            return None
        if chain is None or key is None:
            raise InvalidSetting("give both --tls-certificate and --tls-key, or neither")
        for path in (chain, key):
            if not path.is_file():
                raise InvalidSetting(f"there is no file {path}")
        return chain, key


@help_page
def serve(
    *,
    address: Address = Address(),
    data_dir: Annotated[
        Path,
        Parameter(metavar="DIR", help="Where the Redis keeps its data, if it has to start one."),
    ] = Path(".headrace"),
    app: Annotated[
        str | None,
        Parameter(
            metavar="MODULE:OBJECT",
            help="Your application: what its tasks say of retries, results and limits then holds for "
            "consumers that claim over HTTP.",
        ),
    ] = None,
    told: Told = Told(),
    part: Part = Part(),
    reached: Reached = Reached(),
    leases: LeasesAndCrashes = LeasesAndCrashes(),
    service: Service = Service(),
) -> int:
    """Serve the page, the HTTP API and metrics; keep queues in order.

    $ headrace serve                          # with a Redis, if there is none
    $ headrace serve --url redis://db/0       # beside your own Redis
    $ headrace serve --app shop.jobs:app      # knowing your tasks

    With no URL given and nothing at 127.0.0.1:6379, it starts a Redis (or Valkey) there, and stops
    it when it is stopped itself; jobs stay in .headrace and are there at the next start.
    """
    service.write_logs()
    application = load(app, service.url) if app else Headrace(service.url)
    policy = leases.policy()
    access, hooks = reached.access(), told.hooks()
    part.check(hooks)
    from headrace import embedded, web
    from headrace.event_loop import new_event_loop
    from headrace.garbage import look_less_often
    from headrace.store import probe

    with embedded.ended_by_signals(lambda _number: 0):
        server = embedded.ensure_server(application.redis_url, data_dir)
        try:
            where = application.redis_url
            log.info("The queues are in %s at %s", probe(where.url), where)
            at: dict[str, Any] = asdict(address) | asdict(part)
            at |= {"policy": policy, "access": access}
            look_less_often()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(web.serve(application, **at, webhooks=hooks))
        finally:
            if server is not None:
                server.stop()
    return 0
