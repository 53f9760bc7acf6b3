"""The endpoints as data: the routes are made of it, and the OpenAPI document, so neither can drift."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from headrace import __version__
from headrace.access import Right
from headrace.web.access import Handle, allowed
from headrace.web.answers import JSON
from headrace.web.problems import MEDIA_TYPE, PREFIX, NotAllAccepted, Problem
from headrace.web.shapes import MORE


class _Rest(PathConvertor):
    """The rest of a path, a newline in it too, which Starlette's own ends at."""

    regex = r"[\s\S]*"


register_url_convertor("rest", _Rest())

STREAM: Final = "text/event-stream"

_ERRORS: Final = {
    400: "What was asked has no meaning; nothing happened.",
    401: "There is no token with it, or none that is known.",
    403: "The Host header names another machine, or another site's page wants to change something.",
    404: "There is no such queue.",
    409: "An earlier job has the key, and if_exists is reject; of a list, the others were enqueued.",
    413: "The job, the body or the number of jobs is over its limit; nothing was enqueued.",
    415: "The body is not application/json.",
    429: "The queue is full.",
    503: "Redis did not do what was asked.",
}
_ABOUT: Final = (
    "Jobs in, claims for consumers in any language, and an operator's view. A server that has tokens "
    "asks for one, as a bearer; one without listens on loopback alone. A body is application/json. A "
    "method that a path does not take is answered with 405 and Allow."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One request that the API takes.

    Attributes:
        path: below ``PREFIX``, in Starlette's spelling.
        handle: answers it.
        says: what it is for.
        answers: the types of good answers; none: a stream of events.
        errors: the statuses of bad ones, beside 403.
        method: the HTTP method.
        status: of a good answer.
        body: the type of what it takes.
        parameters: in the path and behind the ?, by name; each with its type, and its default
            where it may be absent.
        rights: whoever asks needs one of these.
    """

    path: str
    handle: Handle
    says: str
    answers: Sequence[Any]
    errors: Sequence[int] = ()
    method: str = "GET"
    status: int = 200
    body: Any = None
    parameters: Sequence[tuple[str, Any, Any]] = ()
    rights: tuple[Right, ...] = ("look",)

    @property
    def shown_path(self) -> str:
        """The path as OpenAPI spells it."""
        return PREFIX + re.sub(r"\{(\w+):rest\}", r"{\1}", self.path)


class _Path(Route):
    """A path with all its methods: whichever fits first has it, or ``a/cancel`` could be an id, too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the path fits; to another method ``Route`` answers with 405 and Allow."""
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child


def routes(endpoints: Sequence[Endpoint]) -> list[Route]:
    """Return a route for each path."""
    handlers: dict[str, dict[str, Handle]] = {}
    for one in endpoints:
        handlers.setdefault(one.path, {})[one.method] = allowed(one.handle, *one.rights)
    return [
        _Path(PREFIX + path, _Methods(there), methods=[*there]) for path, there in handlers.items()
    ]


class _Methods:
    """Answers the requests of one path.

    As an ASGI application: around a function Starlette puts the net for errors that it has around all.
    """

    def __init__(self, handlers: Mapping[str, Handle]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        handle = self._handlers["GET" if method == "HEAD" else method]
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Describe the API as OpenAPI 3.1."""
    types = _Types(endpoints)
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.shown_path, {})[endpoint.method.lower()] = types.operation(
            endpoint
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/", "description": "where this document was read"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": types.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Types:
    """The schemas of all types that endpoints name."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        named: list[Any] = [Problem, NotAllAccepted]
        for endpoint in endpoints:
            named += [*endpoint.answers, endpoint.body]
            named += [kind for _, kind, _ in endpoint.parameters]
        self._named = [kind for kind in named if kind is not None]
        schemas, self.components = msgspec.json.schema_components(
            self._named, ref_template="#/components/schemas/{name}"
        )
        self._schemas = list(schemas)
        for name, more in MORE.items():
            self.components[name] |= more

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type."""
        return self._schemas[self._named.index(kind)]

    def operation(self, endpoint: Endpoint) -> dict[str, Any]:
        """Describe one endpoint."""
        content = self._content(JSON, *endpoint.answers) if endpoint.answers else {STREAM: {}}
        answers = {str(endpoint.status): {"description": "Done as asked.", "content": content}}
        for status in sorted({401, 403, *endpoint.errors}):
            partly = status in {429, 503} and endpoint.method != "GET"
            answers[str(status)] = {
                "description": _ERRORS[status],
                "content": self._content(MEDIA_TYPE, NotAllAccepted if partly else Problem),
            }
        described: dict[str, Any] = {
            "operationId": getattr(endpoint.handle, "__name__", endpoint.path),
            "summary": endpoint.says,
            "parameters": [self._parameter(endpoint, *one) for one in endpoint.parameters],
            "responses": answers,
        }
        if endpoint.body is not None:
            described["requestBody"] = {
                "required": True,
                "content": self._content(JSON, endpoint.body),
            }
        return described

    def _content(self, media_type: str, *kinds: Any) -> dict[str, Any]:
        schemas = [self.of(kind) for kind in kinds]
        return {media_type: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}

    def _parameter(self, endpoint: Endpoint, name: str, kind: Any, default: Any) -> dict[str, Any]:
        in_path = f"{{{name}" in endpoint.path
        schema = self.of(kind) if default is None else {**self.of(kind), "default": default}
        where = "path" if in_path else "query"
        return {"name": name, "in": where, "required": in_path, "schema": schema}
