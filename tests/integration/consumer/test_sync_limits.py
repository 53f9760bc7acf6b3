"""A sync job that is told to end, and goes on, is interrupted, and at last its thread is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from headrace import Backoff, Context, JobInterrupted
from headrace.consumer import executor
from tests.support.consuming import Running, Site
from tests.support.traced import leaves_a_thread_in_c_code
from tests.support.wait import WAIT_S, await_until, wait_until

AT_ONCE = Backoff(base_s=0)


async def runs_out_of_time(running: Running, begun: list[Any], count: int) -> None:
    """Wait until so many runs have begun, and let the time of all that run be over."""
    await await_until(lambda: len(begun) == count, what="it has begun")
    for claimed in running.consumer._slots.running:
        claimed.deadline = 0.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "INTERRUPT_AFTER_S", 0.05)  # 1 s
    monkeypatch.setattr(executor, "GIVE_UP_AFTER_S", 600)  # 5 s; where nothing is to be given up


@pytest.fixture
def gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "GIVE_UP_AFTER_S", 0.1)


@pytest.fixture
def c_call() -> Iterator[Callable[[], object]]:
    """Give a call of C code that no exception ends; it returns when the test is over."""
    gate: SimpleQueue[None] = SimpleQueue()
    yield gate.get
    for _ in range(10):
        gate.put(None)
    lost = [one for one in threading.enumerate() if one.name.startswith("headrace-task")]
    wait_until(lambda: not any(one.is_alive() for one in lost), what="the lost threads end")


async def test_a_loop_in_python_ends_when_its_time_is_over(site: Site) -> None:
    begun: list[int] = []
    ends: list[str | None] = []

    @site.app.task(name="loop", timeout=600, max_attempts=2, backoff=AT_ONCE)
    def loop(ctx: Context) -> None:
        try:
            begun.append(ctx.attempt)
            while True:
                pass
        finally:
            ends.append(ctx.stop_reason)

    async with site.consumer(concurrency=1) as running:
        await site.app.aenqueue("loop")
        await runs_out_of_time(running, begun, 1)
        await runs_out_of_time(running, begun, 2)
        [letter] = await site.died()
    assert ends == ["timeout", "timeout"]
    assert (letter["attempt"], letter["error"]["reason"]) == (2, "timeout")
    assert "in loop" in letter["error"]["traceback"]


async def test_what_takes_every_exception_for_its_own_does_not_take_this_one(site: Site) -> None:
    begun: list[int] = []

    @site.app.task(timeout=600, max_attempts=1)
    def loop() -> None:
        begun.append(1)
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue

    async with site.consumer(concurrency=1) as running:
        await loop.aenqueue()
        await runs_out_of_time(running, begun, 1)
        [letter] = await site.died()
    assert letter["error"]["reason"] == "timeout"


async def test_a_task_that_looks_at_its_context_is_given_time_to_end_in_its_own_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "INTERRUPT_AFTER_S", 600)

    begun: list[int] = []

    @site.app.task(name="loop", timeout=600, result_ttl=600)
    def loop(ctx: Context) -> str:
        begun.append(1)
        wait_until(lambda: ctx.stopping)
        return "in its own way"

    async with site.consumer() as running:
        job = await site.app.aenqueue("loop")
        await runs_out_of_time(running, begun, 1)
        assert await job.aresult(WAIT_S) == "in its own way"


async def test_a_cancelled_one_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    @site.app.task(result_ttl=600)
    def loop() -> None:
        begun.set()
        while True:
            pass

    async with site.consumer(concurrency=1) as running:
        job = await loop.aenqueue()
        await await_until(begun.is_set)
        await job.acancel()
        [claimed] = running.consumer._slots.running
        running.consumer._jobs.stop(claimed, "cancelled")  # as the lease keeper does
        await site.drained()
        assert await job.astatus() == "cancelled"
    assert site.counters() == {"enqueued": 1, "cancel": 1}


async def test_one_that_lost_its_lease_is_interrupted_and_nothing_comes_of_it(site: Site) -> None:
    begun, ends = threading.Event(), list[BaseException]()

    @site.app.task
    def loop() -> None:
        begun.set()
        try:
            while True:
                pass
        except BaseException as error:
            ends.append(error)
            raise

    async with site.consumer(concurrency=1) as running:
        await loop.aenqueue()
        await await_until(begun.is_set)
        [claimed] = running.consumer._slots.running
        assert (
            site.redis.lrem(site.k.processing, 1, claimed.job.decode()) == 1
        )  # a plain client has done it
        site.foreign -= 1
        running.consumer._jobs.lose(claimed)
        await await_until(lambda: ends and not running.consumer._slots.running)
        site.redis.delete(site.k.leases, site.k.claims)
    assert isinstance(ends[0], JobInterrupted)
    assert site.counters() == {"enqueued": 1}


@leaves_a_thread_in_c_code
@pytest.mark.usefixtures("gives_up")
async def test_one_in_a_call_of_c_code_ends_as_timed_out_and_frees_its_slot(
    site: Site, c_call: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []
    contexts: list[Context] = []

    @site.app.task(name="hang", timeout=600, max_attempts=1, result_ttl=600)
    def hang(ctx: Context) -> str:
        contexts.append(ctx)
        c_call()
        return "too late"

    @site.app.task
    def quick(n: int) -> None:
        ran.append(n)

    async with site.consumer(concurrency=2, check=False) as running:
        for _ in range(2):
            await site.app.aenqueue("hang")
        await runs_out_of_time(running, contexts, 2)
        letters = await site.died(2)
        await site.app.aenqueue_many(quick.call(n) for n in range(20))
        await site.drained()
        assert running.consumer.lost_threads == 2
    assert sorted(ran) == list(range(20))
    for letter in letters:
        assert (letter["attempt"], letter["error"]["reason"]) == (1, "timeout")
        assert "in hang\n" in letter["error"]["traceback"]  # where it hangs
    assert {ctx.stop_reason for ctx in contexts} == {"timeout"}
    assert "its thread is given up" in caplog.text
    site.check()


@leaves_a_thread_in_c_code
@pytest.mark.usefixtures("gives_up")
async def test_it_is_tried_again_as_its_task_says_and_its_late_end_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, late = threading.Lock(), threading.Event()
    gate.acquire()

    begun: list[int] = []

    @site.app.task(name="hang", timeout=600, max_attempts=2, backoff=AT_ONCE, result_ttl=600)
    def hang_once(ctx: Context) -> str:
        begun.append(ctx.attempt)
        if ctx.attempt == 1:
            try:
                gate.acquire()
            finally:
                late.set()
            return "the first"
        return "the second"

    async with site.consumer(concurrency=1) as running:
        job = await site.app.aenqueue("hang")
        await runs_out_of_time(running, begun, 1)
        assert await job.aresult(WAIT_S) == "the second"
        gate.release()
        await await_until(late.is_set)
        await await_until(lambda: running.consumer.lost_threads == 0)
        assert await job.aresult(WAIT_S) == "the second"
    assert (site.counters()["retry"], site.counters()["done"]) == (1, 1)


@leaves_a_thread_in_c_code
@pytest.mark.usefixtures("gives_up")
async def test_a_consumer_ends_although_threads_that_were_given_up_do_not(
    site: Site, c_call: Callable[[], Any]
) -> None:
    begun: list[int] = []

    @site.app.task(timeout=600, max_attempts=1)
    def hang() -> None:
        begun.append(1)
        c_call()

    async with site.consumer(concurrency=1, check=False) as running:
        await hang.aenqueue()
        await runs_out_of_time(running, begun, 1)
        await site.died()
        running.stop()
        await running.ended()
        assert running.consumer.lost_threads == 1
    site.check()
