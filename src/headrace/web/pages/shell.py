"""What all pages have in common: how they are written, what they may show, how an action leads back to one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates
from starlette.types import ExceptionHandler

from headrace import __version__
from headrace.access import Right
from headrace.app import Headrace
from headrace.web.access import Door, who_asks
from headrace.web.filters import FILTERS
from headrace.web.problems import Refusal
from headrace.web.reader import Reader
from headrace.web.routing import root_of, wants_page

_TEMPLATES: Final = Path(__file__).parents[1] / "templates"
_MOST_FIELDS: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"

_SAID: Final[Mapping[str, str]] = {
    "paused": "The queue is paused: jobs that run go on, new ones wait.",
    "resumed": "The queue hands out jobs again.",
    "cancelled": "The job is cancelled.",
    "requested": "The job was asked to stop: it runs, and hears it at once.",
    "redriven": "{n} put back. Their attempts start anew.",
    "redriven-some": "{n} put back, and there are more: ask again.",
    "purged": "{n} deleted for good.",
    "purged-some": "{n} deleted for good, and there are more: ask again.",
    "schedule-added": "The schedule is added: whoever leads sees it within a second.",
    "schedule-paused": "The schedule has no ticks until it is resumed.",
    "schedule-resumed": "The schedule goes on with its next tick.",
    "schedule-removed": "The schedule is removed. Jobs that it has enqueued stay.",
    "workflow-cancelled": "The workflow is cancelled: nothing follows any more.",
}
"""What an action has done. In an address stands the word alone: nobody can have a page say his own sentence."""


class Place(NamedTuple):
    """Where the navigation leads.

    Attributes:
        name: of the page, as its template knows it.
        path: below where the server is mounted.
        title: what it is called.
        of_all: it is about all queues, and not for those who have some alone.
        of_queue: it takes the queue that is looked at along.
    """

    name: str
    path: str
    title: str
    of_all: bool = False
    of_queue: bool = False


_PLACES: Final = (
    Place("overview", "", "Overview", of_all=True, of_queue=True),
    Place("dead-letters", "dead-letters", "Dead letters", of_queue=True),
    Place("consumers", "consumers", "Consumers", of_all=True),
    Place("schedules", "schedules", "Schedules"),
    Place("doctor", "doctor", "Doctor", of_all=True),
    Place("under-the-hood", "under-the-hood", "Under the hood"),
)


class Shell:
    """Writes pages.

    Args:
        headrace: the application.
        reader: knows which queues there are.
        door: knows whether anybody has to sign in.
    """

    def __init__(self, headrace: Headrace, reader: Reader, door: Door) -> None:
        self.headrace = headrace
        self.reader = reader
        self.door = door
        self._templates = Jinja2Templates(_TEMPLATES)
        self._templates.env.filters |= FILTERS

    def page(self, request: Request, name: str, *, status: int = 200, **shown: Any) -> Response:
        """Write a page.

        Args:
            request: what asks for it.
            name: of its template, and of its place in the navigation.
            status: of the answer.
            shown: what its template shows.
        """
        who = who_asks(request)
        rights: tuple[Right, ...] = ("operate", "administer")
        queue = shown.setdefault("queue", self.queue_of(request))
        every = {
            "root": root_of(request.scope),
            "here": shown.pop("here", name),
            "navigation": [one for one in _PLACES if who.queues is None or not one.of_all],
            "about": queue,
            # The overview is about all queues: whoever has some alone is at home in the first of them.
            "home": f"queues/{quote(min(who.queues), safe='')}" if who.queues else "",
            "who": who,
            "signed_in": self.door.tokens is not None and bool(who.name),
            "may": {right: who.has((right,)) for right in rights},
            "said": _said(request),
            "redis": str(self.headrace.redis_url),
            "version": __version__,
        }
        return self._templates.TemplateResponse(request, f"{name}.html", every | shown, status)

    def ask(self, request: Request, **shown: Any) -> Response:
        """Write the page that asks before something is done that cannot be undone.

        Args:
            request: what asks for it; sent again as a form, it is done.
            shown: ``here``, ``title``, ``question``, ``why``, ``verb``, ``back``; ``hidden``: fields of the form.
        """
        return self.page(request, "confirm", **shown)

    def queue_of(self, request: Request) -> str:
        """Return the queue behind the ?; else the application's, or the first that whoever asks may use."""
        own = who_asks(request).queues
        usual = self.headrace.queue
        if own is not None and usual not in own:
            usual = min(own, default=usual)
        return request.query_params.get("queue") or usual

    def for_people(self, handler: ExceptionHandler) -> ExceptionHandler:
        """Return what writes a problem as a page, where a browser asks."""

        async def handle(request: Request, error: Exception) -> Response:
            response: Response = await handler(request, error)  # type: ignore[misc, arg-type]
            if not wants_page(request.scope):
                return response
            told = msgspec.json.decode(bytes(response.body))
            says = {"title": told["title"], "detail": told["detail"], "number": told["status"]}
            page = self.page(request, "problem", status=response.status_code, **says)
            for name in ("allow", "retry-after"):
                if name in response.headers:
                    page.headers[name] = response.headers[name]
            return page

        return handle


async def form_of(request: Request) -> dict[str, list[str]]:
    """Read what a form sends: the values of each field.

    Raises:
        Refusal: it is no form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise Refusal("invalid", f"send a form: Content-Type: {_FORM}")
    fields: dict[str, list[str]] = {}
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise Refusal("invalid", f"the form cannot be read: {error}") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def lead(request: Request, path: str, **asked: str | int | None) -> Response:
    """Lead to another page, as after an action: what is loaded again then is that page.

    Args:
        request: what asks for it.
        path: below where the server is mounted, its names not yet escaped.
        asked: what stands behind the ?; what is None or empty does not.
    """
    there = f"{root_of(request.scope) or './'}{quote(path)}"
    given = {name: value for name, value in asked.items() if value not in {None, ""}}
    return RedirectResponse(f"{there}?{urlencode(given)}" if given else there, 303)


def _said(request: Request) -> str:
    said = _SAID.get(request.query_params.get("done", ""), "")
    count = request.query_params.get("n", "")
    if "{n}" not in said or not (count.isascii() and count.isdigit() and len(count) < 10):
        return "" if "{n}" in said else said
    letters = "1 dead letter is" if int(count) == 1 else f"{int(count):,} dead letters are"
    return said.format(n=letters)
