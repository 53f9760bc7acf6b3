"""Huey, with blocking pops, threads and no results; with several processes: as many consumers."""

from __future__ import annotations

import os

from huey import RedisHuey
from redis import ConnectionPool

from benchmarks.contestants.processes import fork
from benchmarks.contestants.tasks import SYNC

# The pool of redis-py 8 ends at 100 connections: fewer than 100 threads and the scheduler need.
pool = ConnectionPool.from_url(os.environ["BENCH_URL"], max_connections=1_000)
huey = RedisHuey("bench", results=False, connection_pool=pool)
TASKS = {name: huey.task(name=name)(function) for name, function in SYNC.items()}


def work(_url: str, concurrency: int, processes: int) -> None:
    fork(processes)
    command = ["huey_consumer", "benchmarks.contestants.huey.huey", "--quiet", "--no-periodic"]
    command += ["--worker-type", "thread", "--workers", str(concurrency)]
    os.execvp(command[0], command)


class Producer:
    def __init__(self, _url: str) -> None:
        huey.storage.conn.ping()

    def push(self, task: str, *args: object) -> None:
        TASKS[task](*args)

    def push_later(self, delay_s: float, task: str, *args: object) -> None:
        TASKS[task].schedule(args, delay=delay_s)

    def close(self) -> None:
        pool.disconnect()
