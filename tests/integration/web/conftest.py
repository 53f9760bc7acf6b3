"""The application of each test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from headrace import Headrace
from headrace.store import AsyncStore
from tests.integration.web.client import client_of


@pytest.fixture
async def app(url: str) -> AsyncIterator[Headrace]:
    app = Headrace(url, max_pending=2_000)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    yield app
    await app.aclose()


@pytest.fixture
async def api(app: Headrace, store: AsyncStore) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, store) as client:
        yield client
