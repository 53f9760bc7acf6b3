"""Fixtures of the integration tests, beside those of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from headrace.store import AsyncStore
from tests.support.clusters import Cluster, running_cluster


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
