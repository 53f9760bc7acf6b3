"""A site with something on every page, and the paths of all of them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from redis import Redis

from headrace import Headrace, chain
from headrace import operations as op
from headrace.keys import keys_of
from headrace.schedules import changes, define, timing_of
from headrace.store import AsyncStore
from headrace.timings import requests, tally
from tests.integration.web.client import K

FLOW_QUEUE = "flows"


class Filled(NamedTuple):
    """What stands there: ids."""

    pending: str
    processing: str
    dead: str
    workflow: str

    @property
    def paths(self) -> dict[str, str]:
        """Give the path of every page, by a word."""
        return {
            "overview": "/",
            "queue": "/queues/queue",
            "queue of dead": "/queues/queue?place=dead",
            "queue of processing": "/queues/queue?place=processing",
            "job": f"/jobs/{self.pending}",
            "running job": f"/jobs/{self.processing}",
            "dead job": f"/jobs/{self.dead}",
            "unknown job": "/jobs/nobody",
            "dead letters": "/dead-letters?queue=queue",
            "letter": f"/dead-letters/{self.dead}",
            "purge": f"/dead-letters/purge?id={self.dead}",
            "consumers": "/consumers",
            "schedules": "/schedules",
            "remove": "/schedules/beat/remove",
            "workflow": f"/workflows/{self.workflow}?queue={FLOW_QUEUE}",
            "cancel": f"/jobs/{self.pending}/cancel",
            "doctor": "/doctor",
            "under the hood": "/under-the-hood/queue",
            "problem": "/queues/nothing",
        }


def letter(job_id: str, **more: Any) -> dict[str, Any]:
    """Give a dead letter."""
    error = {"reason": "max_attempts", "type": "OSError", "message": "no route", "failed_at": 1_000}
    error |= {"traceback": "line 1\nline 2", "consumer": "web1"} | more.pop("error", {})
    return {"id": job_id, "attempt": 3, "task": "send"} | more | {"error": error}


def some_counts() -> tally.Tally:
    """Give what a consumer tells of 90 jobs that were done, and ten that were not."""
    counts = tally.empty()
    counts[tally.RUNS], counts[tally.DONE] = 100, 90
    counts[tally.RETRIED], counts[tally.DEAD] = 7, 3
    for seconds, times in ((0.2, 60), (3.0, 38), (400.0, 2)):
        counts[tally.RUN_TIMES + tally.bucket_of(seconds)] += times
        counts[tally.WAITS + tally.bucket_of(seconds / 10)] += times
    return counts


def die(redis: Redis, job_id: str, *, queue: str = "queue", **more: Any) -> None:
    """Put a dead letter there, as consumers write it."""
    redis.lpush(keys_of(queue).dead, json.dumps(letter(job_id, **more), separators=(",", ":")))
    redis.sadd("headrace:queues", queue)


async def fill(app: Headrace, store: AsyncStore, redis: Redis, **call: Any) -> Filled:
    """Put a job into each place, a schedule, a workflow, statistics; all with this call."""
    task = call.pop("task", "send")
    args, kwargs = tuple(call.pop("args", ())), call.pop("kwargs", {})
    running = await app.aenqueue(task, *args, **kwargs)
    await store.run(op.claim(K, 1, lease_ms=600_000, consumer="web1", first=1))
    calls = [app.call_with(task, args, kwargs, {})]
    calls.append(app.call_with(task, args, kwargs, {"priority": 5}))
    calls.append(app.call_with(task, args, kwargs, {"delay": 3600}))
    waiting = (await app.aenqueue_many(calls))[0]
    die(redis, "dead1", task=task, args=list(args), kwargs=kwargs, **call)
    schedule = app.call_with(task, args, kwargs, {})
    beat = define(schedule, timing_of(None, 30, "UTC"), missed="latest", partitions=app.partitions)
    await store.follow(changes.add("beat", beat, replace=False))

    await store.run(requests.add(K, {task: some_counts()}))

    @app.task(name=f"{task} in a flow", queue=FLOW_QUEUE)
    def step(*args: Any, **kwargs: Any) -> None: ...

    flow = await chain(step.call(*args, **kwargs), step.call(*args, **kwargs)).aenqueue()
    return Filled(waiting.id, running.id, "dead1", flow.id)
