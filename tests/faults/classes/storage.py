"""Faults of Redis itself: killed, stopped, forgetful, full, loading."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

from tests.faults.bench import Bench
from tests.faults.classes.consumers import MIXED
from tests.faults.classes.registry import fault_class
from tests.faults.coverage import OPERATING
from tests.faults.evidence import Terms, Verdict

_EVERYSEC_WINDOW_S = 3.0  # written at the latest 2 s late, and a second for our own instants


def _under_load(bench: Bench, count: int, **options: object) -> None:
    bench.serve_redis(**options)
    bench.sample()
    bench.maintainer()
    for _ in range(3):
        bench.consumer()
    bench.producer(count, mix=MIXED, batch=20, pause_s=0.05, delayed=0.1)


def _kill_redis(bench: Bench, fsync: Literal["always", "everysec"]) -> None:
    _under_load(bench, 8_000, appendfsync=fsync)
    while bench.producing():
        bench.pause(0.3, 1.5)
        bench.fault("SIGKILL of Redis")
        bench.server.kill()
        if fsync == "everysec":
            bench.forgot()
        bench.pause(0.0, 0.5)
        bench.server.restart()
        bench.healed()


@fault_class("Redis SIGKILL, appendfsync always", cost_s=50, short=0.05)
def redis_killed_always(bench: Bench) -> Verdict:
    """SIGKILL Redis under load; with ``always`` it forgets nothing."""
    _kill_redis(bench, "always")
    return bench.finish(Terms())


@fault_class("Redis SIGKILL, appendfsync everysec", cost_s=50, short=0.05)
def redis_killed_everysec(bench: Bench) -> Verdict:
    """SIGKILL Redis under load; with ``everysec`` it may forget its last moments."""
    _kill_redis(bench, "everysec")
    terms = Terms(loss_window_s=_EVERYSEC_WINDOW_S, rollback=True)
    return bench.finish(terms)


@fault_class("Redis restarted twice", cost_s=40, short=0.05)
def redis_restarted_twice(bench: Bench) -> Verdict:
    """Restart Redis, and again at once: a file that was mended has to be whole the second time."""
    _under_load(bench, 5_000, appendfsync="always")
    while bench.producing():
        bench.pause(0.5, 1.5)
        bench.fault("restart of Redis, twice")
        bench.server.kill()
        bench.server.restart()
        bench.pause(0.0, 0.3)
        bench.server.kill()
        bench.server.restart()
        bench.healed()
    return bench.finish(Terms())


@fault_class("Redis SIGSTOP", cost_s=60, short=0.05)
def redis_stopped(bench: Bench) -> Verdict:
    """Let Redis stand still, for less and for more than a lease; requests arrive when it wakes up."""
    _under_load(bench, 5_000)
    while bench.producing():
        bench.pause(0.5, 1.5)
        bench.fault("SIGSTOP of Redis")
        os.kill(bench.server.pid, signal.SIGSTOP)
        bench.pause(0.2, 2.5 * bench.lease.lease_s)
        os.kill(bench.server.pid, signal.SIGCONT)
        bench.healed()
    return bench.finish(Terms())


@fault_class("AOF cut at a random byte", cost_s=50, short=0.06)
def aof_cut(bench: Bench) -> Verdict:
    """Redis comes back without its last moments, while live consumers go on to settle.

    What was lost was cut off; nothing else may be, and what is left has to add up at every instant.
    """
    _under_load(bench, 5_000)
    while bench.producing():
        bench.pause(0.8, 2.0)
        bench.fault("AOF cut")
        bench.server.kill()
        bench.forgot()
        _cut(bench, _last_file(bench.folder / "data"))
        bench.server.restart()
        bench.healed()
    terms = Terms(loss_window_s=60.0, rollback=True)
    return bench.finish(terms)


def _last_file(data: Path) -> Path:
    return max(data.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime_ns)


def _cut(bench: Bench, path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, max(0, size - bench.rng.randint(1, min(20_000, size))))


@fault_class("SCRIPT FLUSH", cost_s=30, short=0.15)
def scripts_flushed(bench: Bench) -> Verdict:
    """Make Redis forget its scripts all the time: they are loaded again, and nobody notices."""
    _under_load(bench, 5_000)
    bench.operator(moves=OPERATING, pause_s=0.02)
    with bench.redis() as redis:
        while bench.producing():
            bench.fault("SCRIPT FLUSH")
            redis.script_flush()
            bench.pause(0.0, 0.05)
    terms = Terms(
        runs_once=True,
        must_hit=(("refused NOSCRIPT", "settle"), ("refused NOSCRIPT", "claim")),
    )
    return bench.finish(terms)


@fault_class("Redis loads a large data set", cost_s=60, short=0.1)
def loading(bench: Bench) -> Verdict:
    """Restart Redis with much to load: it answers LOADING for seconds, to everybody."""
    # 50 µs a key (the server's own option, meant for this), and a look at clients every 4 kB.
    slowly = ("--key-load-delay", "50", "--loading-process-events-interval-bytes", "4096")
    _under_load(bench, 4_000, appendfsync="always", extra_args=slowly)
    bench.operator(moves=OPERATING, pause_s=0.1)
    with bench.redis() as redis:
        for start in range(0, 40_000, 2_000):
            redis.mset({f"filler:{n}": "x" * 200 for n in range(start, start + 2_000)})
        redis.bgrewriteaof()
    for _ in range(max(1, round(8 * bench.scale))):
        bench.pause(0.5, 1.5)
        bench.fault("restart of a large Redis")
        bench.server.kill()
        bench.server.restart()
        bench.healed()
    with bench.redis() as redis:
        redis.unlink(*(f"filler:{n}" for n in range(40_000)))
    terms = Terms(must_hit=(("refused LOADING", "lead"),))
    return bench.finish(terms)


@fault_class("Redis full", cost_s=40, short=0.2)
def full(bench: Bench) -> Verdict:
    """Fill Redis to ``maxmemory``: enqueuing is refused, consumers drain it to empty."""
    bench.serve_redis()
    bench.sample()
    # So that every new job is refused while the queue is empty, too: the rest is ballast.
    bench.producer(6_000, mix=(("quick", 9), ("flaky", 1)), batch=100)
    bench.until_produced()
    with bench.redis() as redis:
        redis.set("ballast", b"x" * 20_000_000)
        redis.config_set("maxmemory", 12_000_000)
        bench.fault("Redis full")
        bench.producer(400, batch=1, pause_s=0.01, delayed=0.5)
        for _ in range(5):
            bench.consumer()
        assert bench.drained(), "consumers drain a full Redis"
        bench.pause(6.0 * bench.scale, 8.0 * bench.scale)  # idle beside a full Redis
        redis.delete("ballast")
        redis.config_set("maxmemory", 0)
        bench.healed()
    terms = Terms(
        runs_once=True,
        must_hit=(("refused OOM", "push"), ("refused OOM", "enqueue"), ("refused OOM", "BLMOVE")),
    )
    return bench.finish(terms)
