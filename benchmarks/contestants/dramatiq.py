"""Dramatiq with its default middleware and no results; prefetching by its environment variable, as one thread
(the fastest for short jobs) would by default prefetch two messages only.
"""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from benchmarks.contestants.tasks import SYNC

# The pool of redis-py 8 ends at 100 connections: fewer than 100 threads and the consumers may need.
broker = RedisBroker(client=Redis.from_url(os.environ["BENCH_URL"], max_connections=1_000))
dramatiq.set_broker(broker)
ACTORS = {name: dramatiq.actor(function, actor_name=name) for name, function in SYNC.items()}


def work(_url: str, concurrency: int, processes: int) -> None:
    os.environ["dramatiq_queue_prefetch"] = str(max(200, 2 * concurrency))  # noqa: SIM112
    command = ["dramatiq", "benchmarks.contestants.dramatiq:broker", "--skip-logging"]
    command += ["--processes", str(processes), "--threads", str(concurrency)]
    os.execvp(command[0], command)


class Producer:
    def __init__(self, _url: str) -> None:
        broker.client.ping()

    def push(self, task: str, *args: object) -> None:
        ACTORS[task].send(*args)

    def push_later(self, delay_s: float, task: str, *args: object) -> None:
        ACTORS[task].send_with_options(args=args, delay=round(delay_s * 1000))

    def close(self) -> None:
        broker.close()
