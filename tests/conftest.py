"""Fixtures for all tests: one server for the session, emptied after each test that uses it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
from redis import Redis

from headrace.embedded import EmbeddedServer
from tests.support.clusters import Cluster, running_cluster
from tests.support.servers import private_server
from tests.support.wait import PATIENCE, PATIENCE_VARIABLE, bound, wait_until

ADMIN = "tests-admin"

# A shell starts what runs in its background with SIGINT ignored, and so would our child processes
# be: what is ignored stays ignored, what is caught begins anew.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as it takes: the machine may be busy.
hypothesis.settings.register_profile("headrace", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("headrace")


def pytest_configure() -> None:
    """Hand the patience down to the processes of xdist, so that it is measured once."""
    os.environ.setdefault(PATIENCE_VARIABLE, f"{PATIENCE:.1f}")


def pytest_report_header() -> str:
    return f"patience: {PATIENCE:.1f} (bounds are so much longer than on a quiet machine)"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test a time limit for this machine: its own one, or the one in pyproject.toml."""
    usual_s = float(config.getini("timeout"))
    long: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        own = item.get_closest_marker("timeout")
        quiet_s = float(own.args[0]) if own else usual_s
        item.add_marker(pytest.mark.timeout(bound(quiet_s)), append=False)
        (long if own else others).append(item)
    items[:] = long_first(long, others, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def long_first(
    long: list[pytest.Item], others: list[pytest.Item], workers: int
) -> list[pytest.Item]:
    """Let each process of xdist begin with its share of the long tests, so that none comes last.

    It gives each an equal part of the list, as it stands.
    """
    part = (len(long) + len(others)) // workers
    ordered: list[pytest.Item] = []
    for n in range(workers):
        own = long[n::workers]
        fill = max(0, part - len(own))
        ordered += own + others[:fill]
        others = others[fill:]
    return ordered + others


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Give the session's own server. A test that stops or configures one starts its own instead."""
    with private_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def admin(server: EmbeddedServer) -> Iterator[Redis]:
    with Redis(port=server.port, client_name=ADMIN, single_connection_client=True) as admin:
        yield admin


@pytest.fixture
def url(server: EmbeddedServer, admin: Redis) -> Iterator[str]:
    """Give the URL of an empty server; fail a test that leaves a connection open."""
    yield server.url

    def left_open() -> list[str]:
        clients = admin.client_list()
        return [str(client) for client in clients if client["name"] != ADMIN]

    try:
        wait_until(lambda: not left_open(), "the test's connections are closed")
    except AssertionError:
        leaks = left_open()
        admin.client_kill_filter(skipme=True)  # they are not the next test's fault
        pytest.fail("the test left connections open:\n" + "\n".join(leaks))
    finally:
        admin.flushall()


@pytest.fixture
def redis(url: str) -> Iterator[Redis]:
    """Give a plain client of the session's server."""
    with Redis.from_url(url) as client:
        yield client


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
