"""taskiq on Redis streams, by its own commands: workers, and the scheduler that its delayed jobs need."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

from taskiq import TaskiqScheduler
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from benchmarks.contestants.tasks import ASYNC

URL = os.environ["BENCH_URL"]
MODULE = "benchmarks.contestants.taskiq"

# Its documentation calls this serializer the faster one.
broker = RedisStreamBroker(URL).with_serializer(ORJSONSerializer())
source = ListRedisScheduleSource(URL)
scheduler = TaskiqScheduler(broker, [source])
TASKS = {name: broker.task(task_name=name)(function) for name, function in ASYNC.items()}


def work(_url: str, concurrency: int, processes: int) -> None:
    worker = ["taskiq", "worker", f"{MODULE}:broker", "--log-level", "ERROR"]
    worker += ["--workers", str(processes), "--max-async-tasks", str(concurrency)]
    worker += ["--no-parse"]  # of arguments, into the types that a task declares
    scheduling = ["taskiq", "scheduler", f"{MODULE}:scheduler", "--log-level", "ERROR"]
    scheduling += ["--update-interval", "1"]  # seconds; by default a minute
    children = [subprocess.Popen(command) for command in (worker, scheduling)]

    def end(*_: Any) -> None:
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, end)
    for child in children:
        child.wait()


class AsyncProducer:
    def __init__(self, _url: str) -> None:
        pass

    async def open(self) -> None:
        await broker.startup()
        await source.startup()

    async def push(self, task: str, *args: object) -> None:
        await TASKS[task].kiq(*args)

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        at = datetime.now(UTC) + timedelta(seconds=delay_s)
        await TASKS[task].schedule_by_time(source, at, *args)

    async def close(self) -> None:
        await broker.shutdown()
        await source.shutdown()
