"""Headrace, as its README says. The variant tells which form of the tasks runs, async or
sync, and from which queues: ``async+a,b``; ``async+a,b;c`` is two consumers in one process.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from benchmarks.contestants.run import run_async
from benchmarks.contestants.tasks import ASYNC, SYNC
from headrace import Headrace
from headrace import operations as op
from headrace.cli.queues import parse_queues
from headrace.consumer import ConsumerOptions
from headrace.consumer.consumer import Consumer
from headrace.garbage import look_less_often
from headrace.isolation.runner import IsolatedRunner

VARIANT, _, QUEUES = os.environ.get("BENCH_VARIANT", "sync").partition("+")
TASKS = ASYNC if VARIANT == "async" else SYNC

app = Headrace(os.environ["BENCH_URL"])
for _name, _function in TASKS.items():
    app.task(_function, name=_name)


def work(url: str, concurrency: int, processes: int) -> None:
    if ";" in QUEUES:
        look_less_often()  # as in the process of one consumer
        run_async(_consume(QUEUES.split(";"), concurrency))
        return
    command = ["headrace", "consume", "benchmarks.contestants.headrace:app", "--url", url]
    command += ["--concurrency", str(concurrency), "--workers", str(processes)]
    if QUEUES:
        command += ["--queues", QUEUES]
    os.execvp(command[0], command)


async def _consume(shares: list[str], concurrency: int) -> None:
    options = [
        ConsumerOptions(queues=parse_queues(names), concurrency=concurrency) for names in shares
    ]
    await asyncio.gather(*(Consumer(app, one, IsolatedRunner).run() for one in options))


class Producer:
    def __init__(self, _url: str) -> None:
        self._tasks = {name: app.find_task(name) for name in TASKS}
        app.producer().store.run(op.queues())  # connects

    def push(self, task: str, *args: object) -> None:
        self._tasks[task].enqueue(*args)

    def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        call = self._tasks[task].call
        app.enqueue_many(call(*args) for args in calls)

    def push_later(self, delay_s: float, task: str, *args: object) -> None:
        self._tasks[task].options(delay=delay_s).enqueue(*args)

    def close(self) -> None:
        app.close()


class AsyncProducer:
    def __init__(self, _url: str) -> None:
        self._tasks = {name: app.find_task(name) for name in TASKS}

    async def open(self) -> None:
        await app.producer().astore().run(op.queues())  # connects

    async def push(self, task: str, *args: object) -> None:
        await self._tasks[task].aenqueue(*args)

    async def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        call = self._tasks[task].call
        await app.aenqueue_many(call(*args) for args in calls)

    async def close(self) -> None:
        await app.aclose()
