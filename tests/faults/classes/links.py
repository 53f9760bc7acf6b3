"""Faults of the network between clients and Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from headrace.embedded import EmbeddedServer
from headrace.embedded.server import free_port
from headrace.scripts import script
from headrace.store import probe
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.coverage import GOAL, SCRIPTS, TRANSITIONS
from tests.faults.evidence import Terms, Verdict
from tests.faults.network import ProxyRole, tell
from tests.support.servers import private_server
from tests.support.wait import wait_until

_FAULTS = ("cut", "lost", "half-open", "late")
_MIX = (("quick", 20), ("nap", 10), ("flaky", 3), ("failing", 3))
_TIMEOUT_S = 1.0  # below it, a busy machine serves only connections that were given up


def _proxied(
    bench: Bench, plan: tuple[tuple[str, str, int], ...] = (), **options: Any
) -> tuple[str, Path]:
    """Start a proxy; give the URL that leads through it, and its control socket."""
    port, control = free_port(), bench.folder / "control"
    bench.infrastructure.append(
        bench.start(
            ProxyRole,
            name=bench.name("proxy"),
            port=port,
            control=control,
            plan=plan,
            seed=bench.rng.getrandbits(32),
            late_s=1.3 * bench.lease.lease_s,
            **options,
        )
    )
    wait_until(control.exists, "the proxy listens")
    return f"redis://127.0.0.1:{port}/0", control


def _everybody(bench: Bench, url: str) -> None:
    """Start consumers, servers, operators and producers behind a proxy."""
    role: dict[str, Any] = {"url": url, "timeout_s": _TIMEOUT_S}
    for _ in range(5):
        bench.consumer(concurrency=6, **role)
    bench.maintainer(**role)
    for _ in range(2):
        bench.operator(**role)
    bench.producer(25_000, role=role, mix=_MIX, batch=4, pause_s=0.05, delayed=0.3, delay_s=1.0)
    bench.producer(1_000, role=role, mix=_MIX, batch=1, pause_s=0.3)


@fault_class("answers lost, cut, late, half-open", cost_s=150, short=0.05)
def answers_lost(bench: Bench) -> Verdict:
    """Fail each transition on the wire in each way, by plan."""
    bench.serve_redis()
    bench.sample()
    _by_plan(bench, _FAULTS)
    # The sweeps fail as well, and after each gap between them there is a grace.
    return bench.finish(Terms(stranded_s=60.0))


@fault_class("requests refused (READONLY, LOADING)", cost_s=60, short=0.05)
def refused_by_plan(bench: Bench) -> Verdict:
    """Let each transition reach a replica, and a Redis that loads its data: both refuse it."""
    bench.serve_redis()
    bench.sample()
    with _replica(bench) as replica, _loading(bench) as loading:
        servers = {"refused READONLY": replica.url, "refused LOADING": loading.url}
        _by_plan(bench, tuple(servers), elsewhere=tuple(servers.items()))
        must_hit = tuple((fault, "claim") for fault in servers)
        return bench.finish(Terms(stranded_s=60.0, must_hit=must_hit))


def _by_plan(bench: Bench, faults: tuple[str, ...], **options: Any) -> None:
    """Let everybody work behind a proxy until each of these has hit each transition."""
    goal = max(1, round(1.1 * GOAL * bench.scale))
    plan = tuple((fault, name, goal) for fault in faults for name in TRANSITIONS)
    url, control = _proxied(bench, plan, **options)
    _everybody(bench, url)
    deadline = time.monotonic() + max(15.0, 300.0 * bench.scale)
    while tell(control) and time.monotonic() < deadline and bench.producing():
        time.sleep(0.2)
    tell(control, heal=True)
    bench.end_producers()
    time.sleep(3.0)  # clients wait for up to 2 s before they connect again


@contextmanager
def _replica(bench: Bench) -> Iterator[EmbeddedServer]:
    """Give a server that was the primary once: it knows the scripts."""
    with private_server(bench.folder / "replica") as server, Redis.from_url(server.url) as redis:
        for name in SCRIPTS:
            redis.script_load(script(name).source)
        redis.replicaof("127.0.0.1", bench.server.port)
        yield server


@contextmanager
def _loading(bench: Bench) -> Iterator[EmbeddedServer]:
    """Give a server that loads its data all the time: 5 ms a key, the server's own option."""
    slowly = (
        *("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"),
        *("--rdbcompression", "no", "--enable-debug-command", "local"),
    )
    with (
        private_server(bench.folder / "loading", extra_args=slowly) as server,
        Redis.from_url(server.url, socket_timeout=None) as redis,
    ):
        redis.mset({f"filler:{n}": "x" * 1000 for n in range(100_000)})  # for 500 s
        redis.save()

        def load() -> None:
            with suppress(RedisError):  # that the server was killed
                redis.execute_command("DEBUG", "RELOAD", "NOSAVE")

        loading = threading.Thread(target=load)
        loading.start()
        wait_until(lambda: (info := probe(server.url)) is not None and info.loading, "it loads")
        try:
            yield server
        finally:
            server.kill()
            loading.join()


@fault_class("connections refused and reset", cost_s=60, short=0.08)
def refused(bench: Bench) -> Verdict:
    """Refuse all connections for a while; reset all connections at once."""
    bench.serve_redis()
    bench.sample()
    url, control = _proxied(bench)
    _everybody(bench, url)
    for _ in range(max(2, round(50 * bench.scale))):
        bench.pause(0.3, 1.0)
        if bench.rng.random() < 0.5:
            tell(control, reset=True, refuse_s=round(bench.rng.uniform(0.1, 1.0), 2))
        else:
            tell(control, reset=True)
        bench.healed()
    bench.end_producers()
    time.sleep(3.0)
    return bench.finish(Terms())
