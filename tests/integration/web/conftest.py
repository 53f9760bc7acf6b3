"""The application of each test, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from headrace import Headrace
from headrace.store import AsyncStore
from tests.integration.web.client import client_of
from tests.integration.web.keyring import Keyring


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


@pytest.fixture
async def keyring(app: Headrace, store: AsyncStore, tmp_path: Path) -> AsyncIterator[Keyring]:
    path = tmp_path / "tokens.toml"
    path.touch(mode=0o600)
    keyring = Keyring(app, store, path)
    yield keyring
    await keyring.close()


@pytest.fixture
def scoped(keyring: Keyring, redis: Redis) -> Keyring:
    """Have a token, `scoped`, whose only queue is one of two; each has a pending job and a letter."""
    for queue in ("mine", "theirs"):
        redis.sadd("headrace:queues", queue)
        redis.lpush(queue, '{"id":"a","task":"t"}')
        redis.lpush(f"{queue}:dlq", '{"id":"d","task":"t","error":{"reason":"timeout"}}')
    keyring.add("scoped", "admin", "mine")
    return keyring
