"""SAQ, on uvloop, jobs dropped when they are done (``ttl=-1``); with several processes: as many workers."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

import uvloop
from saq import Queue

from benchmarks.contestants.processes import fork
from benchmarks.contestants.tasks import ASYNC


def _by_keyword(name: str) -> Any:
    function = ASYNC[name]

    async def task(_context: Any, *, args: list[Any]) -> None:
        await function(*args)

    return name, task


def settings() -> dict[str, Any]:
    """Give what its command line asks for, in the worker."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    logging.getLogger("saq").setLevel(logging.ERROR)
    return {
        "queue": Queue.from_url(os.environ["BENCH_URL"]),
        "functions": [_by_keyword(name) for name in ASYNC],
        "concurrency": int(os.environ["BENCH_CONCURRENCY"]),
    }


def work(_url: str, concurrency: int, processes: int) -> None:
    fork(processes)  # its own --workers do not end with the first of them
    os.environ["BENCH_CONCURRENCY"] = str(concurrency)
    os.execvp("saq", ["saq", "benchmarks.contestants.saq.settings"])


class AsyncProducer:
    def __init__(self, url: str) -> None:
        self._queue = Queue.from_url(url)

    async def open(self) -> None:
        await self._queue.connect()
        await self._queue.count("queued")

    async def push(self, task: str, *args: object) -> None:
        await self._queue.enqueue(task, args=args, ttl=-1)

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        await self._queue.enqueue(task, args=args, ttl=-1, scheduled=time.time() + delay_s)

    async def close(self) -> None:
        await self._queue.disconnect()
