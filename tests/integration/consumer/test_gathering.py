"""Many jobs and many waiters: each gets its end, in the order in which they come, over few connections."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from headrace import (
    InvalidSetting,
    Job,
    JobFailed,
    NoResult,
    ResultTimeout,
    aresults_of,
    results,
    results_of,
)
from headrace import operations as op
from headrace.gathering import gathering
from headrace.operations import Outcome
from headrace.store import AsyncStore
from tests.support.consuming import Site, a_store, heard, hold_as
from tests.support.wait import WAIT_S, await_until


@pytest.fixture
def task(site: Site) -> Any:
    @site.app.task(result_ttl=60)
    async def add(a: int, b: int) -> int:
        if a < 0:
            raise ValueError(a)
        return a + b

    return add


async def enqueued(site: Site, task: Any, count: int, **options: Any) -> list[Job[int]]:
    bound = task.options(**options)
    return await site.app.aenqueue_many([bound.call(i, 0) for i in range(count)])


async def held(site: Site, task: Any, count: int) -> list[Job[int]]:
    """Enqueue jobs, and claim them as a consumer that the test itself is."""
    jobs = await enqueued(site, task, count)
    await hold_as(site, "me", count, lease_ms=600_000)
    return jobs


async def end(store: AsyncStore, site: Site, jobs: list[Job[int]], *numbers: int) -> None:
    """End jobs, by their places."""
    done = [
        Outcome(jobs[n].id, n + 1, "done", result_ttl_ms=60_000, result=results.encode_value(n))
        for n in numbers
    ]
    assert await store.run(op.settle(site.k, "me", done)) == []


@pytest.fixture
async def store(site: Site) -> Any:
    async with a_store(site.url) as store:
        yield store


async def gathered(jobs: list[Job[int]], **options: Any) -> list[int]:
    async with asyncio.timeout(WAIT_S):
        return [await job.aresult() async for job in aresults_of(jobs, **options)]


async def test_all_of_a_thousand_come_over_few_connections(site: Site, task: Any) -> None:
    jobs = await enqueued(site, task, 1_000)
    before = int(site.redis.info("stats")["total_connections_received"])
    async with site.consumer():
        assert sorted(await gathered(jobs)) == [*range(1_000)]
    after = int(site.redis.info("stats")["total_connections_received"])
    assert after - before < 20


async def test_they_come_in_the_order_in_which_they_end(
    site: Site, task: Any, store: AsyncStore
) -> None:
    jobs = await held(site, task, 5)
    order: list[int] = []

    async def gather() -> None:
        async for job in aresults_of(jobs):
            order.append(await job.aresult())  # noqa: PERF401 - it is looked at meanwhile

    def told(number: int) -> bool:
        return order[-1:] == [number]

    gathers = asyncio.create_task(gather())
    for number in (3, 0, 4, 1, 2):
        await end(store, site, jobs, number)
        await await_until(partial(told, number))
    await gathers


async def test_the_oldest_is_told_at_once_and_the_pause_ends_with_it(
    site: Site, task: Any, store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "_SHORTEST_S", 600.0)
    monkeypatch.setattr(gathering, "_LONGEST_S", 600.0)
    jobs = await held(site, task, 3)
    waiting = asyncio.create_task(gathered(jobs))
    await await_until(lambda: blocked(site) == 1)
    await end(store, site, jobs, 0, 1)
    await await_until(lambda: blocked(site) == 1, what="it waits for the last")
    await end(store, site, jobs, 2)
    assert await waiting == [0, 1, 2]


async def test_while_nothing_ends_hardly_anything_is_asked(site: Site, task: Any) -> None:
    jobs = await enqueued(site, task, 600, delay=600)
    before = calls(site, "blmove")
    with pytest.raises(ResultTimeout, match="600 jobs have not ended within 1 s"):
        await gathered(jobs, timeout=1)
    assert calls(site, "blmove") - before <= 8


async def test_what_failed_or_was_cancelled_is_given_like_any_other(site: Site, task: Any) -> None:
    calls_ = [task.call(-1, 0), task.options(delay=600).call(1, 0), task.call(2, 0)]
    site.app.tasks["add"].config = one_attempt(task.config)
    jobs = await site.app.aenqueue_many(calls_)
    assert await jobs[1].acancel()
    seen = set()
    async with site.consumer():
        async with asyncio.timeout(WAIT_S):
            async for job in aresults_of(jobs):
                seen.add(job.id)
                if job is jobs[0]:
                    with pytest.raises(JobFailed):
                        await job.aresult()
    assert seen == {job.id for job in jobs}


def one_attempt(config: Any) -> Any:
    import dataclasses

    return dataclasses.replace(config, max_attempts=1)


async def test_jobs_of_several_queues_are_gathered_together(site: Site, task: Any) -> None:
    jobs = [
        *await enqueued(site, task, 3),
        *await enqueued(site, task, 3, queue="other"),
    ]
    async with site.consumer(queues="queue,other"):
        assert sorted(await gathered(jobs)) == [0, 0, 1, 1, 2, 2]


async def test_one_that_is_lost_is_given_and_says_so(
    site: Site, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "_LOST_EVERY_S", 0.01)
    jobs = await enqueued(site, task, 2)
    site.redis.delete(site.k.pending)  # somebody purged the queue
    async with asyncio.timeout(WAIT_S):
        seen = [job async for job in aresults_of(jobs)]
    assert set(seen) == set(jobs)
    for job in seen:
        with pytest.raises(NoResult, match="nothing is left of job"):
            await job.aresult()
    site.foreign -= 2


async def test_large_results_come_a_few_at_a_time(site: Site, task: Any, store: AsyncStore) -> None:
    jobs = await held(site, task, 8)
    large = results.encode_value("x" * 400_000)
    done = [
        Outcome(job.id, n + 1, "done", result_ttl_ms=60_000, result=large)
        for n, job in enumerate(jobs)
    ]
    assert await store.run(op.settle(site.k, "me", done)) == []
    seen, _ = await store.run(gathering._ended(jobs))
    assert seen == 3
    assert len(await gathered(jobs)) == 8


async def test_the_blocking_one_gives_the_same(site: Site, task: Any) -> None:
    jobs = await enqueued(site, task, 20)

    def gather() -> list[int]:
        return [job.result() for job in results_of(jobs, timeout=WAIT_S)]

    async with site.consumer():
        assert sorted(await asyncio.to_thread(gather)) == [*range(20)]
    assert list(results_of([])) == []


async def test_what_cannot_be_waited_for_is_refused_at_once(site: Site) -> None:
    @site.app.task
    async def none() -> None: ...

    with pytest.raises(NoResult, match="result_ttl"):
        results_of([await none.aenqueue()])
    other = site.another_app()
    other.use("redis://127.0.0.1:1")
    with pytest.raises(InvalidSetting, match="several Redis servers"):
        results_of([site.app.job("a"), other.job("b")])


async def test_a_hundred_waiters_of_one_job_all_get_it_whenever_they_come(
    site: Site, task: Any, store: AsyncStore
) -> None:
    (job,) = await held(site, task, 1)
    early = [asyncio.create_task(heard(site.app.job(job.id))) for _ in range(100)]
    await await_until(lambda: blocked(site) == 16)  # the others look, for these block all that may
    await end(store, site, [job], 0)
    assert await asyncio.gather(*early) == [0] * 100
    late = [heard(site.app.job(job.id)) for _ in range(100)]
    assert await asyncio.gather(*late) == [0] * 100
    assert site.redis.llen(site.k.result(job.id)) == 1


async def test_a_waiter_whose_connection_is_killed_leaves_the_result_to_others(
    site: Site, task: Any, store: AsyncStore
) -> None:
    (job,) = await held(site, task, 1)
    waiters = [asyncio.create_task(site.app.job(job.id).aresult(WAIT_S)) for _ in range(5)]
    await await_until(lambda: blocked(site) == 5)
    for client in site.redis.client_list():
        if client["cmd"] == "blmove":
            site.redis.client_kill_filter(_id=client["id"])
    await asyncio.wait(waiters, timeout=WAIT_S)
    await end(store, site, [job], 0)
    assert await job.aresult(WAIT_S) == 0
    assert await site.app.job(job.id).aresult(WAIT_S) == 0
    for waiter in waiters:  # each has heard that its answer was lost
        assert waiter.exception() is not None


def blocked(site: Site) -> int:
    return sum(client["cmd"] == "blmove" for client in site.redis.client_list())


def calls(site: Site, command: str) -> int:
    stats: dict[str, Any] = site.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))
