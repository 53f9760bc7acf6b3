"""The web application: the page, the API, the metrics, the probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp

from headrace import __version__
from headrace.access import Tokens
from headrace.app import Headrace
from headrace.doctor.places import PLACES, key_of
from headrace.errors import StoreError
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.leasing import Leases, Lines
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from headrace.web.access import Check, allowed, may_use_all
from headrace.web.answers import answer
from headrace.web.api import api
from headrace.web.filters import FILTERS
from headrace.web.guard import LOOPBACK, Guard
from headrace.web.limits import Limits
from headrace.web.metrics import Metrics
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
    site = create_site(headrace, store, updates=updates, lines=lines, leads=leads)
    # Around Starlette's own outermost part, which answers what nobody foresaw.
    return Guard(Check(Limits(site), access.tokens), access.hosts)


def create_site(
    headrace: Headrace,
    store: AsyncStore,
    *,
    updates: Updates | None = None,
    lines: Lines | None = None,
    leads: Callable[[], bool] = lambda: False,
) -> Starlette:
    """Make what stands behind the guard: see ``create_app``."""
    reader = Reader(store, headrace)
    updates = updates or Updates(reader)
    lines = lines or Lines(store, Leases(store, headrace), LABEL, LeasePolicy())
    pages = Pages(headrace, reader, updates)
    return Starlette(
        routes=[
            Route("/", allowed(pages.home, "look")),
            Route("/healthz", pages.alive),
            Route("/readyz", pages.ready),
            Route("/metrics", allowed(Metrics(reader, leads).scrape, "look")),
            *api(headrace, store, reader, updates, lines).routes(),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ],
        exception_handlers=HANDLERS,
    )


class Pages:
    """The page, and the probes."""

    def __init__(self, headrace: Headrace, reader: Reader, updates: Updates) -> None:
        self._headrace = headrace
        self._reader = reader
        self._updates = updates
        self._templates = Jinja2Templates(_HERE / "templates")
        self._templates.env.filters |= FILTERS

    async def home(self, request: Request) -> Response:
        """Show the queues as they are; the page's script then shows them live."""
        may_use_all(request)
        k = keys_of(request.query_params.get("queue") or self._headrace.queue)
        view, trouble = None, ""
        try:
            view = await self._updates.current(k.queue)
        except StoreError:
            trouble = "Redis does not answer"
        except TimeoutError:
            trouble = await self._updates.why_late()
        shown = {
            "queue": k.queue,
            "keys": {place: key_of(k, place) for place in PLACES},
            "view": view,
            "trouble": trouble,
            "redis": str(self._headrace.redis_url),
            "version": __version__,
        }
        return self._templates.TemplateResponse(request, "home.html", shown)

    async def alive(self, _: Request) -> Response:
        """Answer that the process is there."""
        return answer({"alive": True})

    async def ready(self, _: Request) -> Response:
        """Answer whether Redis answers."""
        if error := await self._reader.why_down():
            return answer({"ready": False, "error": error}, 503)
        return answer({"ready": True})
