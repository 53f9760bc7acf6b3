"""A workflow that a job hands on, at the scripts: whoever starts it, how often and how late, it begins once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headrace.workflows.keys import begun_of, workflow_keys
from headrace.workflows.starting import Plan, options, planned, started
from headrace.workflows.workflow import cancelled, status_of
from tests.integration.transitions.driver import Driver
from tests.integration.transitions.test_workflow import node

MEMBERS, WINDOW, WEEK_MS = 1_300, 3, 7 * 86_400_000


def plan_of(queue: Driver, members: int) -> Plan:
    nodes = [node(queue, n, n) for n in range(members)]
    return planned(nodes, range(members), many=True)[1]


def begin(plan: Plan) -> Any:
    return started(plan, options("stop", 60.0, WINDOW), 0, remembered_ms=WEEK_MS)


def begun_at_random(queue: Driver, seed: int) -> None:
    """Let several start it, step by step; once it has begun it is over, and forgotten, as far as others can tell."""
    chance, plan = random.Random(seed), plan_of(queue, MEMBERS)
    k = workflow_keys(queue.k, plan.id)
    runs = [(flow, next(flow)) for flow in (begin(plan) for _ in range(3))]
    has_begun = False
    while runs:
        flow, asked = runs.pop(chance.randrange(len(runs)))
        many = isinstance(asked, list)
        answers = queue.store.run_all(asked) if many else queue.store.run(asked)
        try:
            runs.append((flow, flow.send(answers)))
        except StopIteration:
            if not has_begun:
                assert queue.redis.llen(k.rest) == MEMBERS - WINDOW
                queue.redis.delete(*k)
            has_begun = True
    assert queue.state().counters == {"enqueued": WINDOW}
    assert not queue.redis.exists(*k)


@pytest.mark.parametrize("seed", range(5))
def test_whoever_starts_it_it_begins_once(queue: Driver, seed: int) -> None:
    begun_at_random(queue, seed)
    queue.check()


def test_that_it_has_begun_is_remembered_for_a_week(queue: Driver) -> None:
    plan = plan_of(queue, 2)
    queue.store.follow(begin(plan))
    assert queue.redis.get(begun_of(queue.k, plan.id)) == b""
    assert 0 < int(queue.redis.pttl(begun_of(queue.k, plan.id))) <= WEEK_MS


def test_nothing_is_remembered_of_one_that_no_job_hands_on(queue: Driver) -> None:
    plan = plan_of(queue, 2)
    queue.store.follow(started(plan, options("stop", 60.0, 3), 0))
    assert not queue.redis.exists(begun_of(queue.k, plan.id))


@pytest.mark.parametrize("when", ["before", "between"])
def test_one_that_is_cancelled_before_it_begins_never_does(queue: Driver, when: str) -> None:
    plan = plan_of(queue, MEMBERS)
    queue.redis.set(begun_of(queue.k, plan.id), MEMBERS, px=WEEK_MS)  # as the commit does
    assert queue.store.follow(status_of(queue.k, plan.id)).state == "waiting"
    run = begin(plan)
    asked = next(run)
    if when == "between":
        asked = run.send(queue.store.run(asked))
    assert queue.store.follow(cancelled(queue.k, plan.id))
    with pytest.raises(StopIteration):
        while True:
            several = isinstance(asked, list)
            asked = run.send(queue.store.run_all(asked) if several else queue.store.run(asked))
    queue.store.follow(begin(plan))
    assert queue.store.follow(status_of(queue.k, plan.id))[:2] == ("cancelled", MEMBERS)
    assert not queue.state().counters
    assert not queue.redis.exists(workflow_keys(queue.k, plan.id).rest)
    assert not queue.store.follow(cancelled(queue.k, "another"))
