"""Answers as JSON; every error is ``{"error": "a sentence that says what to do"}``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from headrace.errors import (
    HeadraceError,
    InvalidJob,
    InvalidSetting,
    JobExists,
    PayloadTooLarge,
    QueueFull,
    StoreError,
)

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

_STATUS: Final[tuple[tuple[type[HeadraceError], int], ...]] = (
    (PayloadTooLarge, 413),
    (InvalidJob, 400),
    (InvalidSetting, 400),
    (JobExists, 409),
    (QueueFull, 429),
    (StoreError, 503),
)


def answer(content: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(encode(content), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what Starlette or a handler refused."""
    assert isinstance(error, HTTPException)
    says, allowed = error.detail, (error.headers or {}).get("Allow", "")
    if error.status_code == 404 and says == "Not Found":
        says = f"there is no {request.url.path}: see /, /metrics, /healthz, /readyz and /api/queues"
    elif error.status_code == 405:
        says = f"{request.url.path} does not take {request.method}: use {allowed}"
    response = answer({"error": says}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    """Answer an exception of ours."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    content: dict[str, Any] = {"error": str(error)}
    if request.method == "POST" and isinstance(error, StoreError | QueueFull):
        content["accepted"] = error.accepted
        content["may_have_been_accepted"] = getattr(error, "may_have_happened", False)
    return answer(content, status)


async def _broken(_: Request, __: Exception) -> Response:
    """Answer what nobody foresaw; Starlette raises it again, so that it is logged."""
    return answer({"error": "the server failed: its log says how. Please report it"}, 500)


HANDLERS: Final[dict[Any, ExceptionHandler]] = {
    HTTPException: _refused,
    HeadraceError: _failed,
    Exception: _broken,
}
"""For Starlette's ``exception_handlers``."""
