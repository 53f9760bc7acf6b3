"""Faults of whoever leads while schedules tick: each tick fires once, or is counted as missed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace import Headrace
from headrace.keys import LEADER, SCHEDULE_DUE, SCHEDULE_STATE
from headrace.schedules import Missed, changes, define
from headrace.schedules.requests import State, read_state
from headrace.schedules.timing import Every
from headrace.store import Store
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict, Violation
from tests.faults.failpoints import Failpoint
from tests.support.ticks import Ledger
from tests.support.wait import wait_until

TICKS = "ticks"
"""The queue of their jobs. Nobody consumes it, so that the list is the record of what fired."""

FULL_S = 60.0
_LOOK_S = 0.02
_SCHEDULES: tuple[tuple[str, int, Missed], ...] = (
    ("every second, all", 1000, "all"),
    ("every second, latest", 1000, "latest"),
    ("every second, skip", 1000, "skip"),
    ("every 0.2 s, all", 200, "all"),
    ("every 10 s, latest", 10_000, "latest"),
)


@dataclass
class Ticking:
    """What came of it.

    Attributes:
        ledgers: the schedules, from their first ticks on.
        fired: by schedule, the ticks of the jobs that there are.
        states: what Redis counted.
        next_ms: their next ticks.
        drifts_ms: by schedule, how late each tick fired of which that was seen.
        kills: how often whoever led was killed.
    """

    ledgers: list[Ledger] = field(default_factory=list)
    fired: dict[str, list[int]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    next_ms: dict[str, int] = field(default_factory=dict)
    drifts_ms: dict[str, dict[int, int]] = field(default_factory=dict)
    kills: int = 0

    def faults(self) -> Iterator[str]:
        """Say what is wrong."""
        for one in self.ledgers:
            name = one.name
            yield from one.faults(self.fired[name], self.states[name], self.next_ms[name])


@fault_class("leader SIGKILL while schedules tick", cost_s=70, short=0.2)
def leader_killed(bench: Bench) -> Verdict:
    """SIGKILL whoever leads, at random and right before and after it fires ticks."""
    ticking = tick(bench, FULL_S * bench.scale)
    verdict = bench.finish(Terms(must_hit=(("SIGKILL of the leader", ""),)))
    verdict.violations += [Violation("ticks", fault) for fault in ticking.faults()]
    return verdict


def tick(bench: Bench, seconds: float) -> Ticking:
    """Let schedules tick for a while, with three consumers and a server, and kill whoever leads."""
    bench.serve_redis()
    bench.sample()
    bench.maintainer()
    for _ in range(3):
        bench.consumer()
    ticking = Ticking(ledgers=_add(bench))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _watch(bench, ticking, bench.rng.uniform(2, 7))
        ticking.kills += _kill_the_leader(bench)
    wait_until(lambda: _leader(bench), "somebody leads")
    _watch(bench, ticking, 2.0)
    _read(bench, ticking)
    # Some have a failpoint yet, and may die of it: at the end everybody has to be awake.
    bench.forget_the_dead()
    for name in sorted(bench.consumers):
        bench.kill(name)
    bench.consumer()
    return ticking


def _add(bench: Bench) -> list[Ledger]:
    app, store, ledgers = Headrace(bench.url), Store(bench.url), []
    for name, period_ms, missed in _SCHEDULES:
        name, when = name.replace(" ", "_"), Every(period_ms)
        definition = define(app.call_with("t", (), {}, {"queue": TICKS}), when, missed=missed)
        store.follow(changes.add(name, definition, replace=False))
        with bench.redis() as redis:
            # Its first tick: by now it may have fired, and then the first job says which it was.
            first: Any = redis.zscore(SCHEDULE_DUE, name)
            fired = _ticks(redis.lrange(TICKS, 0, -1), name)
        ledgers.append(Ledger(name, when, min([int(first), *fired]), loses_none=missed == "all"))
    store.close()
    return ledgers


def _watch(bench: Bench, ticking: Ticking, seconds: float) -> None:
    until = time.monotonic() + seconds
    with bench.redis() as redis:
        while time.monotonic() < until:
            for name, raw in redis.hgetall(SCHEDULE_STATE).items():
                state = read_state(raw)
                if state.last_due:
                    drifts = ticking.drifts_ms.setdefault(name.decode(), {})
                    drifts[state.last_due] = state.last_fired_at - state.last_due
            time.sleep(_LOOK_S)


def _leader(bench: Bench) -> str:
    with bench.redis() as redis:
        raw: Any = redis.get(LEADER)
    return (raw or b"").decode()


def _kill_the_leader(bench: Bench) -> bool:
    """Kill it; False when it is dead already, and nobody has taken the lead yet."""
    for _ in range(bench.forget_the_dead()):  # at a failpoint
        _start(bench)
    leader = wait_until(lambda: _leader(bench), "somebody leads")
    if leader in bench.consumers:
        bench.kill(leader)
        _start(bench)
    elif leader.startswith("server-"):
        bench.nursery.signal(bench.servers.pop(), signal.SIGKILL)
        bench.maintainer()
    else:
        return False
    bench.fault("SIGKILL of the leader", target=leader)
    return True


def _start(bench: Bench) -> None:
    """Start a consumer; some of them die as leaders, right before they fire a tick, or after it."""
    when = bench.rng.choice(("", "before", "after"))
    passes = bench.rng.randrange(1, 20)
    points = (Failpoint(f"{when}:schedules/tick", "kill", passes),) if when else ()
    bench.consumer(points)


def _read(bench: Bench, ticking: Ticking) -> None:
    """Read everything at one instant."""
    names = [ledger.name for ledger in ticking.ledgers]
    with bench.redis() as redis, redis.pipeline(transaction=True) as pipe:
        pipe.lrange(TICKS, 0, -1)
        pipe.hmget(SCHEDULE_STATE, names)
        for name in names:
            pipe.zscore(SCHEDULE_DUE, name)
        jobs, states, *due = pipe.execute()
    ticking.fired = {name: _ticks(jobs, name) for name in names}
    ticking.states = {name: read_state(raw) for name, raw in zip(names, states, strict=True)}
    ticking.next_ms = {name: int(at) for name, at in zip(names, due, strict=True)}


def _ticks(jobs: Sequence[bytes], name: str) -> list[int]:
    said = b'"schedule":"%b","scheduled_at":' % name.encode()
    return [int(job.partition(said)[2][:-1]) for job in jobs if said in job]
