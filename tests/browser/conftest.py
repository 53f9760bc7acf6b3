"""A real Chromium, and a server with something on every page.

Needs Chromium on the PATH, and playwright: ``make test-browser``; without them what needs it is skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace
from headrace.store import AsyncStore
from tests.browser.looking import LONG
from tests.integration.web.pages import Filled, fill
from tests.support.serving import served

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is on the PATH")
    playwright: Any = pytest.importorskip(
        "playwright.async_api", reason="playwright is not installed: make test-browser"
    )
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        await browser.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(url)
    yield store
    await store.close()


@pytest.fixture
def redis(url: str) -> Any:
    with Redis.from_url(url) as client:
        yield client


@pytest.fixture
async def filled(url: str, store: AsyncStore, redis: Redis) -> AsyncIterator[Filled]:
    app = Headrace(url)
    yield await fill(app, store, redis, args=[LONG], kwargs={LONG: 1}, error={"message": LONG})
    await app.aclose()


@pytest.fixture
async def site(url: str) -> AsyncIterator[str]:
    async with served(url) as (_, port):
        yield f"http://127.0.0.1:{port}"
