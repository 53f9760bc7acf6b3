"""A queue on the session's server; after each test the invariants are checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from headrace.store import Store
from tests.integration.transitions.driver import Driver


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, name="test")
    yield store
    store.close()


@pytest.fixture
def queue(store: Store, redis: Redis) -> Driver:
    return Driver(store, redis)
