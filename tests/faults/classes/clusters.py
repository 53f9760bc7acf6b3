"""A cluster of three primaries and three replicas: slots move to and fro, primaries are killed and stopped."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from itertools import count

from headrace.embedded.cluster import ClusterNode
from tests.faults import lab_app
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict, Violation
from tests.faults.failpoints import Failpoint
from tests.faults.roles import QUEUE
from tests.support import invariants
from tests.support.clusters import Cluster
from tests.support.wait import wait_until

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


@fault_class("cluster, jobs handed on", cost_s=40, short=0.1)
def handed_on(bench: Bench) -> Verdict:
    """Kill consumers around each step of a hand-off to a queue on another node: each job comes there once."""
    cluster, jobs = bench.serve_cluster(), max(100, round(3_000 * bench.scale))
    names = (f"there-{number}" for number in count())
    there = next(one for one in names if cluster.primary_of(one) is not cluster.primary_of(QUEUE))
    bench.queues = [QUEUE, there]
    lab_app.app.use(bench.url)
    calls = [lab_app.app.call_with("relay", (n, there), {}, {"queue": QUEUE}) for n in range(jobs)]
    lab_app.app.enqueue_many(calls)
    lab_app.app.close()
    bench.maintainer()
    deaths, steps = max(8, round(80 * bench.scale)), ("settle", "forwarding/arrive")
    points = [Failpoint(f"{when}:{step}", "kill") for step in steps for when in ("before", "after")]
    for number in range(deaths):
        point = replace(points[number % len(points)], passes=bench.rng.randint(1, 5))
        bench.consumer((point,), queues=",".join(bench.queues), concurrency=4)
        if len(bench.consumers) >= 3:
            wait_until(bench.forget_the_dead, "one dies at its point")
    bench.consumer(queues=",".join(bench.queues))
    drained = bench.drained()
    bench._end_processes()
    verdict = Verdict(_handed_on_wrongly(bench, there, jobs), 2 * jobs)
    if not drained:
        verdict.violations.append(Violation("I11", f"{bench.waiting()} jobs have not ended"))
    bench.closing.close()
    return verdict


def _handed_on_wrongly(bench: Bench, there: str, jobs: int) -> list[Violation]:
    """Compare the counters: each hand-off is a job and its envelope here, and one job there."""
    found: list[Violation] = []
    for queue, expected in ((QUEUE, 2 * jobs), (there, jobs)):
        with bench.redis(queue) as redis:
            counters = invariants.check(redis, queue).counters
        seen = {name: counters.get(name, 0) for name in ("enqueued", "done")}
        if seen != {"enqueued": expected, "done": expected}:
            found.append(Violation("I3", f"{expected} jobs of {queue}, but {seen}"))
    return found
