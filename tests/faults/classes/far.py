"""Faults of consumers over HTTP: they, the servers, Redis and the requests between them fail."""

from __future__ import annotations

import signal
import time

from headrace.embedded.server import free_port
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.failpoints import Failpoint
from tests.faults.far import LATE_S, FarConsumerRole, FarServerRole, HttpProxyRole

_MIX = (("quick", 30), ("nap", 10), ("flaky", 3), ("failing", 2))
_CONSUMERS = 5
_POINTS = ("before:claim", "after:claim", "before:settle", "after:settle")


class _Far:
    """Two servers, one of them behind a proxy, and consumers of both."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._ports = (free_port(), free_port())
        proxy = free_port()
        self._asked = (proxy, self._ports[1])
        self._proxy = bench.start(
            HttpProxyRole, name=bench.name("h"), port=proxy, to=self._ports[0]
        )
        bench.infrastructure.append(self._proxy)
        self._servers = [self._serve(port) for port in self._ports]
        for _ in range(_CONSUMERS):
            self.consumer()

    def _serve(self, port: int, *, fails: bool = False) -> int:
        """Start a server; one that fails dies around a claim or a settle."""
        bench, points = self._bench, tuple[Failpoint, ...]()
        if fails:
            point = bench.rng.choice(_POINTS)
            points = (Failpoint(point, "kill", bench.rng.randint(1, 20)),)
        options = {"lease": bench.lease, "port": port, "points": points}
        return bench.start(FarServerRole, name=bench.name("s"), **options)

    def consumer(self) -> None:
        bench = self._bench
        name = bench.name("c")
        bench.consumers[name] = bench.start(
            FarConsumerRole,
            name=name,
            ports=self._asked,
            lease_s=bench.lease.lease_s,
            stop_s=bench.lease.lease_s * bench.rng.uniform(1.2, 3),
            seed=bench.rng.getrandbits(32),
        )

    def kill_consumer(self) -> None:
        self._bench.kill(self._bench.any_consumer())
        self.consumer()

    def stop_consumer(self) -> None:
        """Let one stand still for longer than its lease; the nursery continues it."""
        name = self._bench.any_consumer()
        self._bench.fault("SIGSTOP", target=name)
        self._bench.nursery.signal(self._bench.consumers[name], signal.SIGSTOP)

    def kill_server(self) -> None:
        """Kill a server, and start it again at its port."""
        which = self._bench.rng.randrange(len(self._servers))
        self._bench.fault("SIGKILL of a server")
        self._bench.nursery.signal(self._servers[which], signal.SIGKILL)
        self._bench.pause(0.0, 1.0)
        self._servers[which] = self._serve(self._ports[which], fails=self._bench.rng.random() < 0.7)

    def revive(self) -> None:
        """Start servers again that have died by themselves."""
        self._bench.nursery.look()
        for which, pid in enumerate(self._servers):
            if pid not in self._bench.nursery.alive:
                self._servers[which] = self._serve(self._ports[which])

    def be_steady(self) -> None:
        """Let nothing fail any more, and everybody notice."""
        self._bench.nursery.signal(self._proxy, signal.SIGUSR1)
        for pid in self._bench.consumers.values():
            self._bench.nursery.signal(pid, signal.SIGCONT)
        for which, pid in enumerate(self._servers):
            self._bench.nursery.signal(pid, signal.SIGKILL)
            self._servers[which] = self._serve(self._ports[which])
        time.sleep(2 * LATE_S)  # that somebody may wait for an answer that was lost

    def kill_redis(self) -> None:
        self._bench.fault("SIGKILL of Redis")
        self._bench.server.kill()
        self._bench.pause(0.0, 0.5)
        self._bench.server.restart()
        self._bench.healed()


@fault_class("consumers over HTTP", cost_s=90, short=0.06)
def over_http(bench: Bench) -> Verdict:
    """Kill and stop consumers, kill servers and Redis, and lose what travels between them."""
    bench.serve_redis(appendfsync="always")
    bench.sample()
    far = _Far(bench)
    bench.producer(6_000, mix=_MIX, batch=10, pause_s=0.1, delayed=0.1, seconds=(0.05, 0.3))
    acts = [far.kill_consumer, far.stop_consumer, far.kill_server, far.kill_redis]
    turn = 0
    while bench.producing() or turn < len(acts):
        bench.pause(0.2, 0.7)
        far.revive()
        # Each of them once, then by chance, and Redis seldom: everybody else waits for it.
        act = acts[turn] if turn < len(acts) else bench.rng.choices(acts, (6, 3, 3, 1))[0]
        act()
        turn += 1
    far.be_steady()
    lost = tuple((how, f"HTTP {kind}") for how in ("lost", "cut") for kind in ("claims", "settle"))
    # With all servers and Redis gone at times, the sweeps have to begin again, each time with a grace.
    return bench.finish(Terms(stranded_s=60.0, must_hit=lost))
