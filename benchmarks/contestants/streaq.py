"""streaQ by its `Worker`: of several processes, its command would leave all but one behind at a SIGTERM.

Results are not kept, and tasks log nothing.
"""

from __future__ import annotations

from datetime import timedelta
from multiprocessing import Process
from typing import Any

from streaq import Worker

from benchmarks.contestants.tasks import ASYNC


def _worker(url: str, concurrency: int = 16) -> Worker:
    options = {"prefetch": 100, "anyio_kwargs": {"use_uvloop": True}}
    worker = Worker(url, concurrency=concurrency, **options)
    for name, function in ASYNC.items():
        worker.task(name=name, silent=True, ttl=0)(function)
    return worker


def work(url: str, concurrency: int, processes: int) -> None:
    for _ in range(processes - 1):
        Process(target=_work, args=(url, concurrency), daemon=True).start()
    _work(url, concurrency)  # returns after a SIGTERM; then the others are told to end


def _work(url: str, concurrency: int) -> None:
    _worker(url, concurrency).run_sync()


class AsyncProducer:
    def __init__(self, url: str) -> None:
        self._worker = _worker(url)
        self._tasks = self._worker.registry

    async def open(self) -> None:
        await self._worker.__aenter__()

    async def push(self, task: str, *args: object) -> None:
        await self._tasks[task].enqueue(*args)

    async def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        enqueue = self._tasks[task].enqueue
        await self._worker.enqueue_many([enqueue(*args) for args in calls])

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        await self._tasks[task].enqueue(*args).start(delay=timedelta(seconds=delay_s))

    async def close(self) -> None:
        await self._worker.__aexit__(None, None, None)
