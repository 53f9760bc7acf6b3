"""Batches: jobs that are run many in one call, each with an outcome of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Backoff,
    Batch,
    Context,
    Event,
    Headrace,
    InvalidArguments,
    InvalidSetting,
    JobFailed,
    Reject,
    Tasks,
    wire,
)
from tests.integration.consumer import batch_tasks
from tests.support.consuming import QUICK, Site, lent
from tests.support.journal import lines_of
from tests.support.processes import clean_environment, processes
from tests.support.wait import WAIT_S, await_until, wait_until

NEVER_S = 600.0

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _seen_anew() -> None:
    SEEN.clear()


async def note(batch: Batch[int]) -> None:
    SEEN.append(sorted(batch.values))


def note_in_a_thread(batch: Batch[int]) -> None:
    assert threading.current_thread() is not threading.main_thread()
    SEEN.append(sorted(batch.values))


@dataclass
class Order:
    id: int
    due: date


async def days(batch: Batch[Order]) -> list[date]:
    return [order.due for order in batch.values]


async def burst(site: Site, **options: Any) -> None:
    async with site.consumer(burst=True, **options) as running:
        await running.ended()


async def enqueue(site: Site, task: Any, numbers: Any) -> list[Any]:
    return await site.app.aenqueue_many([task.call(number) for number in numbers])


KINDS = pytest.mark.parametrize("function", [note, note_in_a_thread])


class TestGathering:
    @KINDS
    async def test_so_many_run_in_one_call_although_there_are_fewer_slots(
        self, site: Site, function: Any
    ) -> None:
        task = site.app.batch_task(size=25, within=NEVER_S)(function)
        await enqueue(site, task, range(100))
        await burst(site, concurrency=2)
        assert [len(batch) for batch in SEEN] == [25] * 4
        assert sorted(sum(SEEN, [])) == [*range(100)]
        assert site.counters()["done"] == 100

    @KINDS
    async def test_fewer_run_when_the_first_has_waited_long_enough(
        self, site: Site, function: Any
    ) -> None:
        task = site.app.batch_task(size=25, within=0.05)(function)
        async with site.consumer(concurrency=2):
            await enqueue(site, task, range(3))
            await site.drained()
        assert sorted(sum(SEEN, [])) == [0, 1, 2]

    async def test_those_that_wait_take_no_slot_and_their_call_takes_one(self, site: Site) -> None:
        gate = asyncio.Event()

        @site.app.task(name="other")
        async def other() -> None:
            SEEN.append("other")

        async def wait(batch: Any) -> None:
            SEEN.append(len(batch))
            await gate.wait()

        wait.__annotations__["batch"] = Batch[int]
        task = site.app.batch_task(size=2, within=NEVER_S)(wait)
        async with site.consumer(concurrency=1) as running:
            await task.aenqueue(1)
            await await_until(lambda: running.consumer._slots.lent == 1, what="it waits")
            await other.aenqueue()
            await await_until(lambda: "other" in SEEN, what="another one runs beside it")
            await task.aenqueue(2)
            await await_until(lambda: 2 in SEEN, what="they are called")
            assert running.consumer._slots.free == 0
            gate.set()
            await site.drained()
            await await_until(lambda: running.consumer._slots.free == 1, what="the slot is free")
            assert running.consumer._slots.lent == 0

    async def test_no_more_are_run_than_a_consumer_may_run(self, site: Site) -> None:
        task = site.app.batch_task(size=10, within=0.05)(note)
        await enqueue(site, task, range(20))
        async with site.consumer(max_jobs=7) as running:
            await running.ended()
        assert sorted(sum(SEEN, [])) == [*range(7)]
        assert site.redis.llen(site.k.pending) == 13

    async def test_a_consumer_that_is_stopped_gives_back_those_that_wait(self, site: Site) -> None:
        task = site.app.batch_task(size=10, within=NEVER_S)(note)
        await enqueue(site, task, range(3))
        async with site.consumer(grace_s=0.1) as running:
            await await_until(lambda: running.consumer._slots.lent == 3, what="they wait")
        assert SEEN == []
        assert site.redis.llen(site.k.pending) == 3
        assert not any(b'"attempt"' in job for job in site.redis.lrange(site.k.pending, 0, -1))


class TestOutcomes:
    @KINDS
    async def test_each_has_its_own(self, site: Site, function: Any) -> None:
        def decide(batch: Batch[int]) -> list[int]:
            function(batch) if function is note_in_a_thread else None
            first, second, third, *_ = sorted(batch, key=lambda item: item.value)
            first.fail(Reject("never"))
            second.fail(ValueError("not now"))
            if third.ctx.attempt == 1:
                third.retry(in_=0)
            return [10 * number for number in batch.values]

        async def decide_async(batch: Batch[int]) -> list[int]:
            return decide(batch)

        chosen: Any = decide if function is note_in_a_thread else decide_async
        options: dict[str, Any] = {
            "max_attempts": 2,
            "backoff": Backoff(base_s=NEVER_S, jitter=False),
        }
        task = site.app.batch_task(size=5, within=0.05, result_ttl=60, **options)(chosen)
        jobs = await enqueue(site, task, range(5))
        async with site.consumer():
            with pytest.raises(JobFailed, match="never"):
                await jobs[0].aresult(timeout=WAIT_S)
            assert await jobs[4].aresult(timeout=WAIT_S) == 40
            await await_until(lambda: site.redis.zcard(site.k.delayed) >= 1, what="one is retried")
        assert await jobs[1].astatus() == "delayed"

    async def test_what_it_raises_fails_those_that_are_not_decided(self, site: Site) -> None:
        async def fail(batch: Any) -> None:
            batch[0].succeed()
            batch[1].fail(KeyError("own"))
            raise OSError("all the others")

        fail.__annotations__["batch"] = Batch[int]
        task = site.app.batch_task(size=4, within=NEVER_S, max_attempts=1)(fail)
        await enqueue(site, task, range(4))
        await burst(site)
        assert site.counters()["done"] == 1
        said = sorted(letter["error"]["type"] for letter in site.letters())
        assert said == ["KeyError", "OSError", "OSError"]

    @pytest.mark.parametrize("returned", [[1], 7, (1, 2, 3)])
    async def test_results_that_are_not_as_many_are_refused(
        self, site: Site, returned: object
    ) -> None:
        async def wrong(batch: Any) -> object:
            return returned

        wrong.__annotations__["batch"] = Batch[int]
        task = site.app.batch_task(size=2, within=NEVER_S, max_attempts=1)(wrong)
        await enqueue(site, task, range(2))
        await burst(site)
        said = {letter["error"]["message"] for letter in site.letters()}
        assert len(said) == 1
        assert "a batch of 2 returned" in said.pop()

    async def test_one_is_settled_while_the_call_goes_on(self, site: Site) -> None:
        gate = threading.Event()

        def slow(batch: Any) -> None:
            batch[0].succeed("early")
            assert gate.wait(WAIT_S)

        slow.__annotations__["batch"] = Batch[int]
        task = site.app.batch_task(size=2, within=NEVER_S, result_ttl=60)(slow)
        jobs = await enqueue(site, task, range(2))
        async with site.consumer():
            await await_until(lambda: site.counters().get("done") == 1, what="one is done")
            gate.set()
            await site.drained()
        assert sorted([await job.aresult() or "" for job in jobs]) == ["", "early"]

    async def test_arguments_and_results_are_as_annotated(self, site: Site) -> None:
        task = site.app.batch_task(size=2, within=NEVER_S, result_ttl=60)(days)
        jobs = await site.app.aenqueue_many([task.call(Order(n, date(2026, 1, n))) for n in (1, 2)])
        await burst(site)
        assert [await job.aresult() for job in jobs] == [date(2026, 1, 1), date(2026, 1, 2)]
        with pytest.raises(InvalidArguments, match="argument 'value' of 'days'"):
            task.call(3)  # type: ignore[arg-type]


class TestTheirEnds:
    @pytest.mark.parametrize("kind", ["async", "sync"])
    async def test_one_that_is_told_to_end_leaves_the_others_alone(
        self, site: Site, kind: str
    ) -> None:
        gate = threading.Event()

        def work(batch: Any) -> None:
            SEEN.append(len(batch))
            assert gate.wait(WAIT_S)

        async def work_async(batch: Any) -> None:
            SEEN.append(len(batch))
            await asyncio.to_thread(gate.wait, WAIT_S)

        function: Any = work_async if kind == "async" else work
        function.__annotations__["batch"] = Batch[int]
        task = site.app.batch_task(size=3, within=NEVER_S, timeout=NEVER_S, max_attempts=1)(
            function
        )
        await enqueue(site, task, range(3))
        async with site.consumer() as running:
            await await_until(lambda: SEEN, what="they are called")
            late = next(iter(running.consumer._slots.running))
            late.deadline = 0.0
            (letter,) = await site.died()
            gate.set()
            await site.drained()
        assert letter["error"]["reason"] == "timeout"
        assert site.counters()["done"] == 2

    async def test_when_all_are_told_to_end_the_call_is_cancelled(self, site: Site) -> None:
        async def forever(batch: Any) -> None:
            SEEN.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                SEEN.append("over")

        forever.__annotations__["batch"] = Batch[int]
        task = site.app.batch_task(size=3, within=NEVER_S)(forever)
        await enqueue(site, task, range(3))
        async with site.consumer(grace_s=0.1):
            await await_until(lambda: SEEN, what="they are called")
        assert SEEN == ["begun", "over"]
        assert site.redis.llen(site.k.pending) == 3

    async def test_hooks_and_events_are_of_each_job(self, site: Site) -> None:
        @site.app.around_run
        def around(ctx: Context) -> Iterator[None]:
            SEEN.append("in")
            yield
            SEEN.append("out")

        @site.app.on("succeeded")
        def told(event: Event) -> None:
            SEEN.append(event.name)

        task = site.app.batch_task(size=2, within=NEVER_S)(note)
        await enqueue(site, task, range(2))
        await burst(site)
        assert SEEN == ["in", "in", [0, 1], "out", "out", "succeeded", "succeeded"]

    @pytest.mark.parametrize("task", [batch_tasks.together, batch_tasks.in_a_thread])
    async def test_a_suspect_is_a_batch_by_itself_in_its_own_process(
        self, site: Site, task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = tmp_path / "journal"
        monkeypatch.setenv("HEADRACE_TEST_JOURNAL", str(journal))
        async with lent(site, batch_tasks.app):
            head, body = wire.split(task.call(5).job) or (wire.Head(""), b"")
            site.push(wire.join(head._replace(delivery=2, crashes=2), body))
            async with site.consumer(lease=QUICK):
                await site.drained()
        assert lines_of(journal) == [["ran", "5"]]

    def test_a_killed_consumer_loses_none_and_charges_each_one_crash(
        self, url: str, tmp_path: Path, site: Site
    ) -> None:
        journal = tmp_path / "journal"
        journal.touch()
        app = Headrace(url)
        app.enqueue_many([app.call("held", n) for n in range(3)])
        env = clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(journal))
        where = "tests.integration.consumer.batch_tasks:app"
        with processes(tmp_path) as start:
            first = start(sys.executable, "-m", "headrace", "consume", where, env=env)
            wait_until(lambda: lines_of(journal), "the batch has begun")
            first.popen.send_signal(signal.SIGKILL)
            second = start(sys.executable, "-m", "headrace", "consume", where, env=env)
            wait_until(lambda: site.redis.hget(site.k.stats, "reclaimed") == b"3", "all come back")
            wait_until(lambda: ["ran", "0", "1", "2"] in lines_of(journal), "they run again")
            wait_until(lambda: site.redis.hget(site.k.stats, "done") == b"3", "all are done")
            assert second.end() == 0, second.output
        app.close()
        site.check()


class TestDeclaring:
    def test_called_it_is_the_function(self) -> None:
        app = Headrace("redis://127.0.0.1:1")

        def total(batch: Any) -> int:
            return sum(batch.values)

        total.__annotations__["batch"] = Batch[int]
        task = app.batch_task()(total)
        assert task(Batch([1, 2, 3])) == 6

    def test_a_library_ships_them_and_two_applications_have_them(self) -> None:
        library = Tasks()
        task = library.batch_task(size=3)(note)
        for url in ("redis://127.0.0.1:1", "redis://127.0.0.1:2"):
            app = Headrace(url)
            app.include(library)
            assert app.find_task("note").call(1).job.endswith(b'"task":"note","args":[1]}')
        assert task.name == "note"

    @pytest.mark.parametrize("options", [{"size": 0}, {"size": 1_001}, {"within": -1}])
    def test_a_size_or_time_without_meaning_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidSetting, match="must be"):
            Tasks().batch_task(**options)(note)

    def test_the_parameter_has_to_be_a_batch(self) -> None:
        def one(number: int) -> None: ...
        def two(batch: Any, more: int) -> None: ...

        for function in (one, two):
            with pytest.raises(
                InvalidSetting, match=r"takes one parameter, annotated as Batch\[T\]"
            ):
                Tasks().batch_task()(function)  # type: ignore[arg-type]
