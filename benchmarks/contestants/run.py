"""One contestant at one thing, in its own environment: ``python -m benchmarks.contestants.run NAME DOES URL …``.

    work  URL CONCURRENCY PROCESSES    run what is there and what comes, until it is told to end
    push  URL TASK COUNT               one by one
    crowd URL TASK COUNT               a hundred at once, by coroutines
    bulk  URL TASK COUNT               a thousand in a call
    pace  URL PER_S COUNT              jobs that note how late they start, evenly spaced
    later URL DELAY_S COUNT            jobs that note how late they start, all with the same delay
    spread URL SECONDS COUNT           the same, due at random within so many seconds, when all are there

Whoever pushes prints one line of JSON: jobs, seconds, seconds of processor time; its start is not in it.

A contestant's module has ``work(url, concurrency, processes)`` and a ``Producer``, an ``AsyncProducer``
or both, each made with the URL. They have ``push(task, *args)``, ``close()`` and, where the library
offers it, ``push_many(task, calls)`` and ``push_later(delay_s, task, *args)``; of an
``AsyncProducer`` all are coroutines, and ``open()`` is awaited first. Tasks are named as in
``tasks.SYNC``. Standard library only.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

from benchmarks.contestants.tasks import ARGS
from benchmarks.stopwatch import Measured, Stopwatch

CROWD = 100
BULK = 1_000
PUSHED_A_SECOND = 400  # by the slowest, one by one, with much to spare
_ARGS = {"nothing": ARGS, "wait": (10,), "digest": ()}


def push(producer: Any, task: str, count: int) -> Measured:
    args, send = _ARGS[task], producer.push
    stopwatch = Stopwatch()
    for _ in range(count):
        send(task, *args)
    return stopwatch.read(count)


async def apush(producer: Any, task: str, count: int) -> Measured:
    args, send = _ARGS[task], producer.push
    stopwatch = Stopwatch()
    for _ in range(count):
        await send(task, *args)
    return stopwatch.read(count)


async def acrowd(producer: Any, task: str, count: int) -> Measured:
    args, send = _ARGS[task], producer.push

    async def one() -> None:
        for _ in range(count // CROWD):
            await send(task, *args)

    stopwatch = Stopwatch()
    await asyncio.gather(*(one() for _ in range(CROWD)))
    return stopwatch.read(count // CROWD * CROWD)


def bulk(producer: Any, task: str, count: int) -> Measured:
    args = _ARGS[task]
    stopwatch = Stopwatch()
    for start in range(0, count, BULK):
        producer.push_many(task, [args] * min(BULK, count - start))
    return stopwatch.read(count)


async def abulk(producer: Any, task: str, count: int) -> Measured:
    args = _ARGS[task]
    stopwatch = Stopwatch()
    for start in range(0, count, BULK):
        await producer.push_many(task, [args] * min(BULK, count - start))
    return stopwatch.read(count)


def pace(producer: Any, per_s: str, count: int) -> Measured:
    stopwatch = Stopwatch()
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + number / float(per_s) - time.monotonic()))
        producer.push("stamp", time.monotonic_ns())
    return stopwatch.read(count)


async def apace(producer: Any, per_s: str, count: int) -> Measured:
    stopwatch = Stopwatch()
    start = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / float(per_s) - time.monotonic()))
        await producer.push("stamp", time.monotonic_ns())
    return stopwatch.read(count)


def later(producer: Any, delay_s: str, count: int) -> Measured:
    stopwatch = Stopwatch()
    for _ in range(count):
        due_ns = time.monotonic_ns() + round(float(delay_s) * 1e9)
        producer.push_later(float(delay_s), "stamp", due_ns)
    return stopwatch.read(count)


async def alater(producer: Any, delay_s: str, count: int) -> Measured:
    stopwatch = Stopwatch()
    for _ in range(count):
        due_ns = time.monotonic_ns() + round(float(delay_s) * 1e9)
        await producer.push_later(float(delay_s), "stamp", due_ns)
    return stopwatch.read(count)


def _spread(seconds: float, count: int) -> Iterator[tuple[int, float]]:
    """Give when jobs are due (monotonic ns), and how long that is from now; the same for everybody."""
    chance, start = random.Random(7), time.monotonic() + 5 + count / PUSHED_A_SECOND
    for _ in range(count):
        due = start + chance.uniform(0, seconds)
        if (delay_s := due - time.monotonic()) <= 0:
            raise TimeoutError("it is due before it is pushed: the machine is too busy for this")
        yield round(due * 1e9), delay_s


def spread(producer: Any, seconds: str, count: int) -> Measured:
    stopwatch = Stopwatch()
    for due_ns, delay_s in _spread(float(seconds), count):
        producer.push_later(delay_s, "stamp", due_ns)
    return stopwatch.read(count)


async def aspread(producer: Any, seconds: str, count: int) -> Measured:
    stopwatch = Stopwatch()
    for due_ns, delay_s in _spread(float(seconds), count):
        await producer.push_later(delay_s, "stamp", due_ns)
    return stopwatch.read(count)


Sync = Callable[[Any, str, int], Measured]
Async = Callable[[Any, str, int], Awaitable[Measured]]
PUSHES: dict[str, tuple[Sync | None, Async]] = {
    "push": (push, apush),
    "crowd": (None, acrowd),
    "bulk": (bulk, abulk),
    "pace": (pace, apace),
    "later": (later, alater),
    "spread": (spread, aspread),
}


async def _awaited(module: Any, url: str, does: Async, what: str, count: int) -> Measured:
    producer = module.AsyncProducer(url)
    await producer.open()
    try:
        return await does(producer, what, count)
    finally:
        await producer.close()


def main(name: str, does: str, url: str, *args: str) -> None:
    module = importlib.import_module(f"benchmarks.contestants.{name}")
    if does == "work":
        concurrency, processes = map(int, args)
        module.work(url, concurrency, processes)
        return
    what, count = args[0], int(args[1])
    sync, awaited = PUSHES[does]
    if sync is not None and hasattr(module, "Producer"):
        producer = module.Producer(url)
        measured = sync(producer, what, count)
        producer.close()
    else:
        measured = run_async(_awaited(module, url, awaited, what, count))
    print(json.dumps(measured.__dict__))


def run_async(main: Any) -> Any:
    """Run a coroutine, on uvloop where the contestant has it."""
    factory = None
    with suppress(ImportError):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


if __name__ == "__main__":
    main(*sys.argv[1:])
