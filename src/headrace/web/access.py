"""Asks each request for a token, where the server has some: ``Authorization: Bearer …``."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.access import ANYBODY, Right, Tokens, Who
from headrace.clock import monotonic
from headrace.logs import one_line
from headrace.partitions.names import split
from headrace.web.problems import Refusal, problem
from headrace.web.routing import path_of

actions: logging.Logger = logging.getLogger("headrace.actions")
"""What operators have changed: a line each, with whose token."""

_CHANGES: Final[frozenset[Right]] = frozenset({"operate", "administer"})

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""What is answered to everybody: it says nothing of what is in Redis."""

Handle: TypeAlias = Callable[[Request], Awaitable[Response]]

_TRIES: Final = 20  # wrong tokens from one address …
_WITHIN_S: Final = 60.0  # … in so long; then it waits
_ADDRESSES: Final = 10_000


class Check:
    """Lets in who has a token.

    Args:
        app: what is behind.
        tokens: the tokens; None: everybody may do everything.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None) -> None:
        self._app = app
        self._tokens = tokens
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # tries, and since when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who = ANYBODY
        if self._tokens is not None and path_of(scope) not in OPEN:
            found = self._find(scope, self._tokens)
            if isinstance(found, Response):
                await found(scope, receive, send)
                return
            who = found
        state = {**scope.get("state", {}), "who": who}  # of this request alone
        await self._app({**scope, "state": state}, receive, send)

    def _find(self, scope: Scope, tokens: Tokens) -> Who | Response:
        address = str((scope.get("client") or ("",))[0])
        tries, since = self._wrong.get(address, (0, 0.0))
        if tries >= _TRIES and monotonic() - since < _WITHIN_S:
            return _unknown("too many wrong tokens came from there: wait a minute", retry_s=60)
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if not token:
            return _unknown("this server asks for a token: Authorization: Bearer hr_…")
        who = tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        if who is not None:
            return who
        fresh = monotonic() - since >= _WITHIN_S
        self._wrong[address] = (1, monotonic()) if fresh else (tries + 1, since)
        if len(self._wrong) > _ADDRESSES:
            self._wrong.popitem(last=False)
        return _unknown("nobody has this token (any more): headrace token makes one")


def _unknown(says: str, retry_s: int = 0) -> Response:
    response = problem("unauthenticated", says)
    response.headers["WWW-Authenticate"] = 'Bearer realm="headrace"'
    if retry_s:
        response.headers["Retry-After"] = str(retry_s)
    return response


def allowed(handle: Handle, *rights: Right) -> Handle:
    """Return the handler, for those who have one of these rights."""

    async def handle_allowed(request: Request) -> Response:
        who = who_asks(request)
        if not who.has(rights):
            says = f"token {who.name!r} is a {who.role}'s, who may not {rights[0]}"
            raise Refusal("forbidden", says)
        response = await handle(request)
        if _CHANGES.issuperset(rights):
            path = one_line(request.url.path)
            name = who.name or "anybody"
            actions.info("%s: %s %s: %d", name, request.method, path, response.status_code)
        return response

    return handle_allowed


def who_asks(request: Request) -> Who:
    """Return who asks."""
    who: Who = getattr(request.state, "who", ANYBODY)
    return who


def may_use(request: Request, *queues: str) -> None:
    """Check that whoever asks may use these queues.

    Raises:
        Refusal: not all of them.
    """
    who = who_asks(request)
    if who.queues is not None and (others := _wholes(queues) - who.queues):
        some = ", ".join(sorted(who.queues)) or "none"
        says = f"token {who.name!r} is for other queues ({some}), and not for {min(others)!r}"
        raise Refusal("forbidden", says)


def may_use_all(request: Request) -> None:
    """Check that whoever asks may use all queues.

    Raises:
        Refusal: it has some of its own.
    """
    who = who_asks(request)
    if who.queues is not None:
        says = f"token {who.name!r} is for some queues alone, and this is about all of them"
        raise Refusal("forbidden", says)


def _wholes(queues: Iterable[str]) -> set[str]:
    """Return queues, in place of a partition the queue whose it is."""
    return {split(queue)[0] for queue in queues}
