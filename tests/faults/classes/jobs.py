"""Faults of jobs: those that kill, that take too long, that keep the loop, that are large."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace.policy import LeasePolicy
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict

_POISONED = LeasePolicy(lease_s=1.5, bare_lease_s=1.5)
_LONG = (1.5, 3.0)  # of SHORT leases


@fault_class("poison job", cost_s=60, short=0.2, lease=_POISONED)
def poison(bench: Bench) -> Verdict:
    """Jobs that kill their process each time die as ``crashed``; those beside them are done."""
    bench.serve_redis()
    bench.sample()
    for _ in range(3):
        bench.consumer(suspects=True)
    bench.producer(12, mix=(("poison", 1),), batch=1, pause_s=1.5)
    bench.producer(4_000, mix=(("quick", 5), ("nap", 5)), batch=10, pause_s=0.05)
    deadline = time.monotonic() + 240
    while (bench.producing() or bench.waiting()) and time.monotonic() < deadline:
        bench.pause(0.1, 0.2)
        for _ in range(bench.forget_the_dead()):
            bench.fault("process taken along by a job")
            bench.consumer(suspects=True)
    return bench.finish(Terms())


@fault_class("jobs in processes of their own, all killed", cost_s=60, short=0.1)
def apart(bench: Bench) -> Verdict:
    """Jobs' processes, those that fork them, and the consumers are killed: nothing is lost, nothing runs on."""
    bench.serve_redis()
    bench.sample()
    for _ in range(3):
        bench.consumer(concurrency=4)
    bench.producer(150, mix=(("apart", 1),), batch=3, pause_s=0.5, seconds=(0.1, 0.6))
    bench.producer(2_000, batch=10, pause_s=0.1)
    while bench.producing():
        bench.pause(1.0, 3.0)
        name = bench.any_consumer()
        servers = _children(bench.consumers[name])
        jobs = [pid for server in servers for pid in _children(server)]
        found = {"consumer": [0], "fork server": servers, "process of a job": jobs}
        what = bench.rng.choice([what for what, pids in found.items() if pids])
        if what == "consumer":
            bench.kill(name)
            bench.consumer(concurrency=4)
        else:
            bench.fault(f"SIGKILL to a {what}", target=name)
            with suppress(ProcessLookupError):
                os.kill(bench.rng.choice(found[what]), signal.SIGKILL)
    return bench.finish(Terms())


def _children(pid: int) -> list[int]:
    """Find what any thread of a process has started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


@fault_class("batches lose their consumers", cost_s=40, short=0.1)
def batches(bench: Bench) -> Verdict:
    """SIGKILL consumers while jobs gather and run in batches, beside others."""
    bench.serve_redis()
    bench.sample()
    bench.maintainer()
    for _ in range(4):
        bench.consumer(concurrency=4)
    mix = (("together", 8), ("quick", 3), ("flaky", 1))
    bench.producer(10_000, mix=mix, batch=40, pause_s=0.1, delayed=0.05, prioritised=0.05)
    while bench.producing():
        bench.pause(0.5, 1.5)
        bench.kill(bench.any_consumer())
        bench.consumer(concurrency=4)
    return bench.finish(Terms())


@fault_class("job outlives its lease", cost_s=30, short=0.15)
def outlived(bench: Bench) -> Verdict:
    """Jobs that take several leases run once: extension keeps them."""
    bench.serve_redis()
    bench.sample()
    for _ in range(3):
        bench.consumer()
    long_s = tuple(round(bench.lease.lease_s * 2 * n, 2) for n in _LONG)
    mix = (("nap", 1), ("work", 1))
    bench.producer(150, mix=mix, batch=10, pause_s=0.5, seconds=long_s)
    bench.producer(2_000, batch=20, pause_s=0.1)
    return bench.finish(Terms(runs_once=True))


@fault_class("event loop stalled beyond a lease", cost_s=40, short=0.15)
def stalled(bench: Bench) -> Verdict:
    """Tasks that keep the loop to themselves cost no lease, neither theirs nor others'."""
    bench.serve_redis()
    bench.sample()
    for _ in range(3):
        bench.consumer(concurrency=4)
    stall_s = tuple(round(bench.lease.lease_s * n, 2) for n in (1.2, 2.0))
    bench.producer(30, mix=(("stall", 1),), batch=1, pause_s=0.5, seconds=stall_s)
    bench.producer(600, mix=(("nap", 1), ("work", 1), ("quick", 8)), batch=5, pause_s=0.1)
    return bench.finish(Terms(runs_once=True))


@fault_class("1 MB jobs, consumers killed", cost_s=40, short=0.05)
def large(bench: Bench) -> Verdict:
    """Jobs of a megabyte, by the hundred, with consumers killed meanwhile."""
    bench.serve_redis()
    bench.sample(whole=False)
    for _ in range(4):
        bench.consumer()
    bench.producer(500, mix=(("big", 1),), batch=5, pause_s=0.4)
    while bench.producing():
        bench.pause(2.0, 5.0)
        bench.kill(bench.any_consumer())
        bench.consumer()
    return bench.finish(Terms())


@fault_class("clocks of clients an hour off", cost_s=25, short=0.1)
def clocks_off(bench: Bench) -> Verdict:
    """The clients' clocks are an hour ahead or behind: nothing is early, expired, lost or reclaimed."""
    bench.serve_redis()
    bench.sample()
    for hours in (-1, 1, 0):
        bench.fault("clock off", target=f"{hours} h")
        bench.consumer(clock_off_s=3600.0 * hours)
        bench.maintainer(clock_off_s=3600.0 * hours)
    mix = (("quick", 20), ("nap", 2), ("flaky", 4), ("failing", 1))
    for hours in (-1, 1):
        bench.fault("clock off", target=f"producer, {hours} h")
        role = {"clock_off_s": 3600.0 * hours}
        load: dict[str, Any] = {"mix": mix, "batch": 20, "pause_s": 0.1, "expires_s": 1800.0}
        bench.producer(2_500, role=role, delayed=0.3, delay_s=3, **load)
    return bench.finish(Terms(runs_once=True))


_DEFAULT = LeasePolicy()


@fault_class("Redis away for 20 s", cost_s=60, lease=_DEFAULT)
def away(bench: Bench) -> Verdict:
    """Redis is down for longer than a lease: running jobs go on, run once, and no crash is charged."""
    bench.serve_redis(appendfsync="always")
    bench.sample()
    for _ in range(3):
        bench.consumer()
    bench.producer(25, mix=(("nap", 1), ("work", 1)), batch=25, seconds=(5.0, 30.0))
    bench.until_produced()
    time.sleep(1.0)
    bench.fault("Redis away")
    bench.server.kill()
    time.sleep(20.0)
    bench.server.restart()
    bench.healed()
    bench.producer(500, batch=10, pause_s=0.05)
    return bench.finish(Terms(runs_once=True, uncharged=True))
