"""What Headrace is held against: loops that do less than a job queue has to.

They are written as well as can be done by hand, so that a ratio to them says what Headrace's own
work costs, and not what a machine is worth.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from redis import Redis

from benchmarks.stopwatch import Measured, Stopwatch, watch_round_trips
from headrace import operations as op
from headrace.ids import LENGTH, new_id
from headrace.keys import keys_of
from headrace.settings import DEFAULT_QUEUE
from headrace.store import AsyncStore

K = keys_of(DEFAULT_QUEUE)
LEASE_MS = 15_000
_ID = slice(len('{"id":"'), len('{"id":"') + LENGTH)


def hand_loop(url: str, nothing: Callable[..., object]) -> Measured:
    """Consume as the seed contract says: BRPOPLPUSH, run, LREM. Two round trips a job, no lease."""
    redis = Redis.from_url(url)
    redis.ping()
    done, stopwatch = 0, Stopwatch()
    while (job := redis.brpoplpush(K.pending, K.processing, timeout=1)) is not None:
        nothing(*json.loads(job)["args"])
        redis.lrem(K.processing, 1, job)
        done += 1
        stopwatch.stop()  # after the last job it waits a second for another: that does not count
    return stopwatch.read(done)


async def scripts_alone(url: str, batch: int) -> Measured:
    """Claim and settle by Headrace's scripts, in one round trip for a batch, and run nothing.

    The protocol with all that makes it safe (leases, tokens, the jobs' bytes), and no consumer: what
    the server and one connection allow when each batch waits for the one before.
    """
    store = AsyncStore(url)
    await store.run(op.register(K.queue))
    held: list[op.Outcome] = []
    done, number, stopwatch = 0, 1, watch_round_trips()
    while True:
        requests = [op.settle(K, "bare", held)] if held else []
        claim = op.claim(K, batch, lease_ms=LEASE_MS, consumer="bare", first=number)
        answers = await store.run_all([*requests, claim])
        done += len(held)
        jobs = answers[-1].jobs
        if not jobs:
            break
        # Negative: the first that was claimed is the last in processing.
        held = [
            op.Outcome(job[_ID].decode(), -claim, "done") for claim, job in enumerate(jobs, number)
        ]
        number += len(jobs)
    await store.close()
    return stopwatch.read(done)


def hand_push(url: str, jobs: int, args: tuple[object, ...]) -> Measured:
    """Enqueue as the seed contract says: one LPUSH of some JSON a job."""
    redis = Redis.from_url(url)
    redis.ping()
    stopwatch = Stopwatch()
    for _ in range(jobs):
        redis.lpush(K.pending, json.dumps({"id": new_id(), "task": "nothing", "args": args}))
    stopwatch.stop()
    return stopwatch.read(jobs)
