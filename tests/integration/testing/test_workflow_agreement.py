"""Workflows in the memory of ``headrace.testing`` come to the same as on a real server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import CURRENT, RESULT, Context, Dag, Headrace, HeadraceError, Reject, chain, group
from headrace.testing import live, run_inline
from headrace.workflows import Steps
from headrace.workflows.steps import DagStep
from tests.support.wait import WAIT_S, wait_until

app = Headrace(max_attempts=1, result_ttl=60)


@app.task
def add(*numbers: Any) -> int:
    """Add what are numbers, also within lists."""
    flat = [n for one in numbers for n in (one if isinstance(one, list) else [one])]
    return 1 + sum(n for n in flat if isinstance(n, int))


@app.task
def broken(*_: Any) -> int:
    raise Reject("broken")


@app.task
def hands_on(seed: int, on_failure: Any, ctx: Context = CURRENT) -> str:
    return ctx.enqueue(steps_of(seed), on_failure=on_failure, window=2)


def steps_of(seed: int) -> Steps:
    """Make a workflow at random."""
    chance = random.Random(seed)

    def step(depth: int, *args: Any) -> Any:
        kind = chance.choice(("chain", "group", "call", "call")) if depth else "call"
        if kind == "call":
            task = broken if chance.random() < 0.1 else add
            return task.call(*args, chance.randrange(10))
        some = range(chance.randrange(1, 4))
        if kind == "group":
            return group([step(depth - 1, *args) for _ in some])
        return chain(step(depth - 1, *args), *(step(depth - 1, RESULT) for _ in some))

    if seed % 4:
        return chain(step(2), step(2, RESULT), step(1, RESULT))
    dag = Dag()
    steps: list[DagStep] = []
    for n in range(8):
        before = chance.sample(steps, min(len(steps), chance.randrange(3)))
        task = broken if chance.random() < 0.05 else add
        steps.append(dag.add(task.call(n, *(one.result for one in before))))
    return dag


def outcome(workflow_id: str) -> tuple[Any, ...]:
    """Wait until nothing goes on, and tell what became of it."""
    flow = app.workflow(workflow_id)

    def rests() -> bool:
        now = flow.status()
        return now.state not in ("unknown", "waiting") and not now.running

    wait_until(rests)
    status = flow.status()
    try:
        result = flow.result(timeout=0)
    except HeadraceError as error:
        result = (type(error).__name__, str(error).replace(workflow_id, "ID"))
    failed = [(one.n, one.queue, one.reason, one.message) for one in status.failed]
    return status[:4], failed, str(result).replace(workflow_id, "ID")


@pytest.fixture(scope="module")
def in_memory() -> Iterator[dict[tuple[int, str], tuple[Any, ...]]]:
    found = {}
    with run_inline(app) as jobs:
        for seed in range(24):
            for policy in ("stop", "continue"):
                job = hands_on.enqueue(seed, policy)
                jobs.run()
                found[seed, policy] = outcome(jobs.result(job))
    yield found


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_memory_and_a_server_agree(
    url: str, in_memory: dict[tuple[int, str], tuple[Any, ...]], policy: str
) -> None:
    with live(app, url, concurrency=1):
        jobs = [hands_on.enqueue(seed, policy) for seed in range(24)]
        for seed, job in enumerate(jobs):
            assert outcome(job.result(timeout=WAIT_S)) == in_memory[seed, policy], seed
    states = {one[0][0] for one in in_memory.values()}
    assert states == {"done", "failed"}
