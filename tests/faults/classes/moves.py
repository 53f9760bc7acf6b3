"""A queue moves from a server to a cluster, while everybody works on both and whoever moves it dies."""

from __future__ import annotations

import signal
from itertools import cycle, islice, product
from typing import Any

from redis import Redis

from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Terms, Verdict
from tests.faults.failpoints import Failpoint
from tests.faults.roles import QUEUE, ConsumerRole, MoverRole, ServerRole
from tests.support import invariants
from tests.support.wait import bound, wait_until

_MIX = (("quick", 12), ("nap", 4), ("flaky", 2), ("failing", 1))
_STEPS = ("moving/take", "moving/arrive", "moving/leave")
_POINTS = tuple(f"{when}:{name}" for name, when in product(_STEPS, ("before", "after")))
_DEATHS = 90
"""Each point fifteen times."""


@fault_class("queue moved to a cluster", cost_s=15, short=0.1)
def moved_to_a_cluster(bench: Bench) -> Verdict:
    """SIGKILL whoever moves a queue, at each point, under load: each job is moved once, none is lost."""
    old = bench.serve_redis().url
    cluster = bench.serve_cluster()
    bench.sample()
    there = [_start_there(bench, old) for _ in range(2)]
    there.append(bench.start(ServerRole, name=bench.name("s"), lease=bench.lease, url=old))
    for _ in range(2):
        bench.consumer()
    bench.maintainer()
    load: dict[str, Any] = {"mix": _MIX, "delayed": 0.2, "prioritised": 0.2, "pause_s": 0.02}
    bench.producer(1_000_000, role={"url": old}, batch=5, **load)
    bench.producer(1_000_000, batch=2, **load)
    for point in islice(cycle(_POINTS), max(len(_POINTS), round(_DEATHS * bench.scale))):
        mortal = _move(bench, old, cluster.url, Failpoint(point, "kill", bench.rng.randint(1, 4)))
        if bench.rng.random() < 0.2:
            bench.fault("SIGKILL", target="consumer there")
            bench.nursery.signal(there[0], signal.SIGKILL)
            there[0] = _start_there(bench, old)
        wait_until(lambda: mortal not in bench.nursery.still_alive(), "it dies", within_s=bound(60))  # noqa: B023
    bench.end_producers()
    bench.until_produced()
    last = _move(bench, old, cluster.url)
    wait_until(
        lambda: last not in bench.nursery.still_alive(), "nothing is left", within_s=bound(90)
    )
    with Redis.from_url(old) as redis:
        bench.moved = invariants.check(redis, QUEUE)
    assert not any(bench.moved.places.values()), bench.moved
    for pid in there:
        bench.nursery.signal(pid, signal.SIGTERM)
    must = tuple((f"kill {when}", name) for name, when in product(_STEPS, ("before", "after")))
    return bench.finish(Terms(must_hit=must))


def _start_there(bench: Bench, old: str) -> int:
    """Start a consumer where the queue comes from; it is not there at the end."""
    name = bench.name("old")
    return bench.start(ConsumerRole, name=name, lease=bench.lease, url=old)


def _move(bench: Bench, old: str, new: str, *points: Failpoint) -> int:
    return bench.start(MoverRole, name=bench.name("m"), url=old, to=new, points=points)
