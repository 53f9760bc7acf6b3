"""The application of the laboratory: tasks that are quick, slow, faulty or deadly.

Each writes into the history when it starts and when it ends. The first argument of every job is its
number, the second its canary. The folder of the history comes in the environment, so that a process
that runs a single job, started by a consumer, finds it as well.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace import CURRENT, Batch, Context, Headrace
from headrace.batches import BatchFunction, BatchTask
from headrace.retry import Backoff
from tests.faults import yielded
from tests.faults.history import Journal

HISTORY = "HEADRACE_LAB_HISTORY"
NAME = "HEADRACE_LAB_CONSUMER"

app = Headrace("redis://127.0.0.1:1/0", backoff=Backoff(base_s=0.05, factor=2, max_s=0.5))

_journals: dict[int, Journal] = {}


def journal() -> Journal:
    """Give this process' own journal, also after a fork."""
    pid = os.getpid()
    if pid not in _journals:
        _journals.clear()
        _journals[pid] = Journal(Path(os.environ[HISTORY]), "task")
    return _journals[pid]


@contextmanager
def noted(number: int, ctx: Context) -> Iterator[None]:
    """Write down that a run starts, and how it ends."""
    record = journal().write
    # As it starts: one that was begun before its adoption was answered may get another id.
    run = ctx.job_id, ctx.delivery
    record("start", number, *run, ctx.attempt, os.environ.get(NAME, ""))
    how = "ok"
    try:
        yield
    except Exception:
        how = "error"
        raise
    except BaseException:
        how = "stopped"
        raise
    finally:
        record("end", *run, how)


class ItFails(Exception):
    """What faulty tasks raise."""


@app.task
async def quick(number: int, canary: int, ctx: Context) -> None:
    with noted(number, ctx):
        pass


@app.task
async def nap(number: int, canary: int, seconds: float, ctx: Context) -> None:
    """Take a while on the loop."""
    with noted(number, ctx):
        await asyncio.sleep(seconds)


@app.task
def work(number: int, canary: int, seconds: float, ctx: Context) -> None:
    """Take a while in a thread."""
    with noted(number, ctx):
        time.sleep(seconds)


@app.task(isolate="process")
def apart(number: int, canary: int, seconds: float, ctx: Context) -> None:
    """Take a while in a process of its own."""
    with noted(number, ctx):
        time.sleep(seconds)


@app.task(max_attempts=4)
async def flaky(number: int, canary: int, ctx: Context) -> None:
    """Fail at the first attempt."""
    with noted(number, ctx):
        if ctx.attempt == 1:
            raise ItFails(number)


@app.task(max_attempts=2)
async def failing(number: int, canary: int, ctx: Context) -> None:
    """Fail at every attempt."""
    with noted(number, ctx):
        raise ItFails(number)


@app.task(result_ttl=yielded.TTL_S)
async def yields(number: int, canary: int, ctx: Context) -> AsyncIterator[int]:
    """Give items, some of them at once."""
    with noted(number, ctx):
        for at in range(yielded.ITEMS):
            yield 100 * number + at
            if at % 3 == 2:
                await asyncio.sleep(0.01)


class Numbered(BatchFunction[tuple[int, int]]):
    """Jobs of a batch with the two arguments that all have here."""

    def __init__(self, function: Callable[[Batch[tuple[int, int]]], Any]) -> None:
        super().__init__(function, size=20, within_s=0.1)
        self.__signature__ = inspect.signature(lambda number, canary: None)

    async def __call__(self, number: int, canary: int) -> Any:  # type: ignore[override]
        """Run one job."""
        return await super().__call__((number, canary))


async def run_together(batch: Batch[tuple[int, int]]) -> None:
    """Run some in one call: the fifth part fails at the first attempt; each is told of when it has ended."""
    record = journal().write
    running = {item: (item.ctx.job_id, item.ctx.delivery) for item in batch}
    for item, run in running.items():
        record("start", item.value[0], *run, item.ctx.attempt, os.environ.get(NAME, ""))
    try:
        for item in batch:
            await asyncio.sleep(0.002)
            fails = item.value[0] % 5 == 0 and item.ctx.attempt == 1
            record("end", *running.pop(item), "error" if fails else "ok")
            if fails:
                item.fail(ItFails(item.value[0]))
            else:
                item.succeed()
    finally:
        for run in running.values():
            record("end", *run, "stopped")


together = app._declare(BatchTask, Numbered(run_together), "together", {"max_attempts": 4})


@app.task
async def big(number: int, canary: int, ballast: str, ctx: Context) -> None:
    """Carry much."""
    with noted(number, ctx):
        assert len(ballast) > 900_000


@app.task
async def stall(number: int, canary: int, seconds: float, ctx: Context) -> None:
    """Keep the event loop to itself."""
    with noted(number, ctx):
        time.sleep(seconds)


CAP = 3
"""How many capped jobs may run at once."""


def limit() -> None:
    """Add tasks that are limited: for classes that break limits, so that others pay for none."""
    if "capped" in app.tasks:
        return

    @app.task(concurrency_limit=CAP)
    async def capped(number: int, canary: int, seconds: float, ctx: Context) -> None:
        with noted(number, ctx):
            await asyncio.sleep(seconds)

    @app.task(concurrency_limit=1, limit_by=lambda number, *_: number % 7, max_attempts=4)
    async def keyed(number: int, canary: int, ctx: Context) -> None:
        with noted(number, ctx):
            if ctx.attempt == 1 and number % 3 == 0:
                raise ItFails(number)

    @app.task(rate_limit="200/s")
    async def rated(number: int, canary: int, ctx: Context) -> None:
        with noted(number, ctx):
            pass


@app.task
async def poison(number: int, canary: int, ctx: Context) -> None:
    """Take the process along."""
    with noted(number, ctx):
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(max_attempts=100)
async def piece(number: int) -> int:
    """Be a member of a workflow; some fail at first."""
    await asyncio.sleep(number % 10 / 1000)
    if CURRENT.attempt == 1 and number % 100 == 7:
        raise ItFails(number)
    return number


@app.task
async def relay(number: int, queue: str, ctx: Context) -> None:
    """Hand a piece on to another queue."""
    ctx.enqueue(app.call_with("piece", (number,), {}, {"queue": queue}))


@app.task
async def link(number: int) -> int:
    """Follow another one."""
    await asyncio.sleep(0.02)
    return number + 1


@app.task
async def whole(numbers: list[int]) -> int:
    """Come after all members."""
    return sum(numbers)
