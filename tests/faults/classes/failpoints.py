"""Faults at named points: before and after each request that a process makes."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from redis.exceptions import RedisError

from headrace import keys
from headrace.policy import LeasePolicy
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.coverage import (
    CONSUMING,
    GOAL,
    MAINTAINING,
    NOT_APPLICABLE,
    OPERATING,
    PRODUCING,
)
from tests.faults.evidence import Terms, Verdict
from tests.faults.failpoints import Action, Failpoint
from tests.support.wait import wait_until

_MIX = (("nap", 6), ("flaky", 2), ("failing", 2))
_LEASE = LeasePolicy(lease_s=0.9, bare_lease_s=0.9, max_crashes=50)
# In one trip each turn. Between turns there are promotions by themselves, too.
_TOGETHER = ("promote", "sweep", "reclaim")
_STRANDED_S = 120.0  # leaders die, or stand still, all the time


@fault_class("consumer killed at failpoints", cost_s=140, short=0.08, lease=_LEASE)
def killed_at_points(bench: Bench) -> Verdict:
    """SIGKILL before and after each request of consumers, producers and operators."""
    _at_each_point(bench, "kill")
    return bench.finish(Terms(stranded_s=_STRANDED_S))


@fault_class("consumer stopped at failpoints", cost_s=140, short=0.05, lease=_LEASE)
def stopped_at_points(bench: Bench) -> Verdict:
    """SIGSTOP beyond a lease before and after each request: everything that follows is late."""
    _at_each_point(bench, "stop")
    return bench.finish(Terms(stranded_s=_STRANDED_S))


Cell: TypeAlias = tuple[str, str]
"""A point: before or after, and the name of an operation."""


def _at_each_point(bench: Bench, action: Action) -> None:
    """Let processes fail until each point has failed often enough, or the time is up.

    First those of everybody else while one process leads, then those of the leader: were it to die
    all the time, nothing would be reclaimed meanwhile, for each new leader waits for a grace.
    """
    bench.serve_redis()
    bench.sample()
    leader = bench.maintainer()
    # One that nothing happens to, so that jobs get done.
    bench.consumer(concurrency=20, maintains=False)
    bench.producer(100_000, mix=_MIX, batch=2, pause_s=0.03, delayed=0.2, delay_s=1.0)
    _fail(bench, action, (*PRODUCING, *CONSUMING, *OPERATING), at_once=8, share=0.7)
    bench.nursery.signal(leader, signal.SIGTERM)
    _fail(bench, action, MAINTAINING, at_once=3, share=0.5)  # followers look every 3 s
    bench.end_producers()
    bench.maintainer()


def _fail(
    bench: Bench, action: Action, names: Sequence[str], *, at_once: int, share: float
) -> None:
    points = _Points(bench, action, names)
    deadline = time.monotonic() + share * max(14.0, 400.0 * bench.scale)
    while points.left and time.monotonic() < deadline:
        points.bury()
        points.fill(at_once)
        bench.pause(0.005, 0.02)
    points.end()


class _Points:
    """The points that have to fail yet, and the processes that are about to."""

    def __init__(self, bench: Bench, action: Action, names: Sequence[str]) -> None:
        self._bench, self._action = bench, action
        goal = max(1, round(1.1 * GOAL * bench.scale))
        self.left = {(when, name): goal for name in names for when in ("before", "after")}
        self.running: dict[int, Cell] = {}
        self._late: dict[int, float] = {}  # those that have stopped, and until when they may live

    def fill(self, at_once: int) -> None:
        """Start processes, for the points that have failed least."""
        while self.left and len(self.running) < at_once:
            waiting = Counter(self.running.values())
            # A promotion last: one is hit with each sweep.
            cell = max(
                sorted(self.left),
                key=lambda c: (self.left[c] - waiting[c], c[1] != "promote", self._chance()),
            )
            self.running[self._start(cell)] = cell

    def bury(self) -> None:
        """Count the points that have failed; whoever stopped has a while to be late, and ends."""
        nursery = self._bench.nursery
        nursery.look()
        for pid, cell in list(self.running.items()):
            if pid in nursery.alive and pid not in nursery.stopped:
                continue
            del self.running[pid]
            self._count(cell)
            if pid in nursery.alive:
                leases = 1.0 if cell[1] in MAINTAINING else 2.5
                self._late[pid] = time.monotonic() + leases * self._bench.lease.lease_s
            elif cell[1] in MAINTAINING:
                self._free_the_lead()
        for pid, until in list(self._late.items()):
            if time.monotonic() > until:
                del self._late[pid]
                nursery.signal(pid, signal.SIGTERM)

    def end(self) -> None:
        """End all that are left, also those that stand still."""
        nursery, pids = self._bench.nursery, {*self.running, *self._late}
        for pid in pids:
            nursery.signal(pid, signal.SIGTERM)
        wait_until(lambda: not pids & nursery.still_alive(), "they end")

    def _count(self, cell: Cell) -> None:
        """Count a point that has failed, and those of the requests that travel with it."""
        when, name = cell
        for hit in _TOGETHER if name in ("sweep", "reclaim") else (name,):
            left = self.left.pop((when, hit), 0) - 1
            if left > 0:
                self.left[when, hit] = left

    def _chance(self) -> float:
        return self._bench.rng.random()

    def _free_the_lead(self) -> None:
        """Let the next one lead at once: else each would wait for 3 s, and this take an hour."""
        with suppress(RedisError), self._bench.redis() as redis:
            redis.delete(keys.LEADER)

    def _start(self, cell: Cell) -> int:
        bench, (when, name) = self._bench, cell
        role: dict[str, Any] = {
            "points": (Failpoint(f"{when}:{name}", self._action, bench.rng.randint(1, 3)),),
            "stop_s": bench.lease.lease_s * bench.rng.uniform(1.2, 2.0),
        }
        if name in PRODUCING:
            often: dict[str, Any] = {"role": role, "pause_s": 0.02, "batch": 2, "delayed": 0.5}
            return bench.producer(round(9_000 / bench.scale), **often)
        if name in OPERATING:
            return bench.operator(moves=(name,), pause_s=0.02, **role)
        if name in MAINTAINING:
            return bench.maintainer(**role)
        return bench.consumers.pop(bench.consumer(concurrency=4, maintains=False, **role))


@fault_class("requests sent twice", cost_s=30, short=0.1)
def sent_twice(bench: Bench) -> Verdict:
    """Send each idempotent request a second time: nothing changes, and settles are answered lost."""
    bench.serve_redis()
    bench.sample()
    names = [n for n in (*CONSUMING, *MAINTAINING) if ("sent twice", n) not in NOT_APPLICABLE]
    points = tuple(Failpoint(f"after:{name}", "repeat", every=True) for name in names)
    for _ in range(3):
        bench.consumer(points=points)
    bench.operator(
        points=tuple(Failpoint(f"after:{name}", "repeat", every=True) for name in OPERATING),
        pause_s=0.02,
    )
    bench.producer(4_000, mix=_MIX, batch=5, pause_s=0.03, delayed=0.2, delay_s=1.0)
    return bench.finish(Terms(runs_once=True))
