"""Sessions of browsers: a cookie that stands for a token, and has no token in it.

It holds the token's name and when the session is over, signed with a key of this process. What is signed, too,
is the token's digest as the file has it: when the token is taken out or another one has its name, the session
is over. A server that starts again has another key, and asks again.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import Scope

from headrace.access import Tokens, Who
from headrace.clock import now_ms

LASTS_S: Final = 43_200
"""Twelve hours: a day's work."""

_KEY: Final = secrets.token_bytes(32)


def sign_in(request: Request, response: Response, who: Who, digest: str, *, secure: bool) -> None:
    """Begin a session: have the browser keep a cookie, for this server's pages alone.

    Args:
        request: what asks for it.
        response: goes to the browser.
        who: whose session it is.
        digest: of the token.
        secure: whether the browser may send it by https alone.
    """
    until_s = now_ms() // 1000 + LASTS_S
    value = f"{who.name}.{until_s}.{_signature(who.name, until_s, digest)}"
    response.set_cookie(
        _cookie_of(request.scope), value, max_age=LASTS_S, path=_path_of(request.scope),
        secure=secure, httponly=True, samesite="strict",
    )  # fmt: skip


def sign_out(request: Request, response: Response) -> None:
    """End a session: have the browser forget the cookie."""
    response.delete_cookie(
        _cookie_of(request.scope), path=_path_of(request.scope), httponly=True, samesite="strict"
    )


def who_has(scope: Scope, tokens: Tokens) -> Who | None:
    """Return whose session the cookie of a request is; None if there is none, or it is over."""
    cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
    name, _, rest = cookies.get(_cookie_of(scope), "").partition(".")
    until, _, signature = rest.partition(".")
    found = tokens.named(name)
    if found is None or not until.isascii() or not until.isdigit() or len(until) > 12:
        return None
    digest, who = found
    expected = _signature(name, int(until), digest)
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return None
    return who if now_ms() < int(until) * 1000 else None


def _signature(name: str, until_s: int, digest: str) -> str:
    signed = hmac.digest(_KEY, f"{name}\0{until_s}\0{digest}".encode(), sha256)
    return urlsafe_b64encode(signed).decode().rstrip("=")


def _cookie_of(scope: Scope) -> str:
    """Name the cookie: browsers send those of one port to all ports of a host, so the port is in it."""
    port = Headers(scope=scope).get("host", "").rpartition("]")[2].partition(":")[2]
    return f"headrace-{port}" if port.isascii() and port.isdigit() else "headrace"


def _path_of(scope: Scope) -> str:
    return f"{scope.get('root_path', '')}/"
