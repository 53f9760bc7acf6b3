"""Who is compared: each queue with the versions it is measured in, and the settings it is given.

Every peer has the settings that its documentation recommends for speed; where that leaves a choice,
those with which it was fastest here. Results of jobs are off everywhere, and so is logging of what goes
well. hiredis is there for all that use redis-py, uvloop for all that use asyncio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Contestant:
    """One queue, or one way to run it.

    Attributes:
        name: its module in this package; ``MODULE:VARIANT`` where there are several.
        per_s: about how many jobs that do nothing one of its processes runs in a second: so that each
            is measured for about as long.
        concurrency: for jobs that do nothing, in one process.
        settings: how it is run, for readers of the table.
        requires: what pip installs for it; nothing: it runs in Headrace's own environment.
        python: the oldest Python that it runs on.
        loses: it ends with a job lost when its process is killed at its defaults: it gives up less
            for its speed.
        does: which of push, crowd, bulk, later it has.
    """

    name: str
    per_s: int
    concurrency: int
    settings: str
    requires: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)
    loses: bool = False
    does: frozenset[str] = frozenset({"push"})

    @property
    def module(self) -> str:
        return self.name.partition(":")[0]


_ALL: Final = frozenset({"push", "crowd", "bulk", "later"})
OURS: Final = (
    Contestant("headrace:async", 60_000, 100, "async tasks; everything at its default", does=_ALL),
    Contestant("headrace:sync", 50_000, 10, "sync tasks, 10 threads; everything at its default", does=_ALL),
    Contestant("by_hand", 6_000, 1, "`BRPOPLPUSH`, `json.loads`, `LREM`; no leases, no retries", loses=True),
    Contestant("scripts", 90_000, 128, "our `claim` and `settle` in a loop, 128 at once; no job is run", does=frozenset({"bulk"})),
)  # fmt: skip
PEERS: Final = (
    Contestant("celery:threads", 1_100, 4, "4 threads, prefetch multiplier 100, no gossip, mingle or heartbeat", ("celery[redis]==5.7.0", "redis==8.1.0", "hiredis==3.5.0"), loses=True, does=frozenset({"push", "bulk", "later"})),
    Contestant("celery:prefork", 1_000, 1, "a pool of processes, otherwise as with threads", ("celery[redis]==5.7.0", "redis==8.1.0", "hiredis==3.5.0"), loses=True, does=frozenset({"push", "bulk", "later"})),
    Contestant("rq:simple", 250, 1, "`SimpleWorker`: no fork for each job", ("rq==3.0.0", "redis==8.1.0", "hiredis==3.5.0"), does=frozenset({"push", "bulk", "later"})),
    Contestant("rq:fork", 70, 1, "`Worker`, its default: a fork for each job", ("rq==3.0.0", "redis==8.1.0", "hiredis==3.5.0"), does=frozenset({"push", "bulk", "later"})),
    Contestant("dramatiq", 5_000, 1, "1 thread, prefetches 200", ("dramatiq[redis]==2.2.1", "redis==8.1.0", "hiredis==3.5.0"), does=frozenset({"push", "later"})),
    Contestant("huey", 4_000, 4, "4 threads, blocking pops", ("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"), loses=True, does=frozenset({"push", "later"})),
    Contestant("arq", 2_800, 100, "`max_jobs` 100, polls each 10 ms (by default 500)", ("arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0", "uvloop==0.23.0"), does=frozenset({"push", "crowd", "later"})),
    Contestant("saq", 3_000, 20, "concurrency 20", ("saq[redis]==0.26.4", "redis==7.4.1", "hiredis==3.5.0", "uvloop==0.23.0", "typing_extensions==4.16.0"), loses=True, does=frozenset({"push", "crowd", "later"})),
    Contestant("repid", 11_000, 10, "async tasks, Redis streams, 100 messages a fetch; reclaims nothing (its default)", ("repid[redis]==2.1.4", "redis==7.4.1", "hiredis==3.5.0", "uvloop==0.23.0", "typing_extensions==4.16.0"), loses=True, does=frozenset({"push", "crowd"})),
    Contestant("ardiq", 16_000, 400, "async tasks; core in Rust; no results", ("ardiq==1.2.0", "uvloop==0.23.0"), python=(3, 12), does=_ALL),
    Contestant("taskiq", 4_400, 100, "async tasks, Redis streams, orjson, arguments not parsed; beside it the scheduler", ("taskiq==0.13.0", "taskiq-redis==1.2.4", "orjson==3.13.0", "redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0"), does=frozenset({"push", "crowd", "later"})),
    Contestant("streaq", 1_500, 16, "async tasks, 100 prefetched; no results, silent", ("streaq==7.2.0", "coredis==6.9.0", "uvloop==0.23.0"), does=_ALL),
    Contestant("pydocket", 2_800, 400, "async tasks, fire-and-forget mode, checks each 10 ms", ("pydocket==0.27.0", "redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0"), does=_ALL),
    Contestant("bullmq", 7_000, 20, "async tasks, a pool of connections; jobs removed when done", ("bullmq==3.4.4", "redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0"), does=_ALL),
)  # fmt: skip
CONTESTANTS: Final = {contestant.name: contestant for contestant in (*OURS, *PEERS)}
