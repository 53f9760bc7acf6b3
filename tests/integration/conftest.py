"""Fixtures of the integration tests, beside those of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from headrace.store import AsyncStore
from tests.support.clusters import Cluster, running_cluster


def url_of(request: pytest.FixtureRequest, url: str) -> str:
    """Return this URL, or that of a cluster if the fixture's parameter says so."""
    if getattr(request, "param", "server") == "server":
        return url
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.url


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


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give the session's own cluster, for tests that leave it whole."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        # One plain client is to read both: where the queue is, and the registry.
        cluster.move_slot("headrace", cluster.primary_of("queue"))
        yield cluster


@pytest.fixture
def cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    """Give a cluster that is whole and empty."""
    yield session_cluster
    session_cluster.await_whole()
    session_cluster.everywhere("FLUSHALL")
