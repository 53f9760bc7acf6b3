"""Tasks run: async and sync, as many at once as there are slots, each for itself; results come back."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Context, Headrace, JobCancelled, JobFailed, NoResult, ResultTimeout
from headrace.consumer import consumer as consumer_module
from headrace.consumer import executor, listener
from headrace.context import current_job
from headrace.ids import new_id
from tests.support.consuming import LONG_S, QUICK, Site
from tests.support.wait import WAIT_S, await_until, wait_until

Define = Callable[..., Any]
BOTH = pytest.mark.parametrize("kind", ["async", "sync"])


def define(app: Headrace, kind: str, body: Callable[..., Any], **options: Any) -> Any:
    """Make a task of a sync function, as it is or as an async one."""
    if kind == "sync":
        return app.task(name="body", **options)(body)

    async def wrapped(*args: Any) -> Any:
        return body(*args)

    return app.task(name="body", **options)(wrapped)


class Crowd:
    """Counts how many are inside at once, and holds them there until it is opened."""

    def __init__(self) -> None:
        self.inside = self.most = self.entered = 0
        self._lock = threading.Lock()
        self.open = threading.Event()

    def enter(self) -> None:
        with self._lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1

    def visit(self) -> None:
        self.enter()
        assert self.open.wait(WAIT_S)
        self.leave()

    async def avisit(self) -> None:
        self.enter()
        await await_until(self.open.is_set)
        self.leave()


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
        from headrace.consumer import ConsumerOptions, parse_queues

        with pytest.raises(InvalidSetting, match="name"):
            ConsumerOptions(parse_queues("queue"), name=name)

    async def test_the_number_of_slots_follows_the_tasks(self, site: Site) -> None:
        from headrace.consumer import default_concurrency

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


shared: contextvars.ContextVar[str] = contextvars.ContextVar("shared", default="clean")


class TestContexts:
    @pytest.mark.parametrize("concurrency", [1, 5])
    @BOTH
    async def test_what_one_job_sets_no_other_job_sees(
        self, site: Site, kind: str, concurrency: int
    ) -> None:
        seen: list[str] = []

        def body(name: str) -> None:
            seen.append(shared.get())
            shared.set(name)

        task = define(site.app, kind, body)
        await site.app.aenqueue_many(task.call(f"job {n}") for n in range(50))
        async with site.consumer(concurrency=concurrency):
            await await_until(lambda: len(seen) == 50)
        assert set(seen) == {"clean"}
        assert shared.get() == "clean"

    async def test_a_job_that_arrives_by_a_blocking_move_has_its_own_context_too(
        self, site: Site
    ) -> None:
        seen: list[str] = []

        @site.app.task
        async def body() -> None:
            seen.append(shared.get())
            shared.set("dirty")

        async with site.consumer(concurrency=1) as running:
            for n in range(3):
                await site.idle(running)
                await body.aenqueue()
                await await_until(lambda: len(seen) == n + 1)
        assert set(seen) == {"clean"}

    @BOTH
    async def test_logs_within_a_job_know_their_job(self, site: Site, kind: str) -> None:
        seen: dict[str, str] = {}

        def body(name: str) -> None:
            job = current_job.get()
            assert job is not None
            seen[name] = job.job_id

        task = define(site.app, kind, body)
        jobs = await site.app.aenqueue_many(task.call(str(n)) for n in range(10))
        async with site.consumer(concurrency=2):
            await await_until(lambda: len(seen) == 10)
        assert seen == {str(n): job.id for n, job in enumerate(jobs)}
        assert current_job.get() is None


class TestContextParameter:
    async def test_it_is_passed_only_to_who_asks_for_it_by_annotation(self, site: Site) -> None:
        got: dict[str, Any] = {}

        @site.app.task
        def last(x: int, ctx: Context) -> None:
            got["last"] = (x, ctx)

        @site.app.task
        def first(me: Context, x: int, y: int = 0) -> None:
            got["first"] = (x, y, me)

        @site.app.task
        async def keyword(x: int, *, ctx: str | None = None, me: Context | None = None) -> None:
            got["keyword"] = (x, ctx, me)

        @site.app.task
        def unannotated(ctx: Any = "nothing") -> None:
            got["unannotated"] = ctx

        async with site.consumer():
            job = await site.app.aenqueue("last", 1)
            await site.app.aenqueue("first", 2, 3)
            await site.app.aenqueue("keyword", 3)
            await unannotated.aenqueue()
            await site.drained()
        assert not site.letters()
        x, context = got["last"]
        assert (x, context.job_id, context.queue, context.task) == (1, job.id, "queue", "last")
        assert (context.attempt, context.delivery, context.max_attempts) == (1, 0, 3)
        assert not context.stopping
        assert got["first"][:2] == (2, 3)
        assert got["first"][2].task == "first"
        assert got["keyword"][:2] == (3, None)
        assert got["keyword"][2].task == "keyword"
        assert got["unannotated"] == "nothing"

    async def test_a_job_cannot_bring_a_context_of_its_own(self, site: Site) -> None:
        got: list[Any] = []

        @site.app.task
        def note(x: int, ctx: Context) -> None:
            got.append(ctx)

        async with site.consumer():
            site.push({"task": "note", "kwargs": {"x": 1, "ctx": "forged"}})
            await site.drained()
        assert [type(ctx) for ctx in got] == [Context]

    async def test_its_delivery_grows_with_every_return_and_its_attempt_with_every_failure(
        self, site: Site
    ) -> None:
        seen: list[tuple[int, int]] = []

        @site.app.task(max_attempts=3)
        def note(ctx: Context) -> None:
            seen.append((ctx.attempt, ctx.delivery))
            raise ValueError

        site.app.tasks["note"].config = quick(site.app.tasks["note"].config)
        async with site.consumer():
            await site.app.aenqueue("note")
            await site.died()
        assert seen == [(1, 0), (2, 1), (3, 2)]


def quick(config: Any) -> Any:
    """Give a task's options with no wait between attempts."""
    import dataclasses

    from headrace import Backoff

    return dataclasses.replace(config, backoff=Backoff(base_s=0))


class TestWrongCalls:
    @BOTH
    @pytest.mark.parametrize(
        "job",
        [
            {"args": []},
            {"args": [1, 2]},
            {"args": [1], "kwargs": {"n": 1}},
            {"kwargs": {"unknown": 1}},
        ],
        ids=str,
    )
    async def test_arguments_that_do_not_fit_are_dead_at_once(
        self, site: Site, kind: str, job: dict[str, Any]
    ) -> None:
        if kind == "sync":

            @site.app.task(name="one")
            def one(n: int) -> None: ...
        else:

            @site.app.task(name="one")
            async def aone(n: int) -> None: ...

        async with site.consumer():
            site.push({"task": "one"} | job)
            [letter] = await site.died()
        assert letter["error"]["reason"] == "invalid_arguments"
        assert letter["error"]["type"] == "InvalidArguments"
        assert "one" in letter["error"]["message"]
        assert site.counters() == {"dead": 1}

    @BOTH
    async def test_a_type_error_inside_the_task_is_an_ordinary_failure(
        self, site: Site, kind: str
    ) -> None:
        runs: list[int] = []

        def body() -> None:
            runs.append(1)
            raise TypeError("body() takes no such thing")

        task = define(site.app, kind, body)
        task.config = quick(task.config)
        async with site.consumer():
            await task.aenqueue()
            [letter] = await site.died()
        assert len(runs) == 3
        assert letter["error"]["reason"] == "max_attempts"
        assert letter["error"]["type"] == "TypeError"

    async def test_a_call_that_a_deeper_function_refuses_is_an_ordinary_failure(
        self, site: Site
    ) -> None:
        def inner(n: int) -> None: ...

        @site.app.task(max_attempts=1)
        def outer() -> None:
            inner()  # type: ignore[call-arg]

        async with site.consumer():
            await outer.aenqueue()
            [letter] = await site.died()
        assert letter["error"]["reason"] == "max_attempts"


class TestBaseExceptions:
    @BOTH
    @pytest.mark.parametrize(
        "error",
        [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, StopIteration],
    )
    async def test_what_ends_programs_does_not_end_the_consumer(
        self, site: Site, kind: str, error: type[BaseException]
    ) -> None:
        good: list[int] = []

        def body() -> None:
            raise error("stop everything")

        task = define(site.app, kind, body, max_attempts=1)

        @site.app.task(name="good")
        def well() -> None:
            good.append(1)

        async with site.consumer(concurrency=1) as running:
            await task.aenqueue()
            await well.aenqueue()
            [letter] = await site.died()
            await await_until(lambda: good)
            assert not running.task.done()
        # A coroutine cannot raise StopIteration: Python makes it a RuntimeError.
        expected = "RuntimeError" if (kind, error) == ("async", StopIteration) else error.__name__
        assert letter["error"]["type"] == expected

    async def test_a_task_that_cancels_itself_has_failed(self, site: Site) -> None:
        @site.app.task(max_attempts=1)
        async def gone() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        async with site.consumer():
            await gone.aenqueue()
            [letter] = await site.died()
        assert letter["error"]["type"] == "CancelledError"

    @BOTH
    async def test_an_exception_that_cannot_be_written_is_told_as_far_as_it_can(
        self, site: Site, kind: str
    ) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        def body(what: str) -> None:
            if what == "mute":
                raise Mute
            raise OSError("no such file: '\udcff\ud800'")

        task = define(site.app, kind, body, max_attempts=1, result_ttl=60)
        async with site.consumer():
            mute, surrogate = [await task.aenqueue(what) for what in ("mute", "surrogate")]
            letters = {letter["id"]: letter["error"] for letter in await site.died(2)}
            for job in (mute, surrogate):
                with pytest.raises(JobFailed):
                    await job.aresult(WAIT_S)
        assert letters[mute.id]["type"] == "Mute"
        assert letters[surrogate.id]["type"] == "OSError"
        assert "no such file" in letters[surrogate.id]["message"]
        assert "no such file" in letters[surrogate.id]["traceback"]


class TestTimeouts:
    async def test_an_async_task_that_takes_too_long_is_cancelled(self, site: Site) -> None:
        @site.app.task(timeout=0.1, max_attempts=1)
        async def slow() -> None:
            await asyncio.sleep(60)

        async with site.consumer():
            await slow.aenqueue()
            [letter] = await site.died()
        assert letter["error"]["reason"] == "timeout"

    async def test_a_sync_task_that_asks_learns_that_its_time_is_over(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executor, "INTERRUPT_AFTER_S", 600)  # it has the time to ask
        reasons: list[str | None] = []

        @site.app.task(max_attempts=1)
        def slow(ctx: Context) -> None:
            wait_until(lambda: ctx.stopping)
            reasons.append(ctx.stop_reason)
            ctx.check()

        async with site.consumer():
            await slow.options(timeout=0.1).aenqueue()  # type: ignore[call-arg]
            [letter] = await site.died()
        assert reasons == ["timeout"]
        assert letter["error"]["reason"] == "timeout"

    async def test_a_task_that_swallows_its_cancellation_is_cancelled_again(
        self, site: Site
    ) -> None:
        cancelled: list[int] = []

        @site.app.task(timeout=0.1, max_attempts=1)
        async def stubborn() -> None:
            while len(cancelled) < 2:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(1)
            raise asyncio.CancelledError

        async with site.consumer():
            await stubborn.aenqueue()
            [letter] = await site.died()
        assert letter["error"]["reason"] == "timeout"

    @pytest.mark.parametrize("timeout", [0, -1, 1e-300])
    async def test_a_foreign_timeout_without_meaning_harms_nobody(
        self, site: Site, timeout: float
    ) -> None:
        ran: list[int] = []

        @site.app.task
        def note() -> None:
            ran.append(1)

        async with site.consumer():
            site.push({"task": "note", "timeout": timeout})
            await site.drained()
        assert ran == [1]


class TestResults:
    @BOTH
    async def test_the_value_comes_back(self, site: Site, kind: str) -> None:
        task = define(site.app, kind, lambda *args: {"got": [*args]}, result_ttl=60)
        async with site.consumer():
            job = await task.aenqueue(1, "two", None)
            assert await job.aresult(timeout=WAIT_S) == {"got": [1, "two", None]}
            assert await job.aresult(timeout=WAIT_S) == {"got": [1, "two", None]}  # it stays
            assert await job.astatus() == "done"
        assert 0 < site.redis.ttl(site.k.result(job.id)) <= 60

    async def test_none_is_a_result(self, site: Site) -> None:
        @site.app.task(result_ttl=60)
        def nothing() -> int | None:
            return None

        async with site.consumer():
            assert await (await nothing.aenqueue()).aresult(timeout=WAIT_S) is None

    async def test_a_failure_is_raised_with_its_reason(self, site: Site) -> None:
        @site.app.task(result_ttl=60, max_attempts=1)
        def fails() -> None:
            raise ValueError("no good")

        async with site.consumer():
            job = await fails.aenqueue()
            with pytest.raises(JobFailed, match="max_attempts.*ValueError: no good") as failure:
                await job.aresult(timeout=WAIT_S)
            assert await job.astatus() == "dead"
        assert (failure.value.reason, failure.value.error_type) == ("max_attempts", "ValueError")
        assert 'raise ValueError("no good")' in failure.value.traceback

    async def test_several_waiters_all_get_it_at_once(self, site: Site) -> None:
        crowd = Crowd()

        @site.app.task(result_ttl=60)
        def answer() -> int:
            crowd.visit()
            return 42

        async with site.consumer():
            job = await answer.aenqueue()
            waiting = [asyncio.create_task(job.aresult(WAIT_S)) for _ in range(5)]
            waiting += [asyncio.create_task(site.app.job(job.id).aresult(WAIT_S)) for _ in range(5)]
            await await_until(lambda: blocked(site, "blmove") >= 10)
            crowd.open.set()
            assert await asyncio.gather(*waiting) == [42] * 10

    async def test_waiting_blocks_and_does_not_poll(self, site: Site) -> None:
        job = site.app.job(new_id())
        before = calls(site, "blmove")
        with pytest.raises(ResultTimeout, match="within 0.5 s"):
            await job.aresult(timeout=0.5)
        assert calls(site, "blmove") - before <= 2

    async def test_a_result_that_does_not_come_in_time_leaves_the_job_alone(
        self, site: Site
    ) -> None:
        crowd = Crowd()

        @site.app.task(result_ttl=60)
        def slow() -> str:
            crowd.visit()
            return "late"

        async with site.consumer():
            job = await slow.aenqueue()
            with pytest.raises(TimeoutError):
                await job.aresult(timeout=0.05)
            crowd.open.set()
            assert await job.aresult(timeout=WAIT_S) == "late"

    async def test_a_waiter_may_be_cancelled(self, site: Site) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(site.app.job(new_id()).aresult(), 0.1)

    async def test_a_task_that_keeps_none_says_so(self, site: Site) -> None:
        @site.app.task
        def quiet() -> int | None:
            return None

        async with site.consumer():
            job = await quiet.aenqueue()
            with pytest.raises(NoResult, match="result_ttl"):
                await job.aresult()
            await site.drained()
            assert not site.redis.exists(site.k.result(job.id))
            wanted = await quiet.options(result_ttl=60).aenqueue()  # this one is asked to
            assert await wanted.aresult(timeout=WAIT_S) is None

    @pytest.mark.parametrize(
        "value",
        [object(), {1, 2}.__iter__(), "\ud800", {("a",): 1}, 1 + 2j],
        ids=["object", "iterator", "surrogate", "tuple key", "complex"],
    )
    async def test_a_value_that_is_no_json_is_told_and_the_job_is_done(
        self, site: Site, value: Any
    ) -> None:
        @site.app.task(result_ttl=60)
        def strange() -> Any:
            return value

        async with site.consumer():
            job = await strange.aenqueue()
            with pytest.raises(NoResult, match="does not come back equal from JSON"):
                await job.aresult(timeout=WAIT_S)
        assert site.counters()["done"] == 1

    async def test_a_waiting_job_that_is_cancelled_says_so_and_does_not_run(
        self, site: Site
    ) -> None:
        ran: list[int] = []

        @site.app.task(result_ttl=60)
        def note() -> None:
            ran.append(1)

        jobs = [await note.aenqueue(), await note.options(delay=60).aenqueue(),
                await note.options(priority=3).aenqueue()]  # fmt: skip
        for job in jobs:
            assert await job.acancel()
        async with site.consumer():
            for job in jobs:
                with pytest.raises(JobCancelled):
                    await job.aresult(timeout=WAIT_S)
                assert await job.astatus() == "cancelled"
                assert not await job.acancel()
        assert not ran

    async def test_a_running_async_job_that_is_cancelled_ends(self, site: Site) -> None:
        started = asyncio.Event()

        @site.app.task(result_ttl=60)
        async def long() -> None:
            started.set()
            await asyncio.sleep(60)

        async with site.consumer(lease=QUICK):
            job = await long.aenqueue()
            await started.wait()
            assert await job.acancel()
            with pytest.raises(JobCancelled):
                await job.aresult(timeout=WAIT_S)
        assert site.counters()["cancel"] == 1

    async def test_a_running_sync_job_that_is_cancelled_is_told(self, site: Site) -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        @site.app.task(result_ttl=60)
        def long(ctx: Context) -> None:
            loop.call_soon_threadsafe(started.set)
            wait_until(lambda: ctx.stop_reason == "cancelled")
            ctx.check()

        async with site.consumer(lease=QUICK):
            job = await site.app.aenqueue("long")
            await started.wait()
            assert await job.acancel()
            with pytest.raises(JobCancelled):
                await job.aresult(timeout=WAIT_S)
        assert site.counters()["cancel"] == 1

    @pytest.mark.parametrize("ttl", ["1e300", "-5", "0", "1e-9", "99999999999999999999"])
    async def test_a_foreign_ttl_without_meaning_harms_nobody(self, site: Site, ttl: str) -> None:
        ran: list[str] = []

        @site.app.task(result_ttl=60)
        def note(name: str) -> str:
            ran.append(name)
            return name

        async with site.consumer(concurrency=1):
            # In one batch: a strange one must not shift whose result is whose.
            job = f'{{"task":"note","args":["strange"],"result_ttl":{ttl}}}'.encode()
            site.push(job)
            good = await note.aenqueue("good")
            assert await good.aresult(timeout=WAIT_S) == "good"
            await site.drained()
        assert sorted(ran) == ["good", "strange"]
        assert site.counters()["done"] == 2


def calls(site: Site, command: str) -> int:
    stats: dict[str, Any] = site.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def blocked(site: Site, command: str) -> int:
    return sum(client["cmd"] == command for client in site.redis.client_list())


class TestFailingParts:
    async def test_a_part_that_fails_ends_the_consumer_instead_of_leaving_it_asleep(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @site.app.task
        async def note() -> None: ...

        def fails(*args: Any, **kwargs: Any) -> None:
            raise LookupError("a bug")

        with pytest.raises(LookupError, match="a bug"):
            async with site.consumer() as running:
                await site.idle(running)
                monkeypatch.setattr("headrace.consumer.dispatcher.read", fails)
                await note.aenqueue()
                await running.ended()
        await site.check_nothing_is_left()
        assert site.redis.llen(site.k.processing) == 1  # the sweep will find it

    async def test_a_consumer_that_is_cancelled_leaves_nothing_behind_but_its_leases(
        self, site: Site
    ) -> None:
        said: list[str] = []

        @site.app.task
        async def long() -> None:
            said.append("begun")
            try:
                await asyncio.sleep(60)
            finally:
                said.append("ended")

        with pytest.raises(asyncio.CancelledError):
            async with site.consumer() as running:
                await long.aenqueue()
                await await_until(lambda: said)
                running.task.cancel()
                await running.ended()
        await site.check_nothing_is_left()
        assert said == ["begun", "ended"]
        site.check()

    async def test_queues_stay_known_whatever_happens_to_redis(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headrace.consumer.consumer._REGISTER_EVERY_S", 0.05)
        async with site.consumer() as running:
            await site.idle(running)
            site.redis.flushall()
            await await_until(lambda: site.redis.sismember("headrace:queues", "queue"))


async def test_what_was_done_is_told_once_in_a_while(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumer_module, "_SUM_UP_EVERY_S", 0.0)  # with every tick

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
