"""Faults of what jobs tell while they run: consumers that die around each item that they store."""

from __future__ import annotations

import itertools
import signal

from headrace.policy import LeasePolicy
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.failpoints import Action, Failpoint

_LEASE = LeasePolicy(lease_s=0.9, bare_lease_s=0.9, max_crashes=50)
_APPEND = "reports/append"
_AT_ONCE = 4
_ACTIONS: tuple[Action, ...] = ("kill", "stop")
_CELLS: tuple[tuple[str, Action], ...] = tuple(
    (when, action) for action in _ACTIONS for when in ("before", "after")
)


@fault_class("items of streams, consumers killed", cost_s=60, short=0.1, lease=_LEASE)
def at_each_item(bench: Bench) -> Verdict:
    """What generators have yielded stands there once, in order, of the run that ended their job."""
    bench.serve_redis()
    bench.sample()
    bench.maintainer()
    twice = Failpoint(f"after:{_APPEND}", "repeat", every=True)
    steady = bench.consumer(concurrency=10, maintains=False, points=(twice,))
    bench.producer(1_500, mix=(("yields", 3), ("quick", 1)), batch=2, pause_s=0.05)
    cells = itertools.cycle(_CELLS)
    while bench.producing():
        _end(bench, [n for n, pid in bench.consumers.items() if pid in bench.nursery.stopped])
        bench.forget_the_dead()
        while len(bench.consumers) < 1 + _AT_ONCE:
            when, action = next(cells)
            point = Failpoint(f"{when}:{_APPEND}", action, bench.rng.randint(1, 10))
            bench.consumer(concurrency=4, maintains=False, points=(point,))
        bench.pause(0.02, 0.1)
    _end(bench, [name for name in bench.consumers if name != steady])
    hit = tuple((f"{action} {when}", _APPEND) for when, action in _CELLS)
    return bench.finish(Terms(must_hit=(("sent twice", _APPEND), *hit)))


def _end(bench: Bench, names: list[str]) -> None:
    """Tell consumers to end; one that stands still hears it when it goes on, and is late before that."""
    for name in names:
        bench.nursery.signal(bench.consumers.pop(name), signal.SIGTERM)
