"""What a generator yields comes in order, once, while it runs and after the fact; a new run is told as one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any

import pytest

from headrace import (
    CURRENT,
    RESTARTED,
    Backoff,
    Context,
    Headrace,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    NoResult,
)
from headrace import operations as op
from headrace.ids import new_id
from headrace.operations import Outcome
from headrace.reports import outgoing
from headrace.reports.keys import stream_of
from headrace.scripts import script
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Site, a_store, hold_as
from tests.support.proxy import Proxy
from tests.support.tasks import BOTH, Crowd
from tests.support.wait import WAIT_S, await_until

TIMES = Backoff(base_s=0)


def counting(app: Headrace, kind: str, count: int = 3, **options: Any) -> Any:
    """Make a task that yields 0, 1, 2, …"""

    def count_sync() -> Iterator[int]:
        yield from range(count)

    async def count_async() -> AsyncIterator[int]:
        for number in range(count):
            yield number

    function: Any = count_sync if kind == "sync" else count_async
    return app.task(name="count", **{"result_ttl": 60, **options})(function)


async def read(job: Any) -> list[Any]:
    return await asyncio.wait_for(_all(job), WAIT_S)


async def _all(job: Any) -> list[Any]:
    return [item async for item in job.stream()]


@BOTH
async def test_the_items_come_in_order_and_stay_for_others(site: Site, kind: str) -> None:
    task = counting(site.app, kind, 2_500)
    async with site.consumer():
        job = await task.aenqueue()
        readers = [read(job), read(job), read(site.app.job(job.id))]
        assert await asyncio.gather(*readers) == [[*range(2_500)]] * 3
        assert await read(site.app.job(job.id)) == [*range(2_500)]  # after the fact
        assert await asyncio.to_thread(lambda: [*job.stream()]) == [*range(2_500)]
        assert await job.aresult(timeout=WAIT_S) is None
        await site.drained()
    assert 0 < site.redis.pttl(stream_of(site.k, job.id)) <= 120_000


@BOTH
async def test_an_item_is_there_before_the_next_is_made(site: Site, kind: str) -> None:
    crowd = Crowd()

    def two() -> Iterator[str]:
        yield "first"
        crowd.visit()
        yield "second"

    async def atwo() -> AsyncIterator[str]:
        yield "first"
        await crowd.avisit()
        yield "second"

    function: Any = two if kind == "sync" else atwo
    task = site.app.task(name="two", result_ttl=60)(function)
    async with site.consumer():
        job = await task.aenqueue()
        items = aiter(job.stream())
        assert await asyncio.wait_for(anext(items), WAIT_S) == "first"
        assert await job.astatus() == "processing"
        crowd.open.set()
        assert await asyncio.wait_for(anext(items), WAIT_S) == "second"


async def test_what_a_generator_returns_is_its_result(site: Site) -> None:
    @site.app.task(result_ttl=60)
    def parts(number: int) -> Any:
        yield from range(number)
        return {"parts": number}

    assert [*parts(2)] == [0, 1]  # called, it is the function
    async with site.consumer():
        job = await parts.aenqueue(2)
        assert await read(job) == [0, 1]
        assert await job.aresult(timeout=WAIT_S) == {"parts": 2}


@BOTH
async def test_items_are_what_the_annotation_says(site: Site, kind: str) -> None:
    def days(first: date) -> Iterator[date]:
        yield first
        yield first.replace(day=2)

    async def adays(first: date) -> AsyncIterator[date]:
        yield first
        yield first.replace(day=2)

    function: Any = days if kind == "sync" else adays
    task: Any = site.app.task(name="days", result_ttl=60)(function)
    async with site.consumer():
        job = await task.aenqueue(date(2026, 1, 1))
        assert await read(job) == [date(2026, 1, 1), date(2026, 1, 2)]
        assert await read(site.app.job(job.id)) == ["2026-01-01", "2026-01-02"]


async def test_none_at_all_are_an_empty_stream(site: Site) -> None:
    task = counting(site.app, "async", 0)
    async with site.consumer():
        assert await read(await task.aenqueue()) == []


@pytest.mark.parametrize(
    "item",
    [{1, 2}, object(), float("nan"), "x" * (1 << 20)],
    ids=["a set", "an object", "nan", "too large"],
)
async def test_an_item_that_json_would_change_fails_the_job(site: Site, item: Any) -> None:
    @site.app.task(result_ttl=60, max_attempts=1)
    async def strange() -> AsyncIterator[Any]:
        yield 1
        yield item

    async with site.consumer():
        job = await strange.aenqueue()
        items = aiter(job.stream())
        assert await asyncio.wait_for(anext(items), WAIT_S) == 1
        with pytest.raises(JobFailed, match="InvalidJob: an item of 'strange': "):
            await asyncio.wait_for(anext(items), WAIT_S)


@BOTH
async def test_a_new_attempt_is_told_and_begins_anew(site: Site, kind: str) -> None:
    read_both = threading.Event()

    def again(ctx: Context = CURRENT) -> Iterator[str]:
        yield f"a{ctx.attempt}"
        yield f"b{ctx.attempt}"
        if ctx.attempt == 1:
            assert read_both.wait(WAIT_S)
            raise ValueError("once")

    async def aagain(ctx: Context = CURRENT) -> AsyncIterator[str]:
        yield f"a{ctx.attempt}"
        yield f"b{ctx.attempt}"
        if ctx.attempt == 1:
            await await_until(read_both.is_set)
            raise ValueError("once")

    function: Any = again if kind == "sync" else aagain
    task = site.app.task(name="again", result_ttl=60, backoff=TIMES)(function)
    async with site.consumer():
        job = await task.aenqueue()
        seen: list[Any] = []
        async with asyncio.timeout(WAIT_S):
            async for item in job.stream():
                seen.append(item)
                if item == "b1":
                    read_both.set()
        assert seen == ["a1", "b1", RESTARTED, "a2", "b2"]
        assert await read(job) == ["a2", "b2"]  # who comes later sees the last run alone


async def test_a_failure_comes_after_the_last_item(site: Site) -> None:
    @site.app.task(result_ttl=60, max_attempts=1)
    async def fails() -> AsyncIterator[int]:
        yield 1
        raise KeyError("k")

    async with site.consumer():
        job = await fails.aenqueue()
        for _ in range(2):
            items = aiter(job.stream())
            assert await asyncio.wait_for(anext(items), WAIT_S) == 1
            with pytest.raises(JobFailed) as failed:
                await asyncio.wait_for(anext(items), WAIT_S)
            assert type(failed.value.__cause__) is KeyError


async def test_a_cancelled_one_ends_its_readers(site: Site) -> None:
    crowd = Crowd()

    @site.app.task(result_ttl=60)
    async def long() -> AsyncIterator[int]:
        yield 1
        await crowd.avisit()

    async with site.consumer(lease=QUICK):
        job = await long.aenqueue()
        items = aiter(job.stream())
        assert await asyncio.wait_for(anext(items), WAIT_S) == 1
        assert await job.acancel()
        with pytest.raises(JobCancelled):
            await asyncio.wait_for(anext(items), WAIT_S)
    waiting = await long.options(delay=600).aenqueue()
    assert await waiting.acancel()
    with pytest.raises(JobCancelled):
        await read(waiting)


async def test_a_job_without_items_says_so(site: Site) -> None:
    @site.app.task(result_ttl=60)
    async def plain() -> int:
        return 1

    @site.app.task
    async def none() -> int:
        return 1

    async with site.consumer():
        with pytest.raises(NoResult, match="no items of it are kept"):
            await read(await plain.aenqueue())
        with pytest.raises(NoResult, match="result_ttl"):
            await read(await none.aenqueue())
        await site.drained()
    with pytest.raises(NoResult, match="nothing is known"):
        await read(site.app.job("no-id-of-ours"))


async def test_wrong_arguments_are_no_attempt(site: Site) -> None:
    task = counting(site.app, "async")
    with pytest.raises(InvalidArguments):
        task.enqueue(1)
    site.push({"task": "count", "args": [1]})
    async with site.consumer():
        [letter] = await site.died()
    assert letter["error"]["reason"] == "invalid_arguments"


async def test_who_wants_no_result_keeps_no_items(site: Site) -> None:
    task = counting(site.app, "async")
    site.push({"task": "count", "result_ttl": 0})
    async with site.consumer():
        await task.aenqueue()
        await site.drained()
    assert len(site.redis.keys("queue:stream:*")) == 1
    assert site.counters()["done"] == 2


async def test_a_slow_redis_holds_the_generator_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is at most a hundred items ahead of what Redis has."""
    made = 0
    hold = threading.Event()
    take = outgoing.Outgoing.take

    def slow(self: outgoing.Outgoing, answer: Any) -> None:
        assert hold.wait(WAIT_S)
        take(self, answer)

    monkeypatch.setattr(outgoing.Outgoing, "take", slow)

    @site.app.task(result_ttl=60)
    async def fast() -> AsyncIterator[int]:
        nonlocal made
        for number in range(1_000):
            made += 1
            yield number
            await asyncio.sleep(0)

    async with site.consumer():
        job = await fast.aenqueue()
        await await_until(lambda: made >= 100)
        await asyncio.sleep(0.1)
        assert made <= 101
        hold.set()
        assert await read(job) == [*range(1_000)]


async def test_only_so_many_are_kept_and_a_reader_hears_of_those_that_are_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "KEPT_ITEMS", 100)
    task = counting(site.app, "sync", 3_000)
    async with site.consumer():
        job = await task.aenqueue()
        await job.aresult(timeout=WAIT_S)
        with pytest.raises(NoResult, match=r"items 1 to 2,\d\d\d of job .* are not kept any more"):
            await read(job)
    assert site.redis.xlen(stream_of(site.k, job.id)) <= 100 + 501


@pytest.mark.parametrize("fault", ["cut", "swallow", "break"])
@BOTH
async def test_an_item_whose_way_is_cut_comes_once(
    site: Site, proxy: Proxy, app: Headrace, kind: str, fault: Any
) -> None:
    """A crash of the connection before the script, after it, and in its answer."""
    task = counting(site.app, kind, 200)
    append = script("reports/append")
    site.redis.script_load(append.source)
    async with site.consumer(app, lease=QUICK):
        proxy.fail_next(fault, append.sha.encode())
        job = await task.aenqueue()
        assert await read(job) == [*range(200)]
        assert proxy.failures == 1


@BOTH
async def test_a_run_that_was_lost_adds_nothing(site: Site, store: AsyncStore, kind: str) -> None:
    """Its job was given away behind its back; the next run's items are not mixed with what it goes on to yield."""
    crowd = Crowd()
    runs: list[int] = []

    def slow(ctx: Context = CURRENT) -> Iterator[str]:
        runs.append(ctx.delivery)
        yield f"first of {ctx.delivery}"
        if ctx.delivery == 0:
            crowd.visit()
        yield f"second of {ctx.delivery}"

    async def aslow(ctx: Context = CURRENT) -> AsyncIterator[str]:
        runs.append(ctx.delivery)
        yield f"first of {ctx.delivery}"
        if ctx.delivery == 0:
            await crowd.avisit()
        yield f"second of {ctx.delivery}"

    function: Any = slow if kind == "sync" else aslow
    task = site.app.task(name="slow", result_ttl=60)(function)
    async with site.consumer(concurrency=1) as running:
        job = await task.aenqueue()
        items = aiter(job.stream())
        assert await asyncio.wait_for(anext(items), WAIT_S) == "first of 0"
        number = int(site.state().claims[job.id][0].rpartition(":")[2])
        release = Outcome(job.id, number, "release")
        async with site.consumer():
            assert await store.run(op.settle(site.k, running.name, [release])) == []
            await await_until(lambda: len(runs) == 2, what="the second run")
            assert await asyncio.wait_for(anext(items), WAIT_S) is RESTARTED
            crowd.open.set()
            rest = [item async for item in items]
            assert rest == ["first of 1", "second of 1"]
            assert await read(job) == rest
        await await_until(lambda: crowd.inside == 0)


# — the script —


@pytest.fixture
async def store(site: Site) -> AsyncIterator[AsyncStore]:
    async with a_store(site.url) as store:
        yield store


def append(site: Site, job_id: str, token: str, run: int, first: int, *items: bytes) -> Any:
    args: list[str | bytes | int] = [job_id, token, run, first, 1, 60_000]
    for item in items:
        args += (b"i", item)
    used = (site.k.claims, stream_of(site.k, job_id))
    return op.run("reports/append", used, args, op.text)


def entries(site: Site, job_id: str) -> list[tuple[bytes, bytes]]:
    found: list[Any] = site.redis.xrange(stream_of(site.k, job_id))
    return [(entry_id, fields[b"i"]) for entry_id, fields in found]


async def test_sent_again_it_adds_nothing(site: Site, store: AsyncStore) -> None:
    job_id = (await site.app.aenqueue("far")).id
    await hold_as(site, "a", 1, lease_ms=60_000)
    for _ in range(2):
        assert await store.run(append(site, job_id, "a:1", 3, 1, b"x", b"y")) == "ok"
    assert await store.run(append(site, job_id, "a:1", 3, 2, b"y", b"z")) == "ok"  # half of it
    assert entries(site, job_id) == [(b"3-1", b"x"), (b"3-2", b"y"), (b"3-3", b"z")]
    assert 0 < site.redis.pttl(stream_of(site.k, job_id)) <= 60_000


async def test_only_the_current_claim_adds(site: Site, store: AsyncStore) -> None:
    job_id = (await site.app.aenqueue("far")).id
    await hold_as(site, "a", 1, lease_ms=60_000)
    assert await store.run(append(site, job_id, "a:1", 0, 1, b"x")) == "ok"
    for token in ("a:2", "b:1", "", "a:1 "):
        assert await store.run(append(site, job_id, token, 0, 2, b"y")) == "lost"
    release = Outcome(job_id, 1, "release")
    assert await store.run(op.settle(site.k, "a", [release])) == []
    assert await store.run(append(site, job_id, "a:1", 0, 2, b"y")) == "lost"
    await hold_as(site, "b", 1, lease_ms=60_000)
    assert await store.run(append(site, job_id, "b:1", 1, 1, b"z")) == "ok"
    assert entries(site, job_id) == [(b"1-1", b"z")]
    assert await store.run(append(site, new_id(), "b:1", 1, 1, b"z")) == "lost"


async def test_after_a_rollback_of_redis_a_run_begins_anew(site: Site, store: AsyncStore) -> None:
    """A failover brought back a claim that is older than the items are."""
    job_id = (await site.app.aenqueue("far")).id
    site.redis.xadd(stream_of(site.k, job_id), {b"i": b"newer"}, id=b"7-9")
    await hold_as(site, "a", 1, lease_ms=60_000)
    assert await store.run(append(site, job_id, "a:1", 2, 1, b"x")) == "ok"
    assert entries(site, job_id) == [(b"2-1", b"x")]
