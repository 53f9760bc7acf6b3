"""Nothing that a task's objects do hurts the consumer: every job ends in its place, the next one runs.

``HYPOTHESIS_PROFILE=deep`` takes many more examples.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headrace import Job, Retry, wire
from headrace.ids import new_id
from headrace.task import Task
from headrace.wire import Head
from tests.integration.consumer import hostile_tasks as tasks
from tests.support.consuming import Site
from tests.support.hostile import PLAGUES, SHAPES
from tests.support.wait import await_until

ROUNDS = 40 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 1
EXAMPLES = 40  # of one round
ERRORS = ("Exception", "Exception", "Retry", "BaseException")
VALUES = ("object", "object", "str", "dict", "list", "int")
RAISING = sorted(set(PLAGUES) - {"hang"})

rounds = pytest.mark.parametrize("seed", range(ROUNDS))


def examples(seed: int, bases: tuple[str, ...], count: int = EXAMPLES) -> list[tuple[str, ...]]:
    random = Random(seed)
    shapes = [*SHAPES, "*"]
    return [
        (shapes[n % len(shapes)], random.choice(RAISING), random.choice(bases))
        for n in range(count)
    ]


async def enqueued(task: Task[..., Any], calls: list[tuple[str, ...]]) -> list[Job[Any]]:
    return await tasks.app.aenqueue_many(task.call(*call) for call in calls)


async def the_next_job_runs() -> None:
    job = await tasks.well.aenqueue(1)
    await await_until(lambda: job.status() == "done", what="the next job runs")


@rounds
@pytest.mark.parametrize("name", ["raise_sync", "raise_async", "raise_late"])
async def test_a_job_that_raises_something_hostile_ends_in_the_dead_letters(
    hostile: Site, name: str, seed: int
) -> None:
    calls = examples(seed, ERRORS)
    async with hostile.consumer(concurrency=2):
        jobs = await enqueued(tasks.app.tasks[name], calls)
        letters = await hostile.died(len(jobs))
        await the_next_job_runs()
    assert {letter["id"] for letter in letters} == {job.id for job in jobs}
    assert {(letter["error"]["type"], letter["error"]["reason"]) for letter in letters} == {
        ("Hostile", "max_attempts")
    }


@rounds
@pytest.mark.parametrize("name", ["raise_sync", "raise_async"])
async def test_it_is_retried_as_often_as_any_other(hostile: Site, name: str, seed: int) -> None:
    task = tasks.app.tasks[name]
    calls = examples(seed, ("Exception", "Retry"), 24)
    async with hostile.consumer(concurrency=2):
        await hostile.app.aenqueue_many(task.options(max_attempts=3).call(*call) for call in calls)
        letters = await hostile.died(len(calls))
        await the_next_job_runs()
    assert [letter["attempt"] for letter in letters] == [3] * len(calls)


@rounds
@pytest.mark.parametrize("name", ["return_sync", "return_async"])
async def test_a_job_that_returns_something_hostile_is_done(
    hostile: Site, name: str, seed: int
) -> None:
    async with hostile.consumer(concurrency=2):
        jobs = await enqueued(tasks.app.tasks[name], examples(seed, VALUES))
        for job in jobs:
            await await_until(lambda: job.status() == "done", what="it is done")
        await the_next_job_runs()
    assert hostile.letters() == []


@rounds
@pytest.mark.parametrize("name", ["raise_sync", "raise_async", "return_sync", "return_async"])
async def test_alone_in_a_process_of_its_own_it_ends_in_the_same_place(
    hostile: Site, name: str, seed: int
) -> None:
    bases = ERRORS if name.startswith("raise") else VALUES
    for call in examples(seed, bases, 3):
        _, body = wire.split(tasks.app.tasks[name].call(*call).job) or (None, b"")
        hostile.push(wire.join(Head(new_id(), delivery=2, crashes=2), body))
    async with hostile.consumer(concurrency=2):
        await hostile.drained()
        await the_next_job_runs()
    dead = {letter["error"]["reason"] for letter in hostile.letters()}
    assert dead == ({"max_attempts"} if name.startswith("raise") else set())
    assert hostile.counters().get("crashed", 0) == 0


@pytest.mark.parametrize("shape", ["str", "notes", "in_s"])
async def test_an_error_whose_text_hangs_is_ended_by_the_time_limit(
    hostile: Site, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.hostile.HANG_S", 2.0)  # its thread ends with the test
    async with hostile.consumer(concurrency=1):
        base = "Retry" if shape == "in_s" else "Exception"
        await tasks.raise_in_time.aenqueue(shape, "hang", base)
        [letter] = await hostile.died()
        await the_next_job_runs()
    # What does not ask for the hanging method does not wait for it.
    assert (letter["error"]["reason"] == "timeout") is (shape != "notes")


async def test_of_a_sync_task_it_holds_its_thread_until_that_is_interrupted(
    hostile: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.hostile.HANG_S", 2.0)
    async with hostile.consumer(concurrency=1):
        await tasks.raise_sync_in_time.aenqueue("str", "hang", "Exception")
        [letter] = await hostile.died()
        await the_next_job_runs()
    assert letter["error"]["type"] in {"Hostile", "TimeoutError"}


async def test_of_an_error_whose_text_hangs_without_a_time_limit_the_type_is_told(
    hostile: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.hostile.HANG_S", 2.0)
    monkeypatch.setattr("headrace.consumer.aside.ASIDE_S", 0.1)
    async with hostile.consumer(concurrency=1):
        await tasks.raise_async.aenqueue("str", "hang", "Exception")
        [letter] = await hostile.died()
        await the_next_job_runs()
    assert letter["error"]["type"] == "Hostile"
    assert letter["error"]["message"] == "its text could not be made within 0.1 s"


async def test_a_backoff_that_fails_is_replaced_by_the_usual_one(site: Site) -> None:
    from headrace import Backoff

    class Odd(Backoff):
        def delay_s(self, failures: int, uniform: Any = None) -> float:
            return float("nan") if failures == 1 else 1 / 0

    @site.app.task(backoff=Odd(), max_attempts=3)
    def fail() -> None:
        raise ValueError("x")

    async with site.consumer():
        await fail.aenqueue()
        await await_until(lambda: site.redis.zcard(site.k.delayed) == 1, what="it waits again")


async def test_a_log_handler_that_fails_keeps_no_job(site: Site) -> None:
    import logging

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit("no log")

    @site.app.task(max_attempts=1)
    def fail() -> None:
        raise Retry

    broken, log = Broken(), logging.getLogger("headrace.consumer")
    log.addHandler(broken)
    try:
        async with site.consumer():
            await fail.aenqueue()
            await site.died()
    finally:
        log.removeHandler(broken)


async def test_an_exit_in_what_a_task_has_started_does_not_end_the_consumer(hostile: Site) -> None:
    await tasks.exit_in_a_child.aenqueue()
    await tasks.well.aenqueue(1)
    name = f"{tasks.__name__}:app"
    command = [sys.executable, "-m", "headrace", "consume", name, "--url", hostile.url, "--burst"]
    root = Path(__file__).resolve().parents[3]
    consumer = await asyncio.create_subprocess_exec(*command, cwd=root)
    assert await consumer.wait() == 0
    [letter] = hostile.letters()
    assert letter["task"] == "exit_in_a_child"
    assert hostile.counters()["done"] == 1
