"""Faults of processes: killed, stopped, told to end; consumers, producers, servers."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from headrace.policy import LeasePolicy
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.failpoints import Failpoint
from tests.faults.history import BURY, BUSY
from tests.faults.roles import SupervisorRole
from tests.support.wait import wait_until

MIXED = (("quick", 60), ("nap", 8), ("work", 4), ("flaky", 3), ("failing", 1))
"""Mostly quick jobs, some that take a while, some that fail."""


@fault_class("consumer SIGKILL", cost_s=90, short=0.05)
def consumer_killed(bench: Bench) -> Verdict:
    """SIGKILL consumers at any moment, idle or in the middle of jobs."""
    bench.serve_redis()
    bench.sample()
    bench.maintainer()
    for _ in range(6):
        bench.consumer()
    bench.producer(40_000, mix=MIXED, batch=50, pause_s=0.1, delayed=0.05, prioritised=0.05)
    while bench.producing():
        bench.pause(0.3, 1.0)
        bench.kill(bench.any_consumer())
        bench.consumer()
    return bench.finish(Terms())


@fault_class("consumer SIGSTOP beyond its lease", cost_s=80, short=0.06)
def consumer_stopped(bench: Bench) -> Verdict:
    """Let consumers stand still for longer than a lease; they wake up and settle too late."""
    bench.serve_redis()
    bench.sample()
    for _ in range(6):
        bench.consumer()
    bench.producer(20_000, mix=MIXED, batch=30, pause_s=0.1)
    stopped: dict[str, float] = {}
    while bench.producing() or stopped:
        bench.pause(0.2, 0.5)
        for name, until in list(stopped.items()):
            if time.monotonic() > until:
                bench.nursery.signal(bench.consumers[name], signal.SIGCONT)
                del stopped[name]
        if len(stopped) < 2 and bench.producing():
            name = bench.any_consumer()
            if name not in stopped:
                bench.fault("SIGSTOP", target=name)
                bench.nursery.signal(bench.consumers[name], signal.SIGSTOP)
                stopped[name] = time.monotonic() + bench.lease.lease_s * bench.rng.uniform(1.2, 3)
    return bench.finish(Terms())


@fault_class("SIGTERM storm (rolling deploy)", cost_s=50, short=0.05)
def rolling_deploy(bench: Bench) -> Verdict:
    """Tell half of the consumers to end, again and again; no job may run twice."""
    bench.serve_redis()
    bench.sample()
    for _ in range(4):
        bench.consumer()
    bench.producer(10_000, mix=MIXED, batch=50, pause_s=0.1)
    while bench.producing():
        bench.pause(0.2, 0.8)
        for name in bench.rng.sample(sorted(bench.consumers), 2):
            bench.fault("SIGTERM", target=name)
            bench.nursery.signal(bench.consumers.pop(name), signal.SIGTERM)
            bench.consumer()
    return bench.finish(Terms(runs_once=True))


@fault_class("producer SIGKILL", cost_s=30, short=0.1)
def producer_killed(bench: Bench) -> Verdict:
    """SIGKILL producers in the middle of enqueuing: what was acknowledged is done."""
    bench.serve_redis()
    bench.sample()
    for _ in range(2):
        bench.consumer(concurrency=50)
    for _ in range(max(3, round(60 * bench.scale))):
        pid = bench.producer(100_000, batch=bench.rng.choice((1, 20, 200)), pause_s=0.002)
        bench.pause(0.1, 0.3)
        bench.fault("SIGKILL of a producer")
        bench.nursery.signal(pid, signal.SIGKILL)
        bench.until_produced()
    return bench.finish(Terms(runs_once=True))


@fault_class("server SIGKILL", cost_s=40, short=0.08)
def server_killed(bench: Bench) -> Verdict:
    """SIGKILL ``headrace serve`` again and again, mostly while it leads the maintenance."""
    bench.serve_redis()
    bench.sample()
    bench.maintainer()  # before the consumers, so that it leads
    for _ in range(3):
        bench.consumer()
    bench.producer(6_000, mix=MIXED, batch=20, pause_s=0.1, delayed=0.5, delay_s=2.0)
    while bench.producing():
        bench.pause(0.3, 1.5)
        bench.fault("SIGKILL of a server")
        bench.nursery.signal(bench.servers.pop(), signal.SIGKILL)
        bench.maintainer()
    # Whoever leads next promotes what fell due meanwhile: 3 s until the lead runs out, and a second.
    return bench.finish(Terms(runs_once=True, overdue_s=5.0))


_TURNS = 60  # after so many it will not come any more


@dataclass(frozen=True)
class Watched(LeasePolicy):
    """Long leases: what a dead consumer held runs again long before, if the leader has ever seen it."""

    lease_s: float = 9.0
    bare_lease_s: float = 1.5
    max_crashes: int = 50
    extend_every_s: float = 0.5
    sweep_every_s: float = 0.15
    gone_after_s: float = 1.0


@fault_class("the leader is overloaded", cost_s=60, short=0.1, lease=Watched())
def leader_overloaded(bench: Bench) -> Verdict:
    """Hold the loop of the one process that maintains; kill others, some right after a blocking move.

    Due jobs, bare items and lost consumers wait for nobody else: only it promotes, sweeps and looks.
    """
    bench.serve_redis()
    bench.sample()
    leader = bench.consumer(concurrency=4, held=True)  # it alone leads
    for _ in range(3):
        bench.consumer(maintains=False)
    bench.producer(300, mix=(("stall", 1),), batch=2, pause_s=0.2, seconds=(0.3, 0.9))
    bench.producer(6_000, mix=(("quick", 6), ("nap", 1)), batch=10, pause_s=0.05, delayed=0.5)
    armed: set[str] = set()
    struck, turns = 0, 0
    while (producing := bench.producing()) or (not struck and turns < _TURNS):
        turns += 1
        if not producing:  # a short run is over before any of them had to wait for a job
            bench.producer(100, mix=(("quick", 1),), batch=1, pause_s=0.1)
        bench.pause(0.3, 0.7)
        struck += bench.forget_the_dead()
        others = sorted(bench.consumers.keys() - {leader})
        if len(others) > 3:
            bench.kill(bench.rng.choice(others))
        bench.leave_bare()
        point = Failpoint("after:BLMOVE", "kill", passes=bench.rng.randint(1, 5))
        points = (point,) if bench.rng.random() < 0.7 else ()
        name = bench.consumer(points=points, maintains=False)
        armed |= {name} if points else set()
    bench.drained()
    # Who is about to die is not asked whether he is awake.
    for name in armed & bench.consumers.keys():
        bench.nursery.signal(bench.consumers.pop(name), signal.SIGTERM)
    bench.nursery.signal(bench.consumers[leader], signal.SIGUSR2)
    return bench.finish(
        Terms(
            stranded_s=6.0,
            overdue_s=1.5,
            # Missing for 1 s, and as much again for the looks on both sides of that.
            found_s=2.0,
            must_hit=(("kill after", "BLMOVE"), ("SIGKILL", ""), (BUSY, "promote"), (BUSY, BURY)),
        )
    )


@fault_class("recovery at default leases", cost_s=200, lease=LeasePolicy())
def recovery_at_defaults(bench: Bench) -> Verdict:
    """SIGKILL consumers that have the defaults: their jobs run again within 20 s."""
    bench.serve_redis()
    bench.sample()
    for _ in range(6):
        bench.consumer(suspects=True)
    bench.producer(1_600, mix=(("nap", 2), ("work", 1)), batch=2, pause_s=0.2, seconds=(0.2, 2.0))
    while bench.producing():
        bench.pause(6.0, 9.0)  # seldom the same job twice: suspects wait for a process
        bench.kill(bench.any_consumer())
        bench.consumer(suspects=True)
    # 1 s for what the machine itself takes: a reclaimed job also waits for a slot.
    return bench.finish(Terms(recovery_s=21.0))


@fault_class("child of a supervisor SIGKILL", cost_s=80, short=0.05, lease=LeasePolicy())
def child_killed(bench: Bench) -> Verdict:
    """SIGKILL consumers whose supervisor sees it: their jobs run again within a second."""
    bench.serve_redis()
    bench.sample()
    supervisor = bench.start(SupervisorRole, name=bench.name("v"), lease=bench.lease, suspects=True)
    wait_until(lambda: bench.connected("v1-") >= 3, "the children consume")
    bench.producer(4_000, mix=(("nap", 2), ("work", 1)), batch=4, pause_s=0.07, seconds=(0.1, 0.6))
    while bench.producing():
        bench.pause(1.5, 3.5)
        if bench.connected("v1-") >= 3:  # the last one that was killed has been replaced
            bench.kill_child(supervisor)
    # Twice what is promised, for a machine that is busy with other things.
    return bench.finish(Terms(recovery_s=2.0))
