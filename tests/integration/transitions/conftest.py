"""A queue on a server, and on a cluster; after each test the invariants are checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from headrace.store import Store
from tests.integration.transitions.driver import Driver
from tests.support.clusters import url_of


@pytest.fixture(params=["server", "cluster"])
def url(request: pytest.FixtureRequest, url: str) -> str:
    """Give the URL of an empty server, and of an empty cluster."""
    return url_of(request, url)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, name="test")
    yield store
    store.close()


@pytest.fixture
def queue(store: Store, redis: Redis) -> Driver:
    return Driver(store, redis)
