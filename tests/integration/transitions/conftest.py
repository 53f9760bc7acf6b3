"""A queue on a server, and on a cluster; after each test the invariants are checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from headrace.store import Store
from tests.integration.transitions.driver import Driver
from tests.support.clusters import Cluster


@pytest.fixture(params=["server", "cluster"])
def url(request: pytest.FixtureRequest, url: str) -> Iterator[str]:
    """Give the URL of an empty server, or of an empty cluster."""
    if request.param == "server":
        yield url
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    yield cluster.url


@pytest.fixture
def redis(request: pytest.FixtureRequest, url: str) -> Iterator[Redis]:
    """Give a plain client, which on a cluster names keys as they are named there."""
    if url.startswith("redis://"):
        with Redis.from_url(url) as client:
            yield client
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        with cluster.placed_client_of("queue") as client:
            yield client


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, name="test")
    yield store
    store.close()


@pytest.fixture
def queue(store: Store, redis: Redis) -> Driver:
    return Driver(store, redis)
