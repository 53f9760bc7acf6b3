"""What keeps other people's pages out, for the server has no password yet.

A page on the web can make a browser send requests to 127.0.0.1. It cannot read the answers, unless
it makes its own name point here (DNS rebinding), so the ``Host`` must be ours. It can send jobs,
unless they must be ``application/json`` (see ``api``), for which the browser asks first and nobody
says yes; a browser that says where a request comes from is believed as well.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.web.answers import answer

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses requests that come from other sites, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                # A static file may be kept, but is asked for; what is in a queue may not.
                fresh = "no-cache" if scope["path"].startswith("/static/") else "no-store"
                headers["Cache-Control"] = fresh
            await send(message)

        await (_refusal(scope) or self._app)(scope, receive, sealed)


def _refusal(scope: Scope) -> Response | None:
    headers = Headers(scope=scope)
    if not _HOST.fullmatch(headers.get("host", "")):
        return answer({"error": "this server is for this machine: ask http://127.0.0.1"}, 403)
    reading = scope["method"] in {"GET", "HEAD", "OPTIONS"}
    if not reading and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return answer({"error": "another site's page may not change anything here"}, 403)
    return None
