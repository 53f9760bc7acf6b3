"""A cluster of three primaries and three replicas: slots move to and fro, primaries are killed and stopped."""

from __future__ import annotations

import os
import signal
from functools import partial

from headrace.embedded.cluster import ClusterNode
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.roles import QUEUE
from tests.support.clusters import Cluster

_MIX = (("quick", 20), ("nap", 5), ("flaky", 2))
_WINDOW_S = 5.0
"""What replication may lag behind on a busy machine; on a quiet one it is milliseconds."""


def _set_out(bench: Bench, *, confirmed: bool = False) -> Cluster:
    """Start a cluster, and those who work on it."""
    cluster = bench.serve_cluster()
    bench.sample()
    for _ in range(3):
        bench.consumer()
    bench.maintainer()
    role = {"confirm_replicas": int(confirmed)}
    for batch in (5, 1):
        bench.producer(1_000_000, role=role, mix=_MIX, batch=batch, pause_s=0.02)
    return cluster


@fault_class("cluster, slots moved", cost_s=80, short=0.1)
def slots_moved(bench: Bench) -> Verdict:
    """Move the queue's slot to and fro under load, kill consumers, and lose answers meanwhile: nothing is lost."""
    cluster = _set_out(bench)
    for turn in range(max(3, round(60 * bench.scale))):
        bench.pause(0.1, 0.6)
        home = cluster.primary_of(QUEUE)
        others = [node for node in cluster.primaries() if node is not home]
        there = bench.rng.choice(others)
        cut = partial(_cut, bench, home, there) if bench.rng.random() < 0.5 else _let_be
        bench.fault("slot moved")
        cluster.move_slot(QUEUE, there, midway=cut)
        if turn % 6 == 2:
            bench.kill(bench.any_consumer())
            bench.consumer()
    bench.end_producers()
    return bench.finish(Terms())


def _cut(bench: Bench, *nodes: ClusterNode) -> None:
    """Cut everybody's connections while the slot is on its way: what is under way may have happened, or not."""
    for _ in range(3):
        bench.fault("answers lost while the slot moves")
        for node in nodes:
            node.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        bench.pause(0.0, 0.03)


def _let_be() -> None:
    pass


def _fail_over(bench: Bench, cluster: Cluster) -> None:
    """Kill the queue's primary, or stop it until it is replaced, and bring it back as a replica."""
    old = cluster.primary_of(QUEUE)
    stopped = bench.rng.random() < 0.3
    bench.fault("primary stopped" if stopped else "SIGKILL of the primary")
    if stopped:
        os.kill(old.pid, signal.SIGSTOP)
    else:
        old.kill()
    bench.forgot()
    cluster.await_primary(QUEUE, other_than=old)
    if stopped:
        os.kill(old.pid, signal.SIGCONT)
    else:
        old.restart()
    bench.healed()
    cluster.await_whole()
    if stopped:  # until it hears that there is another one, it accepts what it then forgets
        bench.forgot()


def _failovers(bench: Bench, *, confirmed: bool) -> None:
    cluster = _set_out(bench, confirmed=confirmed)
    for _ in range(max(1, round(12 * bench.scale))):
        bench.pause(0.5, 1.5)
        _fail_over(bench, cluster)
    bench.pause(0.5, 1.0)
    bench.end_producers()


@fault_class("cluster, failover, asynchronous", cost_s=120)
def failover(bench: Bench) -> Verdict:
    """Kill or stop a primary: what it had acknowledged and not replicated is lost, and nothing else is."""
    _failovers(bench, confirmed=False)
    return bench.finish(Terms(loss_window_s=_WINDOW_S, rollback=True))


@fault_class("cluster, failover, confirmed", cost_s=120)
def failover_confirmed(bench: Bench) -> Verdict:
    """Kill or stop a primary: with confirmed enqueue nothing that was acknowledged is lost."""
    _failovers(bench, confirmed=True)
    return bench.finish(Terms(rollback=True))
