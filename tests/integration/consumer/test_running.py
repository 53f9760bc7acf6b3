"""Tasks run: async and sync, in order, as many at once as there are slots; what is pushed wakes the idle."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from headrace.consumer import listener, statistics
from headrace.timings import telling
from tests.support.consuming import LONG_S, Site
from tests.support.tasks import BOTH, Crowd, define
from tests.support.wait import WAIT_S, await_until


class TestRunning:
    @BOTH
    async def test_a_task_gets_its_arguments(self, site: Site, kind: str) -> None:
        calls: list[tuple[Any, ...]] = []
        task = define(site.app, kind, lambda *args: calls.append(args))
        async with site.consumer():
            await task.aenqueue(1, "two", [3.5, None], {"four": True})
            await await_until(lambda: calls)
            await site.drained()
        assert calls == [(1, "two", [3.5, None], {"four": True})]
        assert site.counters() == {"enqueued": 1, "done": 1}

    async def test_keyword_arguments_and_defaults_are_kept_apart(self, site: Site) -> None:
        calls: list[tuple[Any, ...]] = []

        @site.app.task
        def note(a: int, b: int = 2, *rest: int, c: int, d: int = 4, **more: int) -> None:
            calls.append((a, b, rest, c, d, more))

        async with site.consumer():
            await note.aenqueue(1, c=3)
            await note.aenqueue(1, 20, 30, c=3, d=40, e=50)
            await await_until(lambda: len(calls) == 2)
        assert sorted(calls, key=str) == [
            (1, 2, (), 3, 4, {}), (1, 20, (30,), 3, 40, {"e": 50})
        ]  # fmt: skip

    async def test_calling_a_task_calls_the_function_here_and_now(self, site: Site) -> None:
        @site.app.task
        def add(a: int, b: int) -> int:
            return a + b

        @site.app.task
        async def aadd(a: int, b: int) -> int:
            return a + b

        assert add(1, 2) == 3
        assert await aadd(1, 2) == 3
        assert not site.redis.keys()

    async def test_async_and_sync_tasks_run_beside_each_other(self, site: Site) -> None:
        met = threading.Barrier(2)

        @site.app.task
        def in_a_thread() -> None:
            met.wait(WAIT_S)

        @site.app.task
        async def on_the_loop() -> None:
            await asyncio.to_thread(met.wait, 10)

        async with site.consumer(concurrency=2):
            await in_a_thread.aenqueue()
            await on_the_loop.aenqueue()
            await site.drained()
        assert site.counters()["done"] == 2

    async def test_jobs_of_one_slot_run_in_the_order_in_which_they_were_enqueued(
        self, site: Site
    ) -> None:
        seen: list[int] = []

        @site.app.task
        def note(n: int) -> None:
            seen.append(n)

        await site.app.aenqueue_many(note.call(n) for n in range(300))
        async with site.consumer(concurrency=1):
            await await_until(lambda: len(seen) == 300)
        assert seen == list(range(300))

    async def test_a_thousand_jobs_are_all_done_once(self, site: Site) -> None:
        seen: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            seen.append(n)

        async with site.consumer(concurrency=50):
            await asyncio.gather(*(note.aenqueue(n) for n in range(1000)))
            await await_until(lambda: len(seen) >= 1000)
            await site.drained()
        assert sorted(seen) == list(range(1000))
        assert site.ends() == {"enqueued": 1000, "done": 1000}


class TestSlots:
    @BOTH
    async def test_as_many_run_at_once_as_there_are_slots_and_not_more(
        self, site: Site, kind: str
    ) -> None:
        crowd = Crowd()
        task: Any = site.app.task(name="visit")(crowd.visit if kind == "sync" else crowd.avisit)
        await site.app.aenqueue_many(task.call() for _ in range(30))
        async with site.consumer(concurrency=4):
            await await_until(lambda: crowd.inside == 4)
            # Nothing is held that could run elsewhere: how quick these jobs are is not known yet.
            assert site.redis.llen(site.k.processing) == 4
            assert site.redis.llen(site.k.pending) == 26
            crowd.open.set()
            await site.drained()
        assert (crowd.most, crowd.entered) == (4, 30)

    async def test_a_slot_that_is_free_is_filled_while_the_others_work(self, site: Site) -> None:
        crowd, quick = Crowd(), []

        @site.app.task
        def slow() -> None:
            crowd.visit()

        @site.app.task
        def fast(n: int) -> None:
            quick.append(n)

        async with site.consumer(concurrency=3):
            await site.app.aenqueue_many([slow.call(), slow.call()])
            await await_until(lambda: crowd.inside == 2)
            await site.app.aenqueue_many(fast.call(n) for n in range(20))
            await await_until(lambda: len(quick) == 20)
            assert crowd.inside == 2
            crowd.open.set()

    @pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "a\n", "a" * 101])
    def test_a_name_that_redis_or_a_claim_token_could_not_hold_is_refused(self, name: str) -> None:
        from headrace import InvalidSetting
        from headrace.cli.queues import parse_queues
        from headrace.consumer import ConsumerOptions

        with pytest.raises(InvalidSetting, match="name"):
            ConsumerOptions(parse_queues("queue"), name=name)

    async def test_the_number_of_slots_follows_the_tasks(self, site: Site) -> None:
        from headrace.consumer.options import default_concurrency

        @site.app.task
        async def one() -> None: ...

        assert default_concurrency(site.app) == 100

        @site.app.task
        def two() -> None: ...

        assert default_concurrency(site.app) == 10


class TestIdle:
    async def test_a_job_pushed_while_idle_starts_although_nothing_polls(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[int] = []

        @site.app.task
        async def note() -> None:
            ran.append(1)

        # What idle consumers ask for is counted in test_costs.py.
        monkeypatch.setattr(listener, "BLOCK_S", LONG_S)
        async with site.consumer() as a, site.consumer() as b, site.consumer() as c:
            await site.idle(a, b, c)
            site.push({"task": "note"})
            await await_until(lambda: ran)
            await site.drained()

    async def test_every_kind_of_work_wakes_an_idle_consumer(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(what: str) -> None:
            ran.append(what)

        async with site.consumer(concurrency=2) as running:
            for n, options in enumerate([{}, {"priority": 5}, {"priority": -5}, {"delay": 0.05}]):
                await site.idle(running)
                await note.options(**options).aenqueue(str(n))  # type: ignore[arg-type]
                await await_until(lambda: ran[-1:] == [str(n)])
            await site.drained()


async def test_what_was_done_is_told_once_in_a_while(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(statistics, "SUM_UP_EVERY_S", 0.0)
    monkeypatch.setattr(telling, "EVERY_S", 0.02)

    @site.app.task(max_attempts=1)
    def work(n: int) -> None:
        if not n:
            raise ValueError

    def told() -> Counter[str]:
        lines = [record.getMessage() for record in caplog.records]
        parts = [line.split(": ")[1].split(", ") for line in lines if line.startswith("jobs in")]
        pairs = [part.split(" ") for line in parts for part in line]
        return sum((Counter({verb: int(count)}) for verb, count in pairs), Counter())

    with caplog.at_level("INFO", "headrace"):
        async with site.consumer():
            await site.app.aenqueue_many(work.call(n % 10) for n in range(30))
            await await_until(lambda: told().total() == 30, what="all are told of")
    assert told() == {"done": 27, "dead": 3}
