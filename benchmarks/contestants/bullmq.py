"""BullMQ by the `Worker` of its Python package, as its documentation runs it; jobs are removed when done."""

from __future__ import annotations

import asyncio
import signal
from multiprocessing import Process
from typing import Any

import uvloop
from bullmq import Job, Queue, Worker
from redis.asyncio import Redis

from benchmarks.contestants.tasks import ASYNC

QUEUE = "bench"


def _client(url: str, connections: int) -> Redis:
    # Given a URL it would send everything through a single connection, one command at a time, at
    # half the speed. redis-py 8 gives up a read after 5 s: as long as an idle worker waits.
    options = {"socket_timeout": None, "max_connections": connections}
    return Redis.from_url(url, decode_responses=True, **options)


async def _process(job: Job, _token: str) -> None:
    await ASYNC[job.name](*job.data)


def work(url: str, concurrency: int, processes: int) -> None:
    for _ in range(processes - 1):
        Process(target=_work, args=(url, concurrency), daemon=True).start()
    _work(url, concurrency)  # returns after a SIGTERM; then the others are told to end


def _work(url: str, concurrency: int) -> None:
    async def consume() -> None:
        end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
        client = _client(url, 2 * concurrency + 20)
        worker = Worker(QUEUE, _process, {"connection": client, "concurrency": concurrency})
        await end.wait()
        await worker.close()

    uvloop.run(consume())


class AsyncProducer:
    def __init__(self, url: str) -> None:
        self._queue = Queue(
            QUEUE,
            {"connection": _client(url, 200), "defaultJobOptions": {"removeOnComplete": True}},
        )

    async def open(self) -> None:
        await self._queue.getJobCounts()  # connects

    async def push(self, task: str, *args: object) -> None:
        await self._queue.add(task, args)

    async def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        await self._queue.addBulk([{"name": task, "data": args} for args in calls])

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        await self._queue.add(task, args, {"delay": round(delay_s * 1000)})

    async def close(self) -> None:
        await self._queue.close()
