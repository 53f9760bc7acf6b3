"""Failover: a primary and its replica, three Sentinels, and the primary is killed again and again."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from headrace.embedded import EmbeddedServer
from headrace.embedded.server import free_port
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.roles import Role
from tests.support.servers import engine_under_test, private_server
from tests.support.wait import wait_until

_SERVICE = "lab"
_WINDOW_S = 5.0
"""What replication may lag behind on a busy machine; on a quiet one it is milliseconds."""

_MIX = (("quick", 20), ("nap", 5), ("flaky", 2))


@dataclass(frozen=True)
class SentinelRole(Role):
    """A Sentinel: the server's own binary."""

    port: int = 0
    primary_port: int = 0

    def run(self) -> int:
        config = self.history.parent / f"{self.name}.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.history.parent}\n"
            f"sentinel monitor {_SERVICE} 127.0.0.1 {self.primary_port} 2\n"
            f"sentinel down-after-milliseconds {_SERVICE} 700\n"
            f"sentinel failover-timeout {_SERVICE} 3000\n"
        )
        binary = str(engine_under_test().path)
        os.execv(binary, [binary, str(config), "--sentinel"])


class Group:
    """A primary, its replica, and the Sentinels that watch them."""

    def __init__(self, bench: Bench, *, confirmed: bool) -> None:
        safe = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "10")
        options = {"extra_args": ("--repl-diskless-sync-delay", "0", *(safe if confirmed else ()))}
        self._bench = bench
        self.primary = bench.serve_redis(**options)
        self.replica = private_server(bench.folder / "other", **options)
        bench.closing.callback(lambda: self.primary.kill())
        bench.closing.callback(lambda: self.replica.kill())
        self._follow(self.replica, self.primary)
        self._ports = [free_port() for _ in range(3)]
        for port in self._ports:
            role = {"port": port, "primary_port": self.primary.port}
            pid = bench.start(SentinelRole, name=bench.name("sentinel"), **role)
            bench.infrastructure.append(pid)
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        bench.url = f"redis+sentinel://{hosts}/{_SERVICE}/0"
        wait_until(self._all_see_all, "the Sentinels see the replica and each other")

    def fail_over(self) -> None:
        """Kill the primary, wait for the other one to be promoted, and bring it back as a replica."""
        if self._bench.rng.random() < 0.5:
            self._part()
        self._bench.fault("SIGKILL of the primary")
        self.primary.kill()
        self._bench.forgot()
        os.kill(self.replica.pid, signal.SIGCONT)
        wait_until(lambda: self._named() == self.replica.port, "the replica is promoted")
        self._bench.healed()
        self.primary, self.replica = self.replica, self.primary
        self._bench.server = self.primary
        self.replica.restart()
        self._follow(self.replica, self.primary)

    def _part(self) -> None:
        """Cut the replica off for a moment: what the primary accepts alone is lost with it."""
        self._bench.fault("replica cut off")
        os.kill(self.replica.pid, signal.SIGSTOP)
        with contextlib.suppress(RedisError), Redis.from_url(self.primary.url) as redis:
            redis.client_kill_filter(_type="replica")
        self._bench.pause(0.0, 0.3)

    def _follow(self, replica: EmbeddedServer, primary: EmbeddedServer) -> None:
        with Redis.from_url(replica.url) as redis:
            redis.replicaof("127.0.0.1", primary.port)
            wait_until(
                lambda: redis.info("replication").get("master_link_status") == "up",
                "the replica is in step",
            )

    def _named(self) -> int:
        """Give the port of the primary that the Sentinels name."""
        ports = set()
        for port in self._ports:
            with contextlib.suppress(RedisError), Redis(port=port) as sentinel:
                ports.add(int(sentinel.execute_command(*_WHO)[1]))
        return ports.pop() if len(ports) == 1 else 0

    def _all_see_all(self) -> bool:
        for port in self._ports:
            with contextlib.suppress(RedisError), Redis(port=port) as sentinel:
                state = sentinel.execute_command("SENTINEL", "MASTER", _SERVICE)
                if (state[b"num-slaves"], state[b"num-other-sentinels"]) == (b"1", b"2"):
                    continue
            return False
        return True


_WHO = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _SERVICE)


def _failovers(bench: Bench, *, confirmed: bool) -> None:
    group = Group(bench, confirmed=confirmed)
    bench.sample()
    for _ in range(3):
        bench.consumer()
    bench.maintainer()
    role = {"confirm_replicas": int(confirmed)}
    bench.producer(1_000_000, role=role, mix=_MIX, batch=5, pause_s=0.02)
    bench.producer(1_000_000, role=role, mix=_MIX, batch=1, pause_s=0.02)
    for _ in range(max(1, round(20 * bench.scale))):
        bench.pause(0.5, 1.5)
        group.fail_over()
    bench.pause(0.5, 1.0)
    bench.end_producers()


@fault_class("failover, asynchronous", cost_s=160)
def failover(bench: Bench) -> Verdict:
    """Kill the primary: what it had acknowledged and not replicated is lost, and nothing else is."""
    _failovers(bench, confirmed=False)
    terms = Terms(loss_window_s=_WINDOW_S, rollback=True)
    return bench.finish(terms)


@fault_class("failover, confirmed", cost_s=160)
def failover_confirmed(bench: Bench) -> Verdict:
    """Kill the primary: with confirmed enqueue nothing that was acknowledged is lost."""
    _failovers(bench, confirmed=True)
    return bench.finish(Terms(rollback=True))
