"""Faults of a Redis that has a replica: roles change under everybody."""

from __future__ import annotations

from redis import Redis

from headrace.embedded import EmbeddedServer
from tests.faults.bench import Bench
from tests.faults.classes.consumers import MIXED
from tests.faults.classes.registry import fault_class
from tests.faults.coverage import GOAL, OPERATING
from tests.faults.evidence import Terms, Verdict
from tests.support.servers import private_server
from tests.support.wait import wait_until


def _is_in_step(redis: Redis) -> bool:
    info = redis.info("replication")
    return (info["role"], info.get("master_link_status")) == ("slave", "up")


def _hand_over(main: EmbeddedServer, other: EmbeddedServer) -> None:
    """Make ``other`` the primary, without losing a write: FAILOVER waits until it is in step."""
    with Redis.from_url(main.url) as redis, Redis.from_url(other.url) as heir:
        wait_until(lambda: _is_in_step(heir), "the replica is in step")
        redis.execute_command("FAILOVER", "TO", "127.0.0.1", other.port)
        wait_until(lambda: _is_in_step(redis), "the roles have changed")


@fault_class("roles change (READONLY, UNBLOCKED)", cost_s=60, short=0.1)
def roles_change(bench: Bench) -> Verdict:
    """Redis becomes a replica for a second, and primary again; clients stay with its address."""
    main = bench.serve_redis()
    with private_server(bench.folder / "replica") as replica:
        with Redis.from_url(replica.url) as redis:
            redis.replicaof("127.0.0.1", main.port)
        bench.sample()
        for _ in range(5):
            bench.consumer()
        bench.operator(moves=OPERATING, pause_s=0.05)
        bench.producer(100_000, mix=MIXED, batch=10, pause_s=0.3)
        for _ in range(3):  # one by one: each is moved, and adopted
            bench.producer(100_000, batch=1, pause_s=0.004)
        rounds, goal = 0, GOAL * bench.scale
        while rounds < max(2, round(18 * bench.scale)) or (
            rounds < 60 * bench.scale and bench.refused("UNBLOCKED", "BLMOVE") < goal
        ):
            rounds += 1
            bench.pause(0.5, 1.5)
            bench.fault("role changed")
            _hand_over(main, replica)
            bench.pause(0.2, 1.0)
            _hand_over(replica, main)
            bench.healed()
        bench.end_producers()
        terms = Terms(must_hit=(("refused READONLY", "claim"),))
        return bench.finish(terms)
