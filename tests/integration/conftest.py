"""Fixtures of the integration tests, beside those of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from headrace.store import AsyncStore
from tests.support.clusters import Cluster, url_of


@pytest.fixture
def url(request: pytest.FixtureRequest, url: str) -> str:
    """Give the URL of an empty server; of an empty cluster to tests that are ``also_on_a_cluster``."""
    return url_of(request, url)


@pytest.fixture
def redis(request: pytest.FixtureRequest, url: str) -> Iterator[Redis]:
    """Give a plain client; of a cluster one that names keys as on one server."""
    if url.startswith("redis://"):
        with Redis.from_url(url) as client:
            yield client
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        with cluster.placed_client_of("queue") as client:
            yield client


@pytest.fixture
async def store(url: str) -> AsyncIterator[AsyncStore]:
    """Give an awaited store on the session's server."""
    store = AsyncStore(url)
    yield store
    await store.close()
