"""docket (pydocket) by its `Worker`, in the fire-and-forget mode of its documentation: no state is kept."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing import Process
from typing import Any

import uvloop
from docket import Docket, Worker

from benchmarks.contestants.tasks import ASYNC


def _docket(url: str, connections: int) -> Docket:
    # redis-py 8 has no more than 100 otherwise; it is to have at least one for each running task.
    url = f"{url}?max_connections={connections}"
    docket = Docket("bench", url, execution_ttl=timedelta(0))
    for name, function in ASYNC.items():
        docket.register(function, names=[name])
    return docket


def work(url: str, concurrency: int, processes: int) -> None:
    logging.basicConfig(level=logging.ERROR)
    for _ in range(processes - 1):
        Process(target=_work, args=(url, concurrency), daemon=True).start()
    _work(url, concurrency)  # returns after a SIGTERM; then the others are told to end


def _work(url: str, concurrency: int) -> None:
    async def consume() -> None:
        # A worker that is busy with all it may do sleeps for the interval.
        interval = timedelta(milliseconds=10)
        async with (
            _docket(url, 2 * concurrency + 20) as docket,
            Worker(docket, concurrency=concurrency, minimum_check_interval=interval) as worker,
        ):
            running = asyncio.create_task(worker.run_forever())
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
            with suppress(asyncio.CancelledError):
                await running

    uvloop.run(consume())


class AsyncProducer:
    def __init__(self, url: str) -> None:
        self._docket = _docket(url, 200)

    async def open(self) -> None:
        await self._docket.__aenter__()

    async def push(self, task: str, *args: object) -> None:
        await self._docket.add(task)(*args)

    async def push_many(self, task: str, calls: list[tuple[Any, ...]]) -> None:
        call = self._docket.call
        await self._docket.add_many(call(task)(*args) for args in calls)

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        await self._docket.add(task, when=datetime.now(UTC) + timedelta(seconds=delay_s))(*args)

    async def close(self) -> None:
        await self._docket.__aexit__(None, None, None)
