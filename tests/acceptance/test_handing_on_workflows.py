"""Processes that start a workflow with the end of a job are killed on the way: it begins once all the same."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from headrace import operations as op
from headrace.keys import keys_of
from headrace.store import Store
from tests.acceptance.handing_on import app, hands_on
from tests.support import invariants
from tests.support.clusters import Cluster
from tests.support.processes import clean_environment, processes
from tests.support.wait import WAIT_S, wait_until

CONSUME = (sys.executable, "-m", "headrace", "consume", "tests.acceptance.handing_on:app")
SHORT = ("--lease", "3", "--bare-lease", "3")
POINTS = pytest.mark.parametrize("point", ["ack", "begin", "begun"])
RESULT = sum(range(1, 11)) + 1
pytestmark = pytest.mark.timeout(180)


def done_in(store: Store, *queues: str) -> list[int]:
    """Return how many jobs of each queue have been acked."""
    return [store.run(op.snapshot(keys_of(queue))).counters["done"] for queue in queues]


@POINTS
def test_whoever_is_killed_it_begins_once(
    url: str, redis: Redis, tmp_path: Path, point: str
) -> None:
    app.use(url)
    env = clean_environment(HEADRACE_URL=url, POINT=point, MARKER=str(tmp_path / "marker"))
    job = hands_on.enqueue()
    with closing(app), processes(tmp_path) as start, closing(Store(url)) as store:
        victim = start(*CONSUME, *SHORT, "-c", "1", env=env)
        wait_until(lambda: not victim.alive(), "it is killed")
        assert bool(redis.exists("queue:workflows")) is (point == "begun")
        start(*CONSUME, *SHORT, env=env)
        flow = app.workflow(job.result(timeout=WAIT_S))
        assert flow.result(timeout=WAIT_S) == RESULT
        wait_until(lambda: flow.status().state == "done", "it is over")
        # Not for an empty processing list: so it is as well while a lost job is back in the queue.
        wait_until(lambda: done_in(store, "queue") == [14], "all is acked")
        assert flow.status()[:4] == ("done", 12, 12, 0)
    assert invariants.check(redis).counters["enqueued"] == 14


@POINTS
def test_on_a_cluster_it_begins_once_wherever_its_home_is(
    cluster: Cluster, tmp_path: Path, point: str
) -> None:
    app.use(cluster.url)
    env = clean_environment(
        HEADRACE_URL=cluster.url, POINT=point, MARKER=str(tmp_path / "marker"), AWAY="images"
    )
    assert cluster.primary_of("images") is not cluster.primary_of("queue")
    job = hands_on.enqueue()
    with closing(app), processes(tmp_path) as start, closing(Store(cluster.url)) as store:
        consume = (*CONSUME, *SHORT, "-Q", "queue,images")
        victim = start(*consume, "-c", "1", env=env)
        wait_until(lambda: not victim.alive(), "it is killed")
        start(*consume, env=env)
        flow = app.workflow(job.result(timeout=WAIT_S), queue="images")
        wait_until(lambda: flow.status().state != "unknown", "it has begun")
        assert flow.result(timeout=WAIT_S) == RESULT
        wait_until(lambda: flow.status().state == "done", "it is over")
        # Here the job, the starter, two members, and the word of the end of each. There ten, and two envelopes.
        wait_until(lambda: done_in(store, "queue", "images") == [6, 12], "all is acked")
