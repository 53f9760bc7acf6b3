"""What keeps other people's pages out: a browser that is let in must not be used by them.

A page on the web can make a browser send requests to 127.0.0.1. It cannot read the answers, unless
it makes its own name point here (DNS rebinding), so the ``Host`` must be ours. It can change things,
unless whoever does so says where it comes from (``Origin``, ``Sec-Fetch-Site``: browsers do) and is
believed. What the API takes must be ``application/json``, too, for which a browser asks first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.web.problems import problem
from headrace.web.routing import path_of

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_ELSEWHERE: Final = "this server has other names: headrace serve --name"
_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no referrer at all, browsers do not say either where our own forms come from (``Origin: null``).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
SEALS: Final[dict[bytes, bytes]] = {
    name.lower().encode(): value.encode() for name, value in _SECURITY_HEADERS.items()
}
_LIVE: Final = {**SEALS, b"cache-control": b"no-store"}
_STATIC: Final = {**SEALS, b"cache-control": b"no-cache"}


class Guard:
    """Refuses requests that come from other sites, and puts the security headers on every answer.

    Args:
        app: what is behind.
        hosts: under which names it is reached; None: under any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None = LOOPBACK) -> None:
        self._app = app
        self._host = None if hosts is None else _pattern(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A static file may be kept, but is asked for; what is in a queue may not.
                seals = _STATIC if path_of(scope).startswith("/static/") else _LIVE
                theirs = [pair for pair in message.get("headers", ()) if pair[0] not in seals]
                message["headers"] = [*theirs, *seals.items()]
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = dict([*scope["headers"]][::-1])  # of those that come twice, the first
        host = headers.get(b"host", b"").decode("latin-1")
        if self._host is not None and not self._host.fullmatch(host):
            says = "this server is for this machine: ask http://127.0.0.1"
            return problem("forbidden", says if self._host is _LOOPBACK else _ELSEWHERE)
        reading = scope["method"] in {"GET", "HEAD", "OPTIONS"}
        origin = headers.get(b"origin")
        ours = origin is None or origin.decode("latin-1") in {f"http://{host}", f"https://{host}"}
        near = headers.get(b"sec-fetch-site", b"none") in {b"none", b"same-origin"}
        if not reading and not (ours and near):
            return problem("forbidden", "another site's page may not change anything here")
        return None


def _pattern(hosts: Sequence[str]) -> re.Pattern[str]:
    if hosts is LOOPBACK:
        return _LOOPBACK
    names = "|".join(re.escape(f"[{host}]" if ":" in host else host) for host in hosts)
    return re.compile(rf"({names})(:\d{{1,5}})?", re.IGNORECASE)
