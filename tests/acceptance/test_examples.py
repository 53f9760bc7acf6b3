"""The consumers in other languages under ``examples/``, beside a real server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace, Job, JobFailed
from headrace.keys import keys_of
from tests.support import invariants
from tests.support.consuming import QUICK
from tests.support.processes import Process, clean_environment, processes
from tests.support.serving import served
from tests.support.wait import WAIT_S, await_until

COMMANDS = {
    "shell": ("sh", "examples/consumer.sh"),
    "node": ("node", "examples/consumer.mjs"),
}
LANGUAGES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            not all(map(shutil.which, needed)), reason=f"needs {' and '.join(needed)}"
        ),
    )
    for name, needed in (("shell", ("sh", "curl", "sed")), ("node", ("node",)))
]
NODE = LANGUAGES[1:]
K = keys_of("queue")


@pytest.fixture
async def served_at(url: str) -> AsyncIterator[str]:
    """Serve; give the address."""
    async with served(url, policy=QUICK) as (_, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def app(url: str, redis: Redis) -> AsyncIterator[Headrace]:
    """Give the application of those who enqueue; afterwards the sum holds."""
    app = Headrace(url)
    yield app
    await app.aclose()
    invariants.check(redis)


async def enqueued(app: Headrace, task: str, *args: object) -> Job[Any]:
    """Enqueue a job whose result is kept: what its consumer does not know of it, it says itself."""
    call = app.call_with(task, args, {}, {"result_ttl": 600, "max_attempts": 1})
    return (await app.aenqueue_many([call]))[0]


@pytest.fixture
def consumer(served_at: str, tmp_path: Path, language: str) -> Iterator[Process]:
    """Run the example."""
    with processes(tmp_path) as start:
        yield start(*COMMANDS[language], env=clean_environment(HEADRACE_SERVER=served_at))


@pytest.mark.parametrize("language", LANGUAGES)
async def test_it_runs_jobs_and_ends_when_it_is_told(
    app: Headrace, consumer: Process, redis: Redis
) -> None:
    jobs = [await enqueued(app, "echo", f"number {n}") for n in range(5)]
    for job in jobs:
        await job.aresult(WAIT_S)
    await await_until(lambda: "number 4" in consumer.output, what="it has printed all")
    assert await asyncio.to_thread(consumer.end) == 0
    assert redis.hget(K.stats, "done") == b"5"


@pytest.mark.parametrize("language", NODE)
async def test_it_tells_results_and_failures(app: Headrace, consumer: Process) -> None:
    sums = [await enqueued(app, "add", n, 1) for n in range(100)]
    failed = await enqueued(app, "fail", "no such user")
    assert [await one.aresult(WAIT_S) for one in sums] == [n + 1 for n in range(100)]
    with pytest.raises(JobFailed, match="Error: no such user") as failure:
        await failed.aresult(WAIT_S)
    assert "consumer.mjs" in failure.value.traceback
    assert await asyncio.to_thread(consumer.end) == 0


@pytest.mark.parametrize("language", NODE)
async def test_a_job_whose_consumer_was_killed_is_given_to_another(
    app: Headrace, consumer: Process, redis: Redis
) -> None:
    job = await enqueued(app, "sleep", 600)
    await await_until(lambda: redis.hexists(K.claims, job.id), what="it runs")
    consumer.kill()
    redis.zadd(K.leases, {job.id: 1}, xx=True)  # as time does
    await await_until(lambda: redis.llen(K.pending) == 1, what="it waits again")
    (again,) = redis.lrange(K.pending, 0, -1)
    assert b'"crashes":1' in again
    assert await job.acancel()
