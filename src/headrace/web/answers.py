"""Answers as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.responses import Response

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

JSON: Final = "application/json"


def answer(content: Any, status: int = 200, media_type: str = JSON) -> Response:
    """Answer with JSON."""
    return Response(encode(content), status, media_type=media_type)
