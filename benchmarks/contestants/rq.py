"""RQ, no results kept. The variant is the worker: fork (a process for each job, its default), or simple (none).

With several processes: its worker pool. The scheduler runs beside the workers, as it always does in the pool.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from redis import Redis
from rq import Queue

from benchmarks.contestants.tasks import SYNC

WORKERS = {"simple": "rq.SimpleWorker", "fork": "rq.Worker"}


def work(url: str, _concurrency: int, processes: int) -> None:
    command = ["rq", "worker", "--with-scheduler"]
    if processes > 1:
        command = ["rq", "worker-pool", "--num-workers", str(processes)]
    command += ["--quiet", "--url", url, "--worker-class", WORKERS[os.environ["BENCH_VARIANT"]]]
    os.execvp(command[0], command)


class Producer:
    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)
        self._redis.ping()
        self._queue = Queue(connection=self._redis)

    def push(self, task: str, *args: object) -> None:
        self._queue.enqueue(SYNC[task], args=args, result_ttl=0)

    def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        prepare, function = Queue.prepare_data, SYNC[task]
        self._queue.enqueue_many([prepare(function, args=args, result_ttl=0) for args in calls])

    def push_later(self, delay_s: float, task: str, *args: object) -> None:
        delay = timedelta(seconds=delay_s)
        self._queue.enqueue_in(delay, SYNC[task], args=args, result_ttl=0)

    def close(self) -> None:
        self._redis.close()
