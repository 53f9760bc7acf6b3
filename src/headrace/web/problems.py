"""Errors as RFC 9457 has them: a type that a program can tell, and a sentence that says what to do."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple, TypeAlias, TypedDict

from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from headrace.errors import (
    HeadraceError,
    InvalidArguments,
    InvalidJob,
    InvalidSetting,
    JobExists,
    PayloadTooLarge,
    QueueFull,
    StoreError,
)
from headrace.web.answers import answer

PREFIX: Final = "/api/v1"
MEDIA_TYPE: Final = "application/problem+json"


class Problem(TypedDict):
    """Why something was refused (RFC 9457)."""

    type: Annotated[
        str, Meta(description="Which kind of problem it is; to be read under this server.")
    ]
    title: Annotated[str, Meta(description="What that kind is.")]
    status: int
    detail: Annotated[str, Meta(description="What is wrong here, and what to do.")]


ProblemName: TypeAlias = Annotated[
    str,
    Meta(description="The end of a problem's type.", extra_json_schema={"pattern": "^[a-z-]+$"}),
]


class ProblemKind(TypedDict):
    """What a type of problem means."""

    type: str
    title: str
    status: int


class NotAllAccepted(Problem):
    """Why jobs were not accepted, and what is known of those that were."""

    accepted: Annotated[list[str], Meta(description="Ids of jobs that were accepted for certain.")]
    may_have_been_accepted: Annotated[bool, Meta(description="The others; false: none was.")]


class Kind(NamedTuple):
    """A kind of problem.

    Attributes:
        status: of the answer.
        title: what it is, the same for all of its kind.
    """

    status: int
    title: str


KINDS: Final[dict[str, Kind]] = {
    "invalid": Kind(400, "What was asked has no meaning; nothing happened"),
    "unauthenticated": Kind(401, "There is no token with it, or none that is known"),
    "forbidden": Kind(403, "It may not be asked from there, or not with this token"),
    "unknown": Kind(404, "There is no such thing"),
    "method": Kind(405, "The path does not take this method"),
    "conflict": Kind(409, "It does not fit what is there"),
    "job-exists": Kind(409, "An earlier job has the key"),
    "too-large": Kind(413, "It is over a limit; nothing happened"),
    "not-json": Kind(415, "The body is not application/json"),
    "queue-full": Kind(429, "The queue is full"),
    "too-many-queues": Kind(429, "There are as many queues as there may be"),
    "failed": Kind(500, "The server failed"),
    "redis": Kind(503, "Redis did not do what was asked"),
    "busy": Kind(503, "The server has too much to do"),
}
"""By the end of their type."""

_OF_STATUS: Final = {kind.status: name for name, kind in reversed(KINDS.items())}
_OF_ERROR: Final[tuple[tuple[type[HeadraceError], str], ...]] = (
    (PayloadTooLarge, "too-large"),
    (InvalidArguments, "invalid"),
    (InvalidJob, "invalid"),
    (InvalidSetting, "invalid"),
    (JobExists, "job-exists"),
    (QueueFull, "queue-full"),
    (StoreError, "redis"),
)


class Refusal(HTTPException):
    """What a handler raises to refuse a request.

    Args:
        kind: one of ``KINDS``.
        detail: what is wrong here, and what to do.
        more: further members of the answer.
    """

    def __init__(self, kind: str, detail: str, **more: Any) -> None:
        super().__init__(KINDS[kind].status, detail)
        self.kind = kind
        self.more = more


def content_of(kind: str, detail: str, **more: Any) -> dict[str, Any]:
    """Return a problem as it is answered."""
    status, title = KINDS[kind]
    type_ = f"{PREFIX}/problems/{kind}"
    return {"type": type_, "title": title, "status": status, "detail": detail, **more}


def problem(kind: str, detail: str, **more: Any) -> Response:
    """Answer with a problem."""
    return answer(content_of(kind, detail, **more), KINDS[kind].status, MEDIA_TYPE)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what Starlette or a handler refused."""
    assert isinstance(error, HTTPException)
    says, allowed = error.detail, (error.headers or {}).get("Allow", "")
    if error.status_code == 404 and says == "Not Found":
        says = (
            f"there is no {request.url.path}: see /, /metrics, /healthz, /readyz and "
            f"{PREFIX}/openapi.json"
        )
    elif error.status_code == 405:
        says = f"{request.url.path} does not take {request.method}: use {allowed}"
    kind = error.kind if isinstance(error, Refusal) else _OF_STATUS.get(error.status_code)
    response = problem(kind or "failed", says, **getattr(error, "more", {}))
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    """Answer an exception of ours."""
    kind = next((kind for class_, kind in _OF_ERROR if isinstance(error, class_)), "failed")
    more: dict[str, Any] = {}
    if request.method != "GET" and isinstance(error, StoreError | QueueFull):
        more["accepted"] = error.accepted
        more["may_have_been_accepted"] = getattr(error, "may_have_happened", False)
    return problem(kind, str(error), **more)


async def _broken(_: Request, __: Exception) -> Response:
    """Answer what nobody foresaw; Starlette raises it again, so that it is logged."""
    return problem("failed", "the server failed: its log says how. Please report it")


HANDLERS: Final[dict[Any, ExceptionHandler]] = {
    HTTPException: _refused,
    HeadraceError: _failed,
    Exception: _broken,
}
"""For Starlette's ``exception_handlers``."""
