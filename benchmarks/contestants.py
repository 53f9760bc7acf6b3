"""Who runs, each in a process of its own: ``python -m benchmarks.contestants NAME URL JOBS``.

It prints one line of JSON: what it measured of itself, without its start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from benchmarks import yardsticks
from benchmarks.stopwatch import Measured, Stopwatch, watch_round_trips
from headrace import Headrace, consumer, logs
from headrace import operations as op
from headrace.settings import DEFAULT_QUEUE

ARGS: Final = (
    *(12345, "send_welcome_email", "ada.lovelace@example.org", "Welcome to the Analytical Society"),
    *("en_GB", "2026-11-24T09:00", 3),
)
"""With them a job is 180 bytes on the wire."""

CALLERS: Final = 100
BULK: Final = 1_000


def application(url: str, *, is_async: bool) -> Headrace:
    """Make an application of one task that does nothing, all settings at their defaults."""
    app = Headrace(url)
    app.task(_nothing_async if is_async else _nothing, name="nothing")
    return app


def _nothing(*_: object) -> None:
    pass


async def _nothing_async(*_: object) -> None:
    pass


def _await(main: Coroutine[Any, Any, Measured]) -> Measured:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


# — they consume what is there —


def _hand_loop(url: str, _: int) -> Measured:
    return yardsticks.hand_loop(url, _nothing)


def _scripts_64(url: str, _: int) -> Measured:
    return _await(yardsticks.scripts_alone(url, 64))


def _scripts_128(url: str, _: int) -> Measured:
    return _await(yardsticks.scripts_alone(url, 128))


def _consumer(url: str, jobs: int, *, is_async: bool) -> Measured:
    logs.configure("info")
    stopwatch = watch_round_trips()
    options = consumer.ConsumerOptions(queues=consumer.parse_queues(DEFAULT_QUEUE), burst=True)
    consumer.run(application(url, is_async=is_async), options)
    return stopwatch.read(jobs)


def _async_tasks(url: str, jobs: int) -> Measured:
    return _consumer(url, jobs, is_async=True)


def _sync_tasks(url: str, jobs: int) -> Measured:
    return _consumer(url, jobs, is_async=False)


# — they enqueue —


def _hand_push(url: str, jobs: int) -> Measured:
    return yardsticks.hand_push(url, jobs, ARGS)


def _enqueue(url: str, jobs: int) -> Measured:
    app = application(url, is_async=False)
    task = app.find_task("nothing")
    app.producer().store.run(op.queues())
    stopwatch = Stopwatch()
    for _ in range(jobs):
        task.enqueue(*ARGS)
    stopwatch.stop()
    return stopwatch.read(jobs)


def _aenqueue(url: str, jobs: int) -> Measured:
    async def main() -> Measured:
        app = application(url, is_async=True)
        task = app.find_task("nothing")

        async def call() -> None:
            for _ in range(jobs // CALLERS):
                await task.aenqueue(*ARGS)

        await app.producer().astore().run(op.queues())
        stopwatch = Stopwatch()
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        stopwatch.stop()
        await app.aclose()
        return stopwatch.read(jobs // CALLERS * CALLERS)

    return _await(main())


def _enqueue_many(url: str, jobs: int) -> Measured:
    app = application(url, is_async=False)
    task = app.find_task("nothing")
    app.producer().store.run(op.queues())
    stopwatch = Stopwatch()
    for start in range(0, jobs, BULK):
        app.enqueue_many(task.call(*ARGS) for _ in range(min(BULK, jobs - start)))
    stopwatch.stop()
    return stopwatch.read(jobs)


Run = Callable[[str, int], Measured]

CONSUMING: Final[dict[str, Run]] = {
    "hand loop": _hand_loop,
    "scripts, 64": _scripts_64,
    "scripts, 128": _scripts_128,
    "async tasks": _async_tasks,
    "sync tasks": _sync_tasks,
}
ENQUEUING: Final[dict[str, Run]] = {
    "LPUSH": _hand_push,
    "enqueue": _enqueue,
    "aenqueue": _aenqueue,
    "enqueue_many": _enqueue_many,
}

if __name__ == "__main__":
    name, url, jobs = sys.argv[1:]
    measured = (CONSUMING | ENQUEUING)[name](url, int(jobs))
    print(json.dumps(dataclasses.asdict(measured)))
