"""Faults of limits: who has a slot is killed, and so is who was about to say that it is free."""

from __future__ import annotations

import signal

from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.failpoints import Failpoint
from tests.faults.lab_app import CAP

_POINTS = ("before:lanes/admit", "after:lanes/admit", "before:lanes/hold", "after:settle")
_STRANDED_S = 60.0  # whoever leads dies every other second, and each new leader waits for a grace
_MIX = (("capped", 3), ("keyed", 6), ("rated", 3), ("quick", 6))


@fault_class("limits: holders and leaders SIGKILL", cost_s=60, short=0.1)
def holders_killed(bench: Bench) -> Verdict:
    """Kill consumers that hold slots, before and after each word of it, and the servers that lead.

    All jobs are done, no more run at once than allowed, and in the end all slots are free.
    """
    bench.serve_redis()
    bench.sample()
    bench.maintainer()
    for _ in range(4):
        bench.consumer(limits=True)
    role = {"limits": True}
    bench.producer(
        3_000, role=role, mix=_MIX, batch=20, pause_s=0.2, seconds=(0.02, 0.2), delayed=0.1
    )
    while bench.producing():
        bench.pause(0.3, 0.8)
        bench.forget_the_dead()
        point = Failpoint(bench.rng.choice(_POINTS), "kill", passes=bench.rng.randint(3, 40))
        if len(bench.consumers) > 3:
            bench.kill(bench.any_consumer())
        bench.consumer(points=(point,), limits=True)
        if bench.rng.random() < 0.3:
            bench.fault("SIGKILL of a server")
            bench.nursery.signal(bench.servers.pop(), signal.SIGKILL)
            bench.maintainer()
    bench.consumer(limits=True)  # all others may die
    bench.drained()
    # Whoever is about to die is not asked whether he is awake.
    bench.forget_the_dead()
    for name in list(bench.consumers):
        bench.nursery.signal(bench.consumers.pop(name), signal.SIGTERM)
    bench.consumer(limits=True)
    return bench.finish(Terms(capped=CAP, stranded_s=_STRANDED_S, must_hit=(("SIGKILL", ""),)))
