"""What a request asks for: its body, and what stands behind the ?."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from starlette.requests import Request

from headrace.keys import keys_of
from headrace.web.access import may_use, who_asks
from headrace.web.problems import Refusal
from headrace.web.reader import Reader
from headrace.web.shapes import MAX_LISTED

T = TypeVar("T")

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED)]

_NAMED: Final = 20  # queues in an error


async def body_of(request: Request) -> bytes:
    """Return the body.

    Raises:
        Refusal: it is not said to be JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal("not-json", "send it as JSON, with Content-Type: application/json")
    return await request.body()


async def read(request: Request, decoder: msgspec.json.Decoder[T], what: str) -> T:
    """Read the body.

    Args:
        request: the request.
        decoder: reads it.
        what: what it is to be, with an example.

    Raises:
        Refusal: it is something else.
    """
    body = await body_of(request)
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise Refusal("invalid", f"the body is no {what}: {error}") from None


def limit_of(request: Request, default: int = 25) -> int:
    """Return how many jobs are asked for.

    Raises:
        Refusal: so many are not listed, or it is no number.
    """
    return number_of(request, "limit", default, MAX_LISTED)


def number_of(request: Request, name: str, default: int, most: int) -> int:
    """Return a number from 1 that stands behind the ?.

    Raises:
        Refusal: it is larger, or no number.
    """
    asked = request.query_params.get(name, str(default))
    # No more digits than the largest has: int() refuses thousands of them with an error of its own.
    number = int(asked) if re.fullmatch(rf"[0-9]{{1,{len(str(most))}}}", asked) else 0
    if not 1 <= number <= most:
        raise Refusal("invalid", f"{name}={asked} must be a number from 1 to {most}")
    return number


def queue_of(request: Request, default: str) -> str:
    """Return the queue behind the ?.

    Raises:
        InvalidSetting: it cannot be one.
        Refusal: whoever asks may not use it.
    """
    queue = keys_of(request.query_params.get("queue", default)).queue
    may_use(request, queue)
    return queue


async def known(request: Request, reader: Reader) -> str:
    """Return the name of the queue in the path.

    Raises:
        Refusal: there is none of that name.
    """
    name: Any = request.path_params["queue"]
    may_use(request, name)
    names = await reader.names()
    if name not in names:
        own = who_asks(request).queues
        names = [one for one in names if own is None or one in own]
        some = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        raise Refusal("unknown", f"there is no queue {name!r}: there are {some}")
    return str(name)
