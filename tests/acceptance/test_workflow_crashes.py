"""Processes that run members of workflows are killed; what follows follows once, or says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from headrace import RESULT, JobFailed, chain, group
from headrace import operations as op
from headrace.keys import keys_of
from headrace.store import Store
from tests.acceptance.members import app, deadly, deadly_once, good, whole
from tests.support import invariants
from tests.support.clusters import Cluster
from tests.support.processes import clean_environment, processes
from tests.support.wait import WAIT_S, bound, wait_until

CONSUME = (sys.executable, "-m", "headrace", "consume", "tests.acceptance.members:app", "-c", "2")
SHORT = ("--lease", "3", "--bare-lease", "3", "--max-crashes", "1")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def _reachable(url: str) -> Iterator[None]:
    app.use(url)
    yield
    app.close()


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_a_member_whose_consumer_is_killed_is_seen_in_its_workflow(
    url: str, redis: Redis, tmp_path: Path, on_failure: str
) -> None:
    """Nobody who runs its code can tell: ``reclaim`` makes the letter, and the leader finds it."""
    env = clean_environment(HEADRACE_URL=url)
    steps = group([deadly.call(2)]).then(whole.call(RESULT))
    flow = steps.enqueue(on_failure=on_failure)  # type: ignore[arg-type]
    with processes(tmp_path) as start:
        victim = start(*CONSUME, *SHORT, env=env)
        wait_until(lambda: not victim.alive(), "it is killed")
        start(*CONSUME, *SHORT, env=env)
        wait_until(lambda: flow.status().failed, "it is seen", within_s=bound(60))
        (member,) = flow.status().failed
        assert (member.n, member.reason, member.queue) == (0, "crashed", "queue")
        if on_failure == "stop":
            with pytest.raises(JobFailed, match="crashed"):
                flow.result(timeout=WAIT_S)
            assert flow.status().state == "failed"
        else:
            (error,) = flow.result(timeout=WAIT_S)
            assert error["error"]["reason"] == "crashed"


def test_a_link_on_another_node_that_dies_before_its_ack_is_neither_lost_nor_doubled(
    cluster: Cluster, tmp_path: Path
) -> None:
    app.use(cluster.url)
    env = clean_environment(HEADRACE_URL=cluster.url)
    queues = ("queue", "images", "reports")
    away = deadly_once.options(queue="images").call(RESULT)
    last = group([good.options(queue="reports").call(RESULT)])
    flow = chain(good.call(1), away, last).enqueue()
    consume = (*CONSUME, "-Q", ",".join(queues), "--lease", "3", "--bare-lease", "3")
    with processes(tmp_path) as start, closing(Store(cluster.url)) as store:
        victim = start(*consume, env=env)
        wait_until(lambda: not victim.alive(), "it is killed")
        start(*consume, env=env)
        assert flow.result(timeout=WAIT_S) == [1]
        wait_until(lambda: flow.status().state == "done", "it is over")
        elsewhere = keys_of("elsewhere")
        wait_until(lambda: store.run(op.snapshot(elsewhere)).pending, "what it hands on has come")

        def done() -> list[int]:
            return [store.run(op.snapshot(keys_of(queue))).counters["done"] for queue in queues]

        # Beside its own job: the envelopes of the other two; the word of its end, and what it hands on; the word.
        # What it says has been heard before it is acked itself.
        wait_until(lambda: done() == [3, 3, 2], "all is acked")
        assert store.run(op.snapshot(elsewhere)).counters == {"enqueued": 1}


def test_a_link_that_dies_between_its_work_and_its_ack_is_neither_lost_nor_doubled(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    env = clean_environment(HEADRACE_URL=url)
    flow = chain(good.call(1), deadly_once.call(RESULT), group([good.call(RESULT)])).enqueue()
    short = ("--lease", "3", "--bare-lease", "3")
    with processes(tmp_path) as start:
        victim = start(*CONSUME, *short, env=env)
        wait_until(lambda: not victim.alive(), "it is killed")
        assert redis.llen("elsewhere") == 0
        start(*CONSUME, *short, env=env)
        assert flow.result(timeout=WAIT_S) == [1]
        wait_until(lambda: flow.status().state == "done", "it is over")
    assert redis.llen("elsewhere") == 1
    state = invariants.check(redis)
    assert (state.counters["enqueued"], state.counters["done"]) == (3, 3)
