"""Seeds of what is beside the core, on real scripts; and that its checker is able to say no."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import wire
from headrace.policy import LeasePolicy
from headrace.schedules.requests import State
from tests.property.model import Lease
from tests.simulation.checker import Job, Run
from tests.simulation.faults import Faults
from tests.simulation.flow_checker import CAP, EVERY_MS, FlowChecker
from tests.simulation.flows import real_flows
from tests.simulation.real import K, RealQueue, RealServer
from tests.simulation.test_simulation import simulate
from tests.simulation.workflow_checker import Flow
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


def a_flow(checker: FlowChecker, *keys: int, **fields: Any) -> Flow:
    flow = Flow(**fields)
    for key in keys:
        checker.belongs(key, flow)
    checker.flows.append(flow)
    return flow


def one(key: int, **more: Any) -> bytes:
    return json.dumps({"id": f"id{key}", "task": "link", "args": [key]} | more).encode()


def dead(key: int, reason: str = "max_attempts") -> bytes:
    return wire.letter(wire.Head(f"id{key}"), b',"args":[%d]}' % key, wire.Error(reason))


def test_one_that_follows_a_dead_one_is_seen_unless_it_may(
    checker: FlowChecker, node: Node
) -> None:
    flow = a_flow(checker, 1, 2)
    checker.follows[2] = [1]
    checker.notice(RealQueue(dead=[dead(1)]))
    checker.begin(2)
    assert checker.violations == ["flow: job 2 began, and 1, which it follows, has not ended"]
    flow.on_failure = "continue"
    checker.jobs[2].runs.clear()
    checker.begin(2)
    assert len(checker.violations) == 1


@pytest.mark.parametrize(
    ("on_failure", "value", "fits"),
    [
        ("stop", [1, 2], True),
        ("stop", [2, 1], False),
        ("stop", [1], False),
        ("stop", [1, None], False),
        ("stop", [1, {"error": {"reason": "max_attempts"}}], False),
        ("continue", [1, {"error": {"reason": "max_attempts"}}], False),  # it never died
        ("continue", [{"error": {"reason": "crashed"}}, 2], False),  # not of that
        ("continue", [{"error": {"reason": "max_attempts"}}, 2], True),
    ],
)
def test_what_is_given_is_what_was_returned_or_how_it_failed(
    checker: FlowChecker, node: Node, on_failure: Any, value: Any, fits: bool
) -> None:
    a_flow(checker, 1, 2, 3, on_failure=on_failure)
    checker.follows[3], checker.gets = [1, 2], {3}
    checker.notice(RealQueue(dead=[dead(1)]))
    checker.jobs[1].runs.append(ended(1, node))
    checker.jobs[2].runs.append(ended(2, node))
    checker.given(3, value)
    assert bool(checker.violations) != fits


def test_another_value_at_another_run_is_seen(checker: FlowChecker, node: Node) -> None:
    a_flow(checker, 1, 2, on_failure="continue")
    checker.follows[2], checker.gets = [1], {2}
    checker.cancels(1)
    checker.jobs[1].runs.append(ended(1, node))
    checker.given(2, 1)
    assert not checker.violations
    checker.given(2, {"error": {"reason": "cancelled"}})
    assert len(checker.violations) == 1


def test_a_job_that_is_accepted_under_two_ids_is_seen(checker: FlowChecker) -> None:
    checker.notice(RealQueue(pending=[one(1)], limited=[b"capped/ 7 " + one(2)]))
    checker.notice(RealQueue(pending=[one(1, delivery=1)]))
    assert not checker.violations
    checker.notice(RealQueue(pending=[one(2, id="other")]))
    assert checker.violations == ["flow: job 2 was accepted twice"]


@pytest.mark.parametrize("place", ["pending", "limited"])
def test_one_that_waits_when_all_is_cancelled_is_seen(checker: FlowChecker, place: str) -> None:
    flow = a_flow(checker, 1, 2, cancelling_at=1.0)
    queue = RealQueue(processing=[one(1)])
    setattr(queue, place, [b"capped/ 7 " + one(2)])
    checker.cancelled(flow, queue)
    assert checker.violations == [f"flow: job 2 is {place}, and its workflow is cancelled"]


def test_what_follows_when_all_is_cancelled_is_seen(checker: FlowChecker, node: Node) -> None:
    flow = a_flow(checker, 1, 2, 3, cancelling_at=1.0)
    checker.cancelled(flow, RealQueue(processing=[one(1)]))
    checker.begin(1)  # a consumer has it: it hears that it is to stop
    checker.jobs[2].redriven_at = 2.0  # an operator wanted it
    checker.begin(2)
    assert not checker.violations
    checker.begin(3)
    checker.notice(RealQueue(pending=[one(3)]))
    assert checker.violations == [
        "flow: job 3 began, and its workflow was cancelled before",
        "flow: job 3 was accepted, and its workflow was cancelled before",
    ]


@pytest.mark.parametrize("after_s", [2.0, 10.0])
def test_who_does_not_hear_that_all_is_cancelled_is_seen(
    checker: FlowChecker, node: Node, after_s: float
) -> None:
    flow, run = a_flow(checker, 1, cancelling_at=1.0), checker.begin(1)
    checker.cancelled(flow, RealQueue(processing=[one(1)]))
    checker.world.now += after_s
    checker.end(run, "ok")
    assert bool(checker.violations) == (after_s > checker.policy.lease_s)


def test_a_commit_under_anothers_claim_is_seen(checker: FlowChecker, node: Node) -> None:
    queue = RealQueue(leases={"id1": Lease("b:7", one(1), 1)})
    before = checker.before("workflows/commit", queue)
    for consumer, reply in (("b", []), ("a", [b"id1"]), ("a", [])):
        args = [consumer, "id1", -7, "done"]
        checker.after("workflows/commit", RealQueue(), before, args, reply, node)
    assert checker.violations == ["I4: a ended id1 by done, which b:7 has"]


def test_one_that_is_said_to_be_over_and_is_not_is_seen(checker: FlowChecker) -> None:
    checker.refuses(a_flow(checker, 1, 2))
    assert checker.violations == ["flow: it is said to be over, and [1, 2] have not ended"]


@pytest.mark.parametrize(
    ("state", "told", "fits"),
    [
        (b"done", b'{"state":"done","value":[1,2]}', True),
        (b"done", b'{"state":"done","value":[2,1]}', False),
        (b"running", b'{"state":"done","value":[1,2]}', False),
        (b"cancelled", b'{"state":"cancelled"}', False),  # nobody has asked for that
    ],
)
def test_an_end_that_does_not_fit_is_seen(
    checker: FlowChecker, node: Node, state: bytes, told: bytes, fits: bool
) -> None:
    a_flow(checker, 1, 2, there=True, id="w", last=[1, 2])
    for key in (1, 2):
        checker.jobs[key].runs.append(ended(key, node))
    checker.ask = lambda command: state if command[0] == "HGET" else [told]
    checker.settled()
    assert bool(checker.violations) != fits


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
    count = len(checker.violations)
    checker.faults.count("slow", node)
    checker.begin(8)
    assert len([one for one in checker.violations if one.startswith("limits")]) == count


def test_each_jump_of_the_clock_may_fill_the_bucket(checker: FlowChecker, node: Node) -> None:
    checker.faults.counts["clock jump"] += 1
    for key in range(1, 9):
        checker.under[key] = "rated"
        checker.begin(key)
    assert checker.violations[0] == "limits: 7 jobs began, and 6.0 might have"


def test_a_tick_before_its_time_is_seen(checker: FlowChecker) -> None:
    checker.clock_ms = 5_000
    checker.ticked("x", 5_000)
    assert not checker.violations
    checker.ticked("y", 5_001)
    assert checker.violations == ["I8: the job of tick 5001 began 1 ms early"]


def test_a_slot_too_many_is_seen(checker: FlowChecker) -> None:
    checker.look(RealQueue(slots=[b"keyed/a 1 x", b"keyed/b 2 y", b"keyed/a 3 z"]))
    assert checker.violations == ["limits: 2 have a slot of keyed/a, and 1 may"]


def test_a_flow_of_which_a_part_is_missing_is_seen(checker: FlowChecker, node: Node) -> None:
    a_flow(checker, 1, 2, there=None)
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


def test_a_redis_that_goes_back_has_everything_as_it_was(checker: FlowChecker) -> None:
    with real_flows():
        server = RealServer(checker.world, checker)
        flow = a_flow(checker, 1, there=True)
        lost = a_flow(checker, 2, 3, there=True, id="w")
        server.ask(("LPUSH", K.pending, one(1)))
        server.ask(("SET", "expires", "a", "PX", 60_000))
        saved = server.save()
        server.ask(("LPUSH", K.pending, one(2)))
        server.ask(("SET", "expires", "b"))
        lost.cancelled_at = checker.world.now
        checker.ticks["id2"] = EVERY_MS
        assert checker.ids == {"id1": 1, "id2": 2}
        server.restore(saved)
        assert server.queue(K.pending).pending == [one(1)]
        assert server.ask(("GET", "expires")) == b"a"
        assert 0 < server.ask(("PTTL", "expires")) <= 60_000
    assert (flow.there, lost.there) == (True, None)
    assert not any(flow.cancelled_at for flow in checker.flows)
    assert (checker.ids, checker.ticks) == ({"id1": 1}, {})
    server.checker.notice(RealQueue(pending=[one(2, id="another")]))  # as a new life of it has it
    assert not checker.violations
