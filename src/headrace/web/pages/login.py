"""Signing in: a form that takes a token, and gives the browser a session for it."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from headrace.access import Who, digest_of
from headrace.web.access import Door
from headrace.web.pages.shell import Shell, form_of
from headrace.web.sessions import sign_in, sign_out, who_has


class Login:
    """The page to sign in.

    Args:
        shell: writes it.
        door: knows whose a token is.
        secure: whether the server is reached by https.
    """

    def __init__(self, shell: Shell, door: Door, *, secure: bool) -> None:
        self._shell = shell
        self._door = door
        self._secure = secure

    async def login(self, request: Request) -> Response:
        """Show the form."""
        if self._door.tokens is None:
            return _onwards("")
        known = who_has(request.scope, self._door.tokens)
        return self._form(request, request.query_params.get("next", ""), known=known)

    async def sign_in(self, request: Request) -> Response:
        """Begin a session, if the token is somebody's."""
        if self._door.tokens is None:
            return _onwards("")
        form = await form_of(request)
        token, back = form.get("token", [""])[0].strip(), form.get("next", [""])[0]
        found = self._door.try_token(request.scope, token)
        if isinstance(found, Response):
            says = msgspec.json.decode(bytes(found.body))["detail"]
            page = self._form(request, back, status=401, wrong=says)
            if "retry-after" in found.headers:
                page.headers["retry-after"] = found.headers["retry-after"]
            return page
        if not back and found.queues:
            back = f"queues/{min(found.queues)}"  # the overview is about all queues
        response = _onwards(back)
        secure = self._secure or request.url.scheme == "https"
        sign_in(request, response, found, digest_of(token), secure=secure)
        return response

    def _form(
        self,
        request: Request,
        back: str,
        *,
        status: int = 200,
        wrong: str = "",
        known: Who | None = None,
    ) -> Response:
        """Write the form. Whoever sees it is not known yet: it says nothing of where the queues are."""
        shown = {"back": back, "wrong": wrong, "known": known, "navigation": (), "redis": ""}
        return self._shell.page(request, "login", status=status, **shown)

    async def sign_out(self, request: Request) -> Response:
        """End a session."""
        response = RedirectResponse("./login", 303)
        sign_out(request, response)
        return response


def _onwards(back: str) -> Response:
    """Lead to one of our own pages: what begins with ``./`` leads to no other site, whatever follows."""
    return RedirectResponse(f"./{quote(back.lstrip('/'), safe='/?=&%')}", 303)
