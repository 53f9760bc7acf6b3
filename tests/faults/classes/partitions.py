"""A divided queue on a cluster: its consumers come, go and die, and its partitions become more and fewer."""

from __future__ import annotations

import signal
import time
from contextlib import closing

from headrace.partitions import changing
from headrace.partitions.names import names_of
from headrace.store import Store
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.roles import QUEUE

_MIX = (("quick", 20), ("nap", 5), ("flaky", 2), ("failing", 1))
_FEW, _MANY = 4, 8


@fault_class("cluster, divided queue", cost_s=40, short=0.1)
def divided(bench: Bench) -> Verdict:
    """Kill those who are at home in partitions, let others come and go, and change how many there are."""
    bench.serve_cluster()
    bench.queues = names_of(QUEUE, _MANY)
    bench.sample()
    for _ in range(3):
        bench.consumer(partitions=_FEW)
    bench.maintainer()
    for batch in (5, 1):
        role = {"partitions": _FEW}
        bench.producer(
            1_000_000, role=role, mix=_MIX, batch=batch, delayed=0.1, prioritised=0.1, pause_s=0.02
        )
    with closing(Store(bench.url)) as store:
        for wanted in (_MANY, _FEW):
            bench.fault("more partitions" if wanted == _MANY else "fewer partitions")
            if heard_s := store.follow(changing.begin(QUEUE, wanted)):
                _come_and_go(bench, heard_s)
                store.follow(changing.fill(QUEUE, wanted))
            _come_and_go(bench, 12 * bench.scale)
    bench.end_producers()
    return bench.finish(Terms())


def _come_and_go(bench: Bench, seconds: float) -> None:
    """Kill a consumer, tell another to end, and start others, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        bench.pause(0.2, 0.8)
        bench.kill(bench.any_consumer())
        bench.consumer(partitions=_FEW)
        bench.pause(0.2, 0.8)
        leaving = bench.any_consumer()
        bench.nursery.signal(bench.consumers.pop(leaving), signal.SIGTERM)
        bench.consumer(partitions=_FEW)
