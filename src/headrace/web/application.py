"""The web application: the pages, the API, the metrics, the probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from headrace.access import Tokens
from headrace.app import Headrace
from headrace.keys import CONNECTION_PREFIX
from headrace.leasing import Leases, Lines
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.access import Check, Door, allowed
from headrace.web.answers import answer
from headrace.web.api import api
from headrace.web.guard import LOOPBACK, Guard
from headrace.web.limits import Limits
from headrace.web.metrics import Metrics
from headrace.web.pages import Shell, routes
from headrace.web.problems import HANDLERS
from headrace.web.reader import Reader
from headrace.web.updates import Updates

LABEL: Final = f"{CONNECTION_PREFIX}server"
"""What the server's connections are called."""

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Access:
    """Who may reach a server.

    Attributes:
        tokens: those that it asks for; None: whoever reaches it may do everything.
        hosts: under which names it is reached; None: under any.
        certificate: the files of its certificate and of the key to that, for https.
    """

    tokens: Tokens | None = None
    hosts: Sequence[str] | None = LOOPBACK
    certificate: tuple[Path, Path] | None = None

    @property
    def secure(self) -> bool:
        """Whether it is reached by https."""
        return self.certificate is not None


LOCAL: Final[Access] = Access()
"""Whoever is on this machine may do everything."""


def create_app(
    headrace: Headrace,
    store: AsyncStore,
    *,
    updates: Updates | None = None,
    lines: Lines | None = None,
    leads: Callable[[], bool] = lambda: False,
    access: Access = LOCAL,
) -> ASGIApp:
    """Make the web application of a server.

    Args:
        headrace: through which jobs are enqueued.
        store: through which queues are read; closed by whoever made it.
        updates: the live updates, for whoever wants to close them.
        lines: let consumers wait for jobs; likewise.
        leads: tells whether this server does the maintenance.
        access: who may reach it, and how.
    """
    parts: dict[str, Any] = {"updates": updates, "lines": lines, "leads": leads}
    door = Door(access.tokens)
    site = create_site(headrace, store, **parts, door=door, secure=access.secure)
    # Around Starlette's own outermost part, which answers what nobody foresaw.
    return Guard(Check(Limits(site), door), access.hosts)


def create_site(
    headrace: Headrace,
    store: AsyncStore,
    *,
    updates: Updates | None = None,
    lines: Lines | None = None,
    leads: Callable[[], bool] = lambda: False,
    door: Door | None = None,
    secure: bool = False,
) -> Starlette:
    """Make what stands behind the guard: see ``create_app``; there, who may reach it makes a door."""
    reader = Reader(store, headrace)
    updates = updates or Updates(reader)
    lines = lines or Lines(store, Leases(store, headrace), LABEL, LeasePolicy())
    shell, probes = Shell(headrace, reader, door or Door(None)), Probes(reader)
    endpoints = api(headrace, store, reader, updates, lines)
    return Starlette(
        routes=[
            *endpoints.routes(),  # looked through in order, and these are asked for most
            Route("/healthz", probes.alive),
            Route("/readyz", probes.ready),
            Route("/metrics", allowed(Metrics(reader, leads).scrape, "look")),
            *routes(shell, endpoints, store, updates, lines.policy, secure=secure),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ],
        exception_handlers={kind: shell.for_people(one) for kind, one in HANDLERS.items()},
    )


class Probes:
    """What others ask to learn whether the server is there, and of use."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def alive(self, _: Request) -> Response:
        """Answer that the process is there."""
        return answer({"alive": True})

    async def ready(self, _: Request) -> Response:
        """Answer whether Redis answers."""
        if error := await self._reader.why_down():
            return answer({"ready": False, "error": error}, 503)
        return answer({"ready": True})
