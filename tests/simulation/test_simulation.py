"""Seeds of the simulation, and that it can be trusted: deterministic, and able to fail."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.policy import LeasePolicy
from headrace.wire import Head, assemble, join
from tests.property.model import Lease
from tests.simulation.checker import Checker, Job, Run
from tests.simulation.faults import KINDS, Faults
from tests.simulation.queue import Queue
from tests.simulation.run import run_seed, simulated
from tests.simulation.world import Node, Stuck, World

ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("HEADRACE_SIMULATION_SEEDS") or 200)
PORTIONS = 4  # so that they run beside one another


def simulate(*arguments: str) -> str:
    """Run the simulation in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("portion", range(PORTIONS))
def test_no_seed_breaks_an_invariant(portion: int) -> None:
    count = SEEDS // PORTIONS
    said = simulate("--seeds", str(count), "--first", str(portion * count), "--jobs", "1")
    assert f"{count} seeds" in said


def test_a_seed_is_the_same_each_time() -> None:
    traces = {simulate("--seed", "11", "-v") for _ in range(2)}
    assert len(traces) == 1
    (trace,) = traces
    assert trace.count("\n") > 100
    with simulated():
        first, again, other = run_seed(11), run_seed(11), run_seed(12)
    assert str(first.trace) == str(again.trace) != str(other.trace)


def test_every_kind_of_fault_is_injected() -> None:
    counts: Counter[str] = Counter()
    with simulated():
        for seed in range(1_000):
            counts += run_seed(seed).faults
            if set(KINDS) <= set(counts):
                return
    pytest.fail(f"never: {set(KINDS) - set(counts)}")


# The checker: it rejects what is wrong, one case for each invariant.


@pytest.fixture
def world() -> World:
    return World(0)


@pytest.fixture
def checker(world: World) -> Checker:
    checker = Checker(world, LeasePolicy(lease_s=3.0, bare_lease_s=3.0, max_crashes=3))
    checker.faults = Faults(world, 3.0)
    checker.faults.heals_at = world.now
    return checker


@pytest.fixture
def nodes(world: World, checker: Checker) -> Iterator[list[Node]]:
    nodes = [Node(world, name) for name in ("a", "b")]
    checker.consumers.update({node.name: node for node in nodes})
    yield nodes
    for node in nodes:
        node.bury()


JOB = assemble("x", b',"task":"t","args":[1]}')


def of(checker: Checker, word: str) -> bool:
    return bool(checker.violations) and all(v.startswith(word) for v in checker.violations)


def test_an_accepted_job_that_never_ended_is_seen(checker: Checker) -> None:
    checker.jobs[1] = Job(1, copies=1)
    checker.verdict(Queue())
    assert of(checker, "I1")


def test_an_id_in_two_places_is_seen(checker: Checker) -> None:
    queue = Queue(pending=[JOB], dead=[JOB])
    queue.stats["enqueued"] = 2
    checker.look(queue)
    assert of(checker, "I2")


def test_a_move_that_nobody_adopts_is_seen(checker: Checker, nodes: list[Node]) -> None:
    queue = Queue(processing=[JOB])
    queue.stats["enqueued"] = 1
    checker.moved(queue, JOB, nodes[0])
    checker.world.now += 30.0
    checker.look(queue)
    assert of(checker, "I2")


def test_a_job_too_few_is_seen(checker: Checker) -> None:
    queue = Queue()
    queue.stats["enqueued"] = 1
    checker.look(queue)
    assert of(checker, "I3")


def test_the_end_of_another_claim_is_seen(checker: Checker, nodes: list[Node]) -> None:
    queue = Queue(processing=[JOB], leases={"x": Lease("b:7", JOB, 10**15)})
    before = checker.before("settle", queue)
    args = ("a", "x", 3, "done", 0, b"", 0, b"")
    checker.after("settle", queue, before, args, [], nodes[0])
    assert of(checker, "I4")


def test_a_charge_without_a_crash_is_seen(checker: Checker, nodes: list[Node]) -> None:
    queue = Queue(leases={"x": Lease("a:1", JOB, 0)})
    before = checker.before("reclaim", queue)
    queue.leases.clear()
    checker.after("reclaim", queue, before, (), [0, 1, 0], nodes[1])
    assert of(checker, "I6")


@pytest.mark.parametrize(("held_s", "wrong"), [(0.05, False), (0.2, True)])
def test_a_suspect_that_another_job_takes_with_it_is_seen_unless_it_was_on_its_way(
    checker: Checker, nodes: list[Node], held_s: float, wrong: bool
) -> None:
    letter = join(Head("x", crashes=3), b',"args":[1],"error":{"reason":"crashed"}}')
    queue = Queue(leases={"x": Lease("a:1", JOB, 0)})
    queue.stats["enqueued"] = 1
    checker.jobs[1] = Job(1, copies=1)
    checker.after("claim", queue, None, (1, 3000, "a", 1), [b"ok", 0, JOB], nodes[0])
    checker.world.now += held_s
    nodes[0].kill()
    before = checker.before("reclaim", queue)
    queue.leases.clear()
    queue.dead.append(letter)
    checker.after("reclaim", queue, before, (), [0, 1, 0], nodes[1])
    checker.verdict(queue)
    assert of(checker, "I6") is wrong


def test_a_death_for_no_reason_is_seen(checker: Checker) -> None:
    checker.jobs[1] = Job(1, copies=1)
    letter = join(Head("x"), b',"args":[1],"error":{"reason":"max_attempts"}}')
    queue = Queue(dead=[letter])
    queue.stats["enqueued"] = 1
    checker.verdict(queue)
    assert of(checker, "I7")


def test_an_early_run_is_seen(checker: Checker, nodes: list[Node]) -> None:
    checker.jobs[1] = Job(1, due_ms=10**15)
    checker.world.current = nodes[0]
    checker.begin(1)
    assert of(checker, "I8")


def test_a_second_run_without_a_cause_is_seen(checker: Checker, nodes: list[Node]) -> None:
    checker.jobs[1] = Job(1, copies=1, runs=[Run(1, nodes[0], checker.world.now)])
    checker.world.current = nodes[1]
    checker.begin(1)
    assert of(checker, "I9")


def test_a_second_run_after_a_crash_is_not_held_against_anybody(
    checker: Checker, nodes: list[Node]
) -> None:
    checker.jobs[1] = Job(1, copies=1, runs=[Run(1, nodes[0], checker.world.now)])
    nodes[0].kill()
    checker.world.current = nodes[1]
    checker.begin(1)
    assert not checker.violations


def test_an_item_whose_lease_is_long_over_is_seen(checker: Checker, nodes: list[Node]) -> None:
    queue = Queue(now=1_000, processing=[JOB], leases={"x": Lease("a:1", JOB, 0)})
    queue.stats["enqueued"] = 1
    nodes[0].main = nodes[1].main = None
    checker.look(queue)
    checker.world.now += 100.0
    checker.look(queue)
    assert of(checker, "I10")


def test_a_consumer_that_sleeps_beside_work_is_seen(checker: Checker, nodes: list[Node]) -> None:
    queue = Queue(pending=[JOB])
    queue.stats["enqueued"] = 1
    checker.rests(nodes[0])
    checker.look(queue)
    checker.world.now += 30.0
    checker.look(queue)
    assert of(checker, "I11")


def test_a_loop_that_spins_is_seen(world: World) -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    node = Node(world, "a")
    node.start(spin())
    with pytest.raises(Stuck):
        world.run(lambda: False, 10.0)
    node.bury()
