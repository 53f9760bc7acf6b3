"""No queue at all: what the seed contract says, written by hand with redis-py."""

from __future__ import annotations

import json
from uuid import uuid4

from redis import Redis

from benchmarks.contestants.processes import fork
from benchmarks.contestants.tasks import SYNC

QUEUE, PROCESSING = "by_hand", "by_hand:processing"


def work(url: str, _concurrency: int, processes: int) -> None:
    fork(processes)
    redis = Redis.from_url(url, socket_timeout=None)  # else it gives up after 5 s without a job
    while True:
        job = redis.brpoplpush(QUEUE, PROCESSING, timeout=0)
        call = json.loads(job)
        SYNC[call["task"]](*call["args"])
        redis.lrem(PROCESSING, 1, job)


class Producer:
    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)
        self._redis.ping()

    def push(self, task: str, *args: object) -> None:
        self._redis.lpush(QUEUE, json.dumps({"id": uuid4().hex, "task": task, "args": args}))

    def close(self) -> None:
        self._redis.close()
