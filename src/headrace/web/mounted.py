"""The server's pages and API inside another ASGI application, as Starlette, FastAPI or Django.

from starlette.applications import Starlette
from starlette.routing import Mount

Starlette(routes=[Mount("/queues", headrace.web.application(app))])
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final
from weakref import WeakKeyDictionary

from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.app import Headrace
from headrace.leasing import Leases, Lines
from headrace.policy import LeasePolicy
from headrace.web.application import LABEL, Access, create_app

ANYWHERE: Final[Access] = Access(hosts=None)
"""Whoever the application around lets through may do everything, under whatever name it is reached."""


def application(app: Headrace, access: Access = ANYWHERE) -> ASGIApp:
    """Return the server as an application that another one mounts, at any path.

    It does no upkeep of the queues: consumers do, and ``headrace serve``. **Who may reach it is the business
    of the application around**, unless there are tokens.

    Args:
        app: the application whose Redis is shown.
        access: who may reach it.
    """
    sites: WeakKeyDictionary[asyncio.AbstractEventLoop, _Site] = WeakKeyDictionary()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        site = sites.get(loop)
        if site is None:
            site = sites[loop] = _Site(app, access)
            await anext(site.until_the_loop_ends)
        await site.serve(scope, receive, send)

    return serve


class _Site:
    """What is served in one event loop: it ends with the loop."""

    def __init__(self, app: Headrace, access: Access) -> None:
        store = app.producer().astore()
        self._lines = Lines(store, Leases(store, app), LABEL, LeasePolicy())
        self.serve = create_app(app, store, lines=self._lines, access=access)
        # The loop knows of it from its first step on, and closes it when it ends.
        self.until_the_loop_ends = self._until_the_loop_ends()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self._lines.close()
            await asyncio.sleep(
                0
            )  # a turn in which the loop closes the sockets: it may be its last
