"""Asks each request for a token, where the server has some: ``Authorization: Bearer …``, or a session."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.access import ANYBODY, Right, Tokens, Who
from headrace.clock import monotonic
from headrace.errors import InvalidJob, InvalidSetting
from headrace.logs import one_line
from headrace.partitions.names import split
from headrace.web.problems import Refusal, problem
from headrace.web.routing import path_of, root_of, wants_page
from headrace.web.sessions import who_has

actions: logging.Logger = logging.getLogger("headrace.actions")
"""What operators have changed: a line each, with whose token."""

_CHANGES: Final[frozenset[Right]] = frozenset({"operate", "administer"})

OPEN: Final = frozenset({"/healthz", "/readyz", "/login", "/logout"})
"""What is answered to everybody, as static files are: it says nothing of what is in Redis."""

_STATIC: Final = "/static/"

Handle: TypeAlias = Callable[[Request], Awaitable[Response]]

_TRIES: Final = 20  # wrong tokens from one address …
_WITHIN_S: Final = 60.0  # … in so long; then it waits
_ADDRESSES: Final = 10_000


class Door:
    """Knows who somebody is: by a token, or by the session of a browser that has shown one.

    Args:
        tokens: the tokens; None: whoever comes may do everything.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self.tokens: Tokens | None = tokens
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # tries, and since when

    def find(self, scope: Scope) -> Who | Response:
        """Return who asks, or the answer to whom nobody knows."""
        if self.tokens is None:
            return ANYBODY
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if not token:
            asks = "this server asks for a token: Authorization: Bearer hr_…"
            return who_has(scope, self.tokens) or _unknown(asks)
        return self.try_token(scope, token if scheme.lower() == "bearer" else "")

    def try_token(self, scope: Scope, token: str) -> Who | Response:
        """Return whose a token is, or the answer to whoever guesses: after some tries that has to wait."""
        assert self.tokens is not None
        address = str((scope.get("client") or ("",))[0])
        tries, since = self._wrong.get(address, (0, 0.0))
        if tries >= _TRIES and monotonic() - since < _WITHIN_S:
            return _unknown("too many wrong tokens came from there: wait a minute", retry_s=60)
        who = self.tokens.find(token.strip())
        if who is not None:
            return who
        fresh = monotonic() - since >= _WITHIN_S
        self._wrong[address] = (1, monotonic()) if fresh else (tries + 1, since)
        if len(self._wrong) > _ADDRESSES:
            self._wrong.popitem(last=False)
        return _unknown("nobody has this token (any more): headrace token makes one")


class Check:
    """Lets in who is known; sends a browser that is not to where it can say who it is.

    Args:
        app: what is behind.
        door: knows who somebody is.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = path_of(scope)
        found = ANYBODY if path in OPEN or path.startswith(_STATIC) else self._door.find(scope)
        if isinstance(found, Response):
            reads = scope["method"] in {"GET", "HEAD"} and wants_page(scope)
            refusal = RedirectResponse(_login_from(scope), 303) if reads else found
            await refusal(scope, receive, send)
            return
        state = {**scope.get("state", {}), "who": found}  # of this request alone
        await self._app({**scope, "state": state}, receive, send)


def _login_from(scope: Scope) -> str:
    """Return the way to the login page, which then leads back."""
    back = path_of(scope).lstrip("/")
    if asked := scope.get("query_string", b"").decode("latin-1"):
        back += f"?{asked}"
    return f"{root_of(scope)}login?next={quote(back, safe='')}"


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
        changes = _CHANGES.issuperset(rights) and request.method not in {"GET", "HEAD"}
        became = "perhaps in part"  # its answer never came, or a later one's
        try:
            response = await handle(request)
            became = str(response.status_code)
        except (Refusal, InvalidJob, InvalidSetting):  # nothing has happened
            changes = False
            raise
        finally:
            if changes:
                what = one_line(request.url.path + getattr(request.state, "about", ""))
                actions.info("%s: %s %s: %s", who.name or "anybody", request.method, what, became)
        return response

    return handle_allowed


def note_about(request: Request, what: str) -> None:
    """Have the log's line say what a change was about, where the path does not."""
    request.state.about = f" ({what})"


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
