"""Celery as its optimizing guide has it for many short tasks: it prefetches a lot and ignores results. What workers
tell each other is off too. The variant is the pool: threads, or prefork (processes, its default).
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from benchmarks.contestants.processes import fork
from benchmarks.contestants.tasks import SYNC

app = Celery("bench", broker=os.environ["BENCH_URL"], set_as_current=True)
app.conf.update(
    task_ignore_result=True,
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=100,  # "say, 64, or 128" for many short tasks
)
TASKS = {name: app.task(function, name=name) for name, function in SYNC.items()}


def work(_url: str, concurrency: int, processes: int) -> None:
    pool = os.environ["BENCH_VARIANT"]
    if pool == "prefork":
        concurrency *= processes  # of its pool
    else:
        fork(processes)  # no command of its own runs several with threads, but for daemons
    os.environ["PYTHONWARNINGS"] = "ignore"  # of running as root
    command = ["celery", "-A", "benchmarks.contestants.celery:app", "--quiet", "worker"]
    command += ["--pool", pool, "--concurrency", str(concurrency), "--loglevel", "ERROR"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command += ["--hostname", f"bench{os.getpid()}@%h"]
    os.execvp(command[0], command)


class Producer:
    def __init__(self, _url: str) -> None:
        with app.producer_or_acquire() as producer:
            producer.connection.ensure_connection()

    def push(self, task: str, *args: object) -> None:
        TASKS[task].apply_async(args)

    def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        send = TASKS[task].apply_async
        with app.producer_or_acquire() as producer, producer.batch():
            for args in calls:
                send(args, producer=producer)

    def push_later(self, delay_s: float, task: str, *args: object) -> None:
        TASKS[task].apply_async(args, countdown=delay_s)

    def close(self) -> None:
        app.close()
