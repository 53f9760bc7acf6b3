"""``headrace doctor`` on a cluster: each primary is asked, and named where something is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.doctor import Finding, check_up
from headrace.policy import LeasePolicy
from headrace.store import Store
from tests.support.clusters import Cluster


@pytest.fixture
def store(cluster: Cluster) -> Iterator[Store]:
    store = Store(cluster.url)
    yield store
    store.close()


def findings(store: Store) -> list[Finding]:
    return store.follow(check_up((), LeasePolicy(), sample=10)).findings


def test_a_whole_cluster_is_well(store: Store) -> None:
    found = findings(store)
    assert {one.severity for one in found} <= {"ok", "note"}
    assert sum(one.code == "aof" for one in found) == 1  # what is well is said of one


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_node_that_keeps_nothing_is_named(cluster: Cluster, store: Store, number: int) -> None:
    node = cluster.primaries()[number]
    node.ask("CONFIG", "SET", "appendonly", "no")
    try:
        [off] = [one for one in findings(store) if one.code == "aof_off"]
    finally:
        node.ask("CONFIG", "SET", "appendonly", "yes")
    assert off.severity == "problem"
    assert off.found == f"127.0.0.1:{node.port}: the append-only file is off"
