"""A web server in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from headrace import Headrace
from headrace.embedded.server import free_port
from headrace.web.server import serve
from tests.support.wait import WAIT_S, await_until


@contextlib.asynccontextmanager
async def served(url: str, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """Run a server; give a client of it, and its port."""
    port, stop = free_port(), asyncio.Event()
    running = asyncio.create_task(serve(Headrace(url), port=port, stop=stop, **options))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:

        async def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await client.get("/healthz")).is_success
            return False

        await await_until(answers, what="the server answers")
        try:
            yield client, port
        finally:
            stop.set()
            await asyncio.wait_for(running, WAIT_S)
