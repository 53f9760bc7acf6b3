"""Seeds of what is beside the core, on real scripts; and that its checker is able to say no."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from headrace.policy import LeasePolicy
from headrace.schedules.requests import State
from tests.simulation.checker import Job, Run
from tests.simulation.faults import Faults
from tests.simulation.flow_checker import CAP, EVERY_MS, Flow, FlowChecker
from tests.simulation.real import RealQueue
from tests.simulation.test_simulation import simulate
from tests.simulation.world import Node, World

SEEDS = (
    int(os.environ.get("HEADRACE_SIMULATION_SEEDS") or 200) // 4
)  # each takes as long as ten others
PORTIONS = 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_seed_breaks_what_is_promised(portion: int) -> None:
    count = SEEDS // PORTIONS
    first = str(portion * count)
    said = simulate("--flows", "--seeds", str(count), "--first", first, "--jobs", "1")
    assert f"{count} seeds" in said


def test_a_seed_is_the_same_each_time() -> None:
    for seed in ("7", "3"):  # in the former, a consumer is lost that held several jobs
        traces = {simulate("--flows", "--seed", seed, "-v") for _ in range(2)}
        assert len(traces) == 1
    (trace,) = traces
    assert "workflows/commit" in trace
    assert "lanes/admit" in trace


@pytest.fixture
def checker() -> FlowChecker:
    world = World(0)
    checker = FlowChecker(world, LeasePolicy(lease_s=3.0, bare_lease_s=3.0, max_crashes=3))
    checker.faults = Faults(world, 3.0)
    checker.faults.heals_at = world.now
    checker.jobs.update({key: Job(key) for key in range(1, 9)})
    return checker


@pytest.fixture
def node(checker: FlowChecker) -> Iterator[Node]:
    node = checker.world.current = Node(checker.world, "a")
    yield node
    node.bury()


def ended(key: int, node: Node) -> Run:
    return Run(key, node, node.world.now, node.world.now, "ok")


def test_one_that_begins_before_what_it_follows_is_seen(checker: FlowChecker, node: Node) -> None:
    checker.follows[2] = [1]
    checker.begin(2)
    assert checker.violations == ["flow: job 2 began, and 1, which it follows, has not ended"]


def test_one_that_begins_after_what_it_follows_is_well(checker: FlowChecker, node: Node) -> None:
    checker.follows[2] = [1]
    checker.jobs[1].runs.append(ended(1, node))
    checker.begin(2)
    assert not checker.violations


def test_one_too_many_at_once_is_seen(checker: FlowChecker, node: Node) -> None:
    for key in range(1, CAP + 2):
        checker.under[key] = "capped"
        checker.begin(key)
    assert checker.violations == [f"limits: {CAP + 1} of capped run at once, and {CAP} may"]


def test_too_many_at_a_time_are_seen(checker: FlowChecker, node: Node) -> None:
    for key in range(1, 9):
        checker.under[key] = "rated"
        checker.begin(key)
    assert checker.violations[0] == "limits: 4 jobs began, and 3.0 might have"


def test_a_slot_too_many_is_seen(checker: FlowChecker) -> None:
    checker.look(RealQueue(slots=[b"keyed/a 1 x", b"keyed/b 2 y", b"keyed/a 3 z"]))
    assert checker.violations == ["limits: 2 have a slot of keyed/a, and 1 may"]


def test_a_flow_of_which_a_part_is_missing_is_seen(checker: FlowChecker, node: Node) -> None:
    checker.flows.append(Flow([1, 2], there=None))
    checker.jobs[1].runs.append(ended(1, node))
    queue = RealQueue()
    queue.stats.update(enqueued=1, done=1)
    checker.verdict(queue)
    assert checker.violations == [
        "I1: job 2 (ok): 1 accepted, 0 ended",
        "flow: 1 jobs were accepted, and 2 were to be",
    ]


def test_a_tick_that_is_nowhere_is_seen(checker: FlowChecker) -> None:
    checker._first_ms, checker._missed = EVERY_MS, "all"
    checker.ticks["x"] = EVERY_MS
    checker.counted = State(fired=1), 3 * EVERY_MS
    queue = RealQueue()
    queue.stats.update(enqueued=1, done=1)
    checker.verdict(queue)
    assert checker.violations == ["ticks: of 2 ticks 1 neither fired nor are counted as missed"]
