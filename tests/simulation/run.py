"""One seed, from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from headrace import clock, ids, keys
from headrace.consumer import claimed, consumer, dispatcher, executor, leases
from headrace.consumer.aside import Aside
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import ProcessDied
from headrace.consumer.run import End, failure, invoke, success
from headrace.context import current_job
from headrace.hooks import consumer_hooks
from headrace.maintenance import DutyMaker, Maintenance
from headrace.operations import request
from headrace.policy import LeasePolicy
from headrace.scripts import Script
from headrace.store import AsyncStore, address, exchange
from tests.simulation.checker import Checker
from tests.simulation.faults import Faults
from tests.simulation.fiber import Fiber, Flag
from tests.simulation.network import AsyncConnection, Network, SyncConnection
from tests.simulation.queue import Queue
from tests.simulation.scenario import ALONE, K, Scenario
from tests.simulation.server import Server
from tests.simulation.world import Stuck, World
from tests.support.phases import CheckedPhase

COARSE_TICK_S = 0.4
"""How often consumers look at the clock here; an eighth of the looks, and of the cost."""

ENDS_WITHIN_S = 20.0  # a consumer that was told to, beyond its grace


@dataclass
class Outcome:
    """What a seed gave."""

    seed: int
    violations: list[str]
    faults: Counter[str]
    trace: list[tuple[Any, ...]]
    jobs: int
    runs: int
    seconds: float


class _Chance:
    """Stands for ``os`` where ids are made: random bytes, the same for each run of a seed."""

    register_at_fork = staticmethod(lambda **_: None)

    @staticmethod
    def urandom(count: int) -> bytes:
        return random.randbytes(count)


class Keeper(leases.LeaseKeeper):
    """The lease keeper, in a fiber instead of a thread."""

    def start(self) -> None:
        node = Network.here.world.current
        assert node is not None
        self._closing: Any = Flag(Fiber(node, self.run))


class NoHints:
    """No hints of cancelled jobs: all are lost, which they may be."""

    def __init__(self, *_: object) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


def maintenance_here(
    url: str, label: str, name: str, policy: LeasePolicy, duties: Sequence[DutyMaker] = ()
) -> Maintenance:
    """Give the maintenance, on the loop of its consumer instead of a thread's."""
    return Maintenance(AsyncStore(url, name=label), name, policy, duties)


class TaskExecutor(executor.Executor):
    """The executor, in which a suspect runs in a task instead of a process."""

    def start(self, claimed: ClaimedJob) -> None:
        if not claimed.alone:
            super().start(claimed)
            return
        context = self._base.copy()
        context.run(ALONE.set, True)
        claimed.async_run = self._loop.create_task(
            self._run_alone_in_a_task(claimed), context=context
        )

    async def _run_alone_in_a_task(self, claimed: ClaimedJob) -> None:
        died: ProcessDied | None = None
        end: End | None = None
        current_job.set(claimed.context)
        consumer_hooks.set(None)  # its process has none of the consumer's
        claimed.started = Network.here.world.now
        try:
            end = success(claimed, await invoke(claimed))
        except ProcessDied as error:
            died = error
        except BaseException as error:
            end = failure(claimed, error)
        self._finished(claimed, end, died)


class Inline(Aside):
    """Describes without a thread, which the world would not know; nor does it catch anything."""

    async def _within(
        self, claimed: ClaimedJob, what: Any, describe: Callable[[ClaimedJob, Any], End]
    ) -> End | None:
        return describe(claimed, what)


@contextmanager
def simulated() -> Iterator[None]:
    """Put the simulation under the product: clock, chance, connections, the keeper's thread."""
    saved: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        saved.append((owner, name, owner.__dict__.get(name)))
        setattr(owner, name, value)

    def monotonic() -> float:
        return Network.here.world.now

    def now_ms() -> int:
        return Network.here.world.now_ms()

    for module in [m for name, m in sys.modules.items() if name.startswith("headrace")]:
        for name, function in (("monotonic", monotonic), ("now_ms", now_ms)):
            if getattr(module, name, None) is getattr(clock, name) and module is not clock:
                put(module, name, function)
    put(ids, "os", _Chance)
    put(consumer, "LeaseKeeper", Keeper)
    put(consumer, "MaintenanceThread", maintenance_here)
    put(consumer, "Cancellation", NoHints)
    put(dispatcher, "Executor", TaskExecutor)
    put(executor, "Aside", Inline)
    put(claimed.ClaimedJob, "phase", CheckedPhase())
    put(consumer, "_TICK_S", COARSE_TICK_S)
    put(address.AsyncAddress, "_class", AsyncConnection)
    put(address.Address, "_class", SyncConnection)
    put(exchange, "packed", lambda commands: commands)
    # Sets of these are walked through: in an order that does not depend on addresses and hash seeds.
    put(claimed.ClaimedJob, "__hash__", lambda self: self.number)
    put(keys.Keys, "__hash__", lambda self: zlib.crc32(self.queue.encode()))
    # Coroutines of the dead are unwound where it is said, and nowhere else.
    gc.collect()
    gc.freeze()
    gc.disable()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of coroutines that die with their process
            yield
            Network.forget()
            gc.collect()
    finally:
        ids._sequence._forget()  # ids only rise: what comes next must not go on in simulated time
        gc.enable()
        gc.unfreeze()
        logging.disable(logging.NOTSET)
        sys.unraisablehook = hook
        for owner, name, value in reversed(saved):
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    server: type[Server] = Server
    checker: type[Checker] = Checker
    scenario: type[Scenario] = Scenario
    impossible: Sequence[str] = ()  # kinds of faults
    rare: Sequence[str] = ()  # scripts at whose calls something happens more often


PLAIN = Parts()


def run_seed(seed: int, *, queue_class: type[Queue] | None = None, parts: Parts = PLAIN) -> Outcome:
    """Run one seed; only inside ``simulated``."""
    chance = random.getstate()
    random.seed(seed)
    ids._sequence._forget()
    world = World(seed)
    rng = world.rng
    policy = LeasePolicy(
        lease_s=rng.choice((3.0, 3.0, 6.0, 6.0, 15.0)),
        bare_lease_s=rng.choice((3.0, 6.0)),
        max_crashes=rng.choice((2, 3, 5)),
    )
    checker = parts.checker(world, policy)
    server = parts.server(world, checker)
    server.queue_class = queue_class or server.queue_class
    faults = server.faults = checker.faults = Faults(world, policy.lease_s)
    faults.enabled = [kind for kind in faults.enabled if kind not in parts.impossible]
    script: Callable[[str], Script] = vars(request)["script"]  # where bugs are put in
    faults.aim([script(name).sha for name in parts.rare])
    checker.clock_ms = server.clock_ms()
    Network.here = Network(world, server, faults)
    scenario = parts.scenario(world, checker, faults, policy)
    try:
        _run(world, server, faults, scenario, checker)
    except Stuck as stuck:
        checker.wrong(str(stuck))
    finally:
        for node in [*scenario.consumers, *world.nodes]:
            node.bury()
        random.setstate(chance)
        if seed % 16 == 0:
            gc.collect()
    runs = sum(len(job.runs) for job in checker.jobs.values())
    return Outcome(
        seed,
        checker.violations,
        faults.counts,
        world.trace,
        len(checker.jobs),
        runs,
        world.now - 1_000,
    )


def _run(
    world: World, server: Server, faults: Faults, scenario: Scenario, checker: Checker
) -> None:
    scenario.start()
    faults.schedule(server, scenario.victims)
    queue = server.queue(K.pending)

    def drained() -> bool:
        left = server.is_away or scenario.left(server.queues[K.pending])
        return bool(checker.violations) or not left

    policy, most = scenario.policy, sum(1 for _ in checker.jobs)
    bound = faults.heals_at - world.now + 20 * policy.lease_s + 120 + most
    if not world.run(drained, bound):
        places = {
            n: len(getattr(server.queue(K.pending), n))
            for n in ("pending", "processing", "delayed", "priority")
        }
        checker.wrong(
            f"I11: not drained after {bound:.0f} s: {places}, {scenario.producing} producers"
        )
    queue = server.queue(K.pending)
    faults.heals_at = min(faults.heals_at, world.now)
    scenario.quiet = True
    _end(world, scenario, checker)
    if not checker.violations:
        checker.verdict(queue)


def _end(world: World, scenario: Scenario, checker: Checker) -> None:
    """Tell all consumers to end, and see that they do."""
    for node in scenario.consumers:
        if not node.dead and not node.leaving:
            node.call(node.terminate)
    bound = scenario._grace_s + ENDS_WITHIN_S + 3 * scenario.policy.lease_s
    if not world.run(lambda: all(node.over for node in scenario.consumers), bound):
        names = [node.name for node in scenario.consumers if not node.over]
        checker.wrong(f"I11: {names} did not end")
    for node in scenario.consumers:
        if node.main is not None and node.main.done() and not node.dead:
            error = node.main.exception()
            if error is not None:
                checker.wrong(f"{node.name} failed: {error!r}")
        for problem in (*node.loop.problems, *(f.problem for f in node.fibers if f.problem)):
            checker.wrong(f"{node.name}: {problem}")
