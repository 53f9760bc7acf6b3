"""ArdiQ by its own command, which also supervises several processes; no results kept."""

from __future__ import annotations

import logging
import os
from typing import Any

import uvloop
from ardiq import Ardiq

from benchmarks.contestants.tasks import ASYNC

uvloop.install()  # its command runs the loop, but leaves the choice of one to us
logging.getLogger("ardiq").setLevel(logging.ERROR)
app = Ardiq(
    os.environ["BENCH_URL"],
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", "16")),
    result_ttl_ms=0,
)
TASKS = {name: app.task(name=name)(function) for name, function in ASYNC.items()}


def work(_url: str, concurrency: int, processes: int) -> None:
    os.environ["BENCH_CONCURRENCY"] = str(concurrency)
    command = ["ardiq", "run", "benchmarks.contestants.ardiq:app", "--quiet"]
    command += ["--workers", str(processes)]
    os.execvp(command[0], command)


class AsyncProducer:
    def __init__(self, _url: str) -> None:
        pass

    async def open(self) -> None:
        await app.queue_size()  # connects

    async def push(self, task: str, *args: object) -> None:
        await TASKS[task].enqueue(*args)

    async def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        prepare = TASKS[task].prepare
        await app.enqueue_many(prepare(*args) for args in calls)

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        await TASKS[task].options(delay_ms=round(delay_s * 1000)).enqueue(*args)

    async def close(self) -> None:
        pass
