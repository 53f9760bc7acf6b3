"""Fixtures of the integration tests, beside those of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.store import AsyncStore


@pytest.fixture
async def store(url: str) -> AsyncIterator[AsyncStore]:
    """Give an awaited store on the session's server."""
    store = AsyncStore(url)
    yield store
    await store.close()
