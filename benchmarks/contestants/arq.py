"""arq, on uvloop, no results kept; it polls each 10 ms instead of each 500 ms, which is faster by far."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from arq import ArqRedis, create_pool, func, run_worker
from arq.connections import RedisSettings

from benchmarks.contestants.processes import fork
from benchmarks.contestants.tasks import ASYNC


def _with_context(name: str) -> Any:
    function = ASYNC[name]

    async def task(_context: dict[Any, Any], *args: Any) -> None:
        await function(*args)

    return func(task, name=name)


def work(url: str, concurrency: int, processes: int) -> None:
    fork(processes)
    asyncio.set_event_loop(uvloop.new_event_loop())
    settings = {
        "functions": [_with_context(name) for name in ASYNC],
        "redis_settings": RedisSettings.from_dsn(url),
        "max_jobs": concurrency,
        "poll_delay": 0.01,
        "keep_result": 0,
        "log_results": False,
    }
    run_worker(settings)


class AsyncProducer:
    def __init__(self, url: str) -> None:
        self._settings = RedisSettings.from_dsn(url)
        self._pool: ArqRedis

    async def open(self) -> None:
        self._pool = await create_pool(self._settings)

    async def push(self, task: str, *args: object) -> None:
        await self._pool.enqueue_job(task, *args)

    async def push_later(self, delay_s: float, task: str, *args: object) -> None:
        await self._pool.enqueue_job(task, *args, _defer_by=delay_s)

    async def close(self) -> None:
        await self._pool.aclose()
