"""Hooks around runs and enqueues, dependencies, and events, in consumers on a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest

from headrace import (
    CURRENT,
    INJECTED,
    Backoff,
    Context,
    Depends,
    EnqueueRequest,
    Event,
    Headrace,
    InvalidSetting,
    QueueFull,
    StoreUnavailable,
    Tasks,
    wire,
)
from headrace.consumer import executor
from headrace.hooks import telling
from tests.integration.consumer import hooked_tasks
from tests.support.consuming import QUICK, Running, Site, lent
from tests.support.journal import lines_of
from tests.support.wait import WAIT_S, await_until

AT_ONCE = Backoff(base_s=0)

SEEN: list[Any] = []
"""What hooks and dependencies did: they stand outside of the tests, where annotations find them."""


@pytest.fixture(autouse=True)
def _seen_anew() -> None:
    SEEN.clear()


def pool() -> Iterator[str]:
    SEEN.append("pool in")
    try:
        yield "pool"
    finally:
        SEEN.append("pool out")


@asynccontextmanager
async def session(of: Annotated[str, Depends(pool)], ctx: Context) -> AsyncIterator[str]:
    SEEN.append("session in")
    try:
        async with asyncio.timeout(
            WAIT_S
        ):  # wants to be left by the asyncio task that has entered it
            yield f"session {ctx.attempt} of {of}"
    finally:
        SEEN.append("session out")


class Locked:
    def __init__(self, of: Annotated[str, Depends(pool)]) -> None:
        self.of = of

    def __enter__(self) -> str:
        SEEN.append("lock in")
        return f"lock on {self.of}"

    def __exit__(self, *_: object) -> None:
        SEEN.append("lock out")


async def number() -> int:
    await asyncio.sleep(0)
    return 7


def fail_at_once() -> None:
    raise IndexError("list index out of range")


async def never() -> AsyncIterator[None]:
    SEEN.append("never in")
    try:
        await asyncio.Event().wait()
        yield
    finally:
        SEEN.append("never out")


def swallowing() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        SEEN.append(type(error).__name__)


Session = Annotated[str, Depends(session)]
Lock = Annotated[str, Depends(Locked)]
Number = Annotated[int, Depends(number)]


def hook(site_or_tasks: Any, name: str, kind: str = "sync") -> None:
    """Add a hook that writes down how it is entered and left."""

    def sync(ctx: Context) -> Iterator[None]:
        SEEN.append(f"{name} in")
        try:
            yield
        except BaseException as error:
            SEEN.append(f"{name} {type(error).__name__}")
            raise
        SEEN.append(f"{name} out")

    async def awaited(ctx: Context) -> AsyncIterator[None]:
        with contextmanager(sync)(ctx):
            async with asyncio.timeout(WAIT_S):
                yield

    site_or_tasks.around_run(awaited if kind == "async" else sync)


async def burst(site: Site, **options: Any) -> None:
    async with site.consumer(burst=True, **options) as running:
        await running.ended()


def both(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Give a function without arguments, or an async one that does the same."""

    async def awaited() -> Any:
        await asyncio.sleep(0)
        return function()

    return awaited if kind == "async" else function


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


class TestAroundRuns:
    @KINDS
    async def test_the_first_is_the_outermost_whatever_is_async(
        self, site: Site, kind: str
    ) -> None:
        task = site.app.task(name="t")(both(lambda: SEEN.append("runs"), kind))
        for name, its in (("a", "sync"), ("b", "async"), ("c", "sync"), ("d", "async")):
            hook(site.app, name, its)
        await task.aenqueue()
        await burst(site)
        ins = ["a in", "b in", "c in", "d in"]
        assert SEEN == [*ins, "runs", "d out", "c out", "b out", "a out"]
        assert site.counters()["done"] == 1

    @KINDS
    async def test_they_see_an_exception_and_cannot_swallow_it(self, site: Site, kind: str) -> None:
        @site.app.around_run
        def swallow(ctx: Context) -> Iterator[None]:
            with contextmanager(swallowing)():
                yield

        hook(site.app, "inner", kind)
        task = site.app.task(name="t", max_attempts=1)(both(fail_at_once, kind))
        await task.aenqueue()
        await burst(site)
        assert SEEN == ["inner in", "inner IndexError", "IndexError"]
        (letter,) = site.letters()
        assert letter["error"]["type"] == "IndexError"

    @KINDS
    async def test_one_that_fails_is_a_failed_attempt_and_nothing_ran(
        self, site: Site, kind: str
    ) -> None:
        @site.app.around_run
        async def refuse(ctx: Context) -> AsyncIterator[None]:
            if ctx.attempt == 1:
                raise ConnectionError("not today")
            yield

        task = site.app.task(name="t", max_attempts=2, backoff=AT_ONCE)(
            both(lambda: SEEN.append("runs"), kind)
        )
        await task.aenqueue()
        async with site.consumer():
            await site.drained()
        assert SEEN == ["runs"]
        assert (site.counters()["retry"], site.counters()["done"]) == (1, 1)

    async def test_a_call_that_does_not_fit_is_still_told_from_a_failure_inside(
        self, site: Site
    ) -> None:
        hook(site.app, "a")

        def inside(number: int) -> None:
            len(number)  # type: ignore[arg-type]

        site.app.task(name="t", max_attempts=1)(inside)
        site.push({"task": "t", "args": [1, 2]}, {"task": "t", "args": [1]})
        await burst(site)
        reasons = sorted(letter["error"]["reason"] for letter in site.letters())
        assert reasons == ["invalid_arguments", "max_attempts"]

    async def test_a_library_has_its_own_inside_those_of_each_application(self, site: Site) -> None:
        library = Tasks()
        task = library.task(name="t")(lambda: SEEN.append("runs"))
        site.app.include(library)
        second = site.another_app()
        second.include(library)
        hook(library, "library")  # all of them later than the tasks
        hook(site.app, "first")
        hook(second, "second")
        await task.aenqueue()
        await burst(site)
        inside = ["library in", "runs", "library out"]
        assert SEEN == ["first in", *inside, "first out"]
        SEEN.clear()
        await second.aenqueue("t")
        async with site.consumer(second, burst=True) as running:
            await running.ended()
        assert SEEN == ["second in", *inside, "second out"]

    async def test_a_function_that_hides_that_it_is_async_runs_inside_of_them(
        self, site: Site
    ) -> None:
        hook(site.app, "a")

        async def hidden() -> None:
            await asyncio.sleep(0)
            SEEN.append("runs")

        task = site.app.task(name="t")(lambda: hidden())
        await task.aenqueue()
        await burst(site)
        assert SEEN == ["a in", "runs", "a out"]

    async def test_one_that_yields_twice_fails_the_job(self, site: Site) -> None:
        @site.app.around_run
        def twice(ctx: Context) -> Iterator[None]:
            yield
            yield

        task = site.app.task(name="t", max_attempts=1)(lambda: None)
        await task.aenqueue()
        await burst(site)
        (letter,) = site.letters()
        assert letter["error"]["message"] == "generator didn't stop"


class TestDependencies:
    @KINDS
    async def test_they_are_made_once_for_each_job_and_closed_after_it(
        self, site: Site, kind: str
    ) -> None:
        def use(db: Session, a: int, lock: Lock, n: Number, b: int = 2, *rest: int) -> None:
            SEEN.append((db, a, lock, n, b, rest))

        async def use_async(db: Session, a: int, lock: Lock, n: Number, b: int = 2) -> None:
            SEEN.append((db, a, lock, n, b, ()))

        function: Any = use_async if kind == "async" else use
        task = site.app.task(name="t")(function)
        hook(site.app, "hook")
        await task.aenqueue(1, 3)
        await burst(site)
        assert SEEN == [
            *("hook in", "pool in", "session in", "lock in"),
            ("session 1 of pool", 1, "lock on pool", 7, 3, ()),
            *("lock out", "session out", "pool out", "hook out"),
        ]
        SEEN.clear()
        await task.aenqueue(a=5)
        await burst(site)
        assert SEEN[4] == ("session 1 of pool", 5, "lock on pool", 7, 2, ())

    @KINDS
    async def test_they_are_closed_when_the_task_fails_and_do_not_hide_it(
        self, site: Site, kind: str
    ) -> None:
        def fail(db: Session, nothing: Annotated[None, Depends(swallowing)] = INJECTED) -> None:
            raise LookupError("no")

        async def fail_async(
            db: Session, nothing: Annotated[None, Depends(swallowing)] = INJECTED
        ) -> None:
            raise LookupError("no")

        function: Any = fail_async if kind == "async" else fail
        task = site.app.task(name="t", max_attempts=1)(function)
        await task.aenqueue()
        await burst(site)
        ins = ["pool in", "session in"]
        assert SEEN == [*ins, "LookupError", "session out", "pool out"]
        assert site.letters()[0]["error"]["type"] == "LookupError"

    @KINDS
    async def test_they_are_closed_when_the_job_runs_out_of_time(
        self, site: Site, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executor, "INTERRUPT_AFTER_S", 0.05)
        monkeypatch.setattr(executor, "GIVE_UP_AFTER_S", 600)

        def endless(db: Session) -> None:
            SEEN.append("begun")
            while True:
                pass

        async def endless_async(db: Session) -> None:
            SEEN.append("begun")
            await asyncio.Event().wait()

        function: Any = endless_async if kind == "async" else endless
        task = site.app.task(name="t", timeout=600, max_attempts=1)(function)
        hook(site.app, "hook", "async")
        await task.aenqueue()
        async with site.consumer() as running:
            await its_time_is_over(running, "begun")
            (letter,) = await site.died()
        assert letter["error"]["reason"] == "timeout"
        ending = "CancelledError" if kind == "async" else "JobInterrupted"
        assert SEEN[-3:] == ["session out", "pool out", f"hook {ending}"]

    @KINDS
    async def test_a_job_whose_dependency_never_comes_runs_out_of_time(
        self, site: Site, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executor, "INTERRUPT_AFTER_S", 0.05)
        monkeypatch.setattr(executor, "GIVE_UP_AFTER_S", 600)

        def wait(db: Session, it: Annotated[None, Depends(never)]) -> None: ...

        async def wait_async(db: Session, it: Annotated[None, Depends(never)]) -> None: ...

        function: Any = wait_async if kind == "async" else wait
        task = site.app.task(name="t", timeout=600, max_attempts=1)(function)
        await task.aenqueue()
        async with site.consumer() as running:
            await its_time_is_over(running, "never in")
            (letter,) = await site.died()
        assert letter["error"]["reason"] == "timeout"
        assert SEEN[-4:] == ["never in", "never out", "session out", "pool out"]

    @pytest.mark.parametrize("task", [hooked_tasks.use, hooked_tasks.use_async])
    async def test_a_suspect_has_hooks_and_dependencies_in_its_own_process(
        self, site: Site, task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = tmp_path / "journal"
        journal.touch()
        monkeypatch.setenv("HEADRACE_TEST_JOURNAL", str(journal))
        async with lent(site, hooked_tasks.app):
            head, body = wire.split(task.call().job) or (wire.Head(""), b"")
            site.push(wire.join(head._replace(delivery=2, crashes=2), body))
            async with site.consumer(lease=QUICK):
                await site.drained()
                await await_until(lambda: len(lines_of(journal)) == 9, what="all is told")
        words = [line[:2] for line in lines_of(journal)]
        assert words == [
            ["told", "started"],
            *(["outer", "in"], ["inner", "in"], ["session", "in"]),
            ["use", "session"],
            *(["session", "out"], ["inner", "out"], ["outer", "out"]),
            ["told", "succeeded"],
        ]
        pids = [line[2] for line in lines_of(journal)]
        assert len({*pids[:8]}) == 1
        assert pids[8] != pids[0]


async def its_time_is_over(running: Running, begun: str) -> None:
    await await_until(lambda: begun in SEEN, what="it has begun")
    for claimed in running.consumer._slots.running:
        claimed.deadline = 0.0


class TestAroundEnqueues:
    async def test_headers_and_arguments_travel(self, site: Site) -> None:
        @site.app.around_enqueue
        def trace(request: EnqueueRequest) -> Iterator[None]:
            request.headers["trace"] = f"of {request.task}"
            yield
            SEEN.append(request.job_id)

        @site.app.around_enqueue
        def double(request: EnqueueRequest) -> Iterator[None]:
            request.args = tuple(2 * n for n in request.args)
            yield

        @site.app.task(name="t")
        def task(number: int, ctx: Context = CURRENT) -> None:
            SEEN.append((number, ctx.headers["trace"]))

        jobs: list[Any] = [
            await site.app.aenqueue("t", 1),
            await task.aenqueue(2),
            *await site.app.aenqueue_many([task.call(3), task.options(priority=1).call(4)]),
            await asyncio.to_thread(task.enqueue, 5),
            *await site.app.aenqueue_many([site.app.call("t", 6)._replace(decode=None)]),
        ]
        assert sorted(SEEN) == sorted(job.id for job in jobs)
        assert [await job.astatus() for job in jobs] == ["pending"] * 6
        SEEN.clear()
        await burst(site, concurrency=1)
        assert sorted(SEEN) == [(n, "of t") for n in (2, 4, 6, 8, 10, 12)]

    async def test_options_may_be_changed_and_the_handle_follows(self, site: Site) -> None:
        @site.app.around_enqueue
        async def elsewhere(request: EnqueueRequest) -> AsyncIterator[None]:
            assert request.options == {"priority": 5}
            request.options["queue"] = "elsewhere"
            yield

        task = site.app.task(name="t")(lambda: None)
        job = await task.options(priority=5).aenqueue()
        assert job.queue == "elsewhere"
        assert await job.astatus() == "pending"
        (raw,) = site.redis.zrange("elsewhere:priority", 0, -1)
        assert json.loads(raw)["priority"] == 5

    async def test_they_see_what_is_not_accepted_and_cannot_swallow_it(self, site: Site) -> None:
        full = site.another_app(max_pending=1)

        @full.around_enqueue
        def swallow(request: EnqueueRequest) -> Iterator[None]:
            try:
                yield
            except QueueFull:
                SEEN.append(request.job_id)

        @full.on("enqueued")
        def told(event: Event) -> None:
            SEEN.append(event.name)

        await full.aenqueue("t")
        with pytest.raises(QueueFull):
            await full.aenqueue("t")
        assert SEEN == ["enqueued", ""]

    async def test_an_async_one_is_for_awaited_calls_alone(self, site: Site) -> None:
        @site.app.around_enqueue
        async def awaited(request: EnqueueRequest) -> AsyncIterator[None]:
            yield

        with pytest.raises(InvalidSetting, match=r"awaited is async.*aenqueue"):
            site.app.enqueue("t")
        assert site.redis.llen(site.k.pending) == 0

    def test_one_that_fails_sends_nothing(self) -> None:
        app = Headrace("redis://127.0.0.1:1")

        @app.around_enqueue
        def outer(request: EnqueueRequest) -> Iterator[None]:
            try:
                yield
            except PermissionError:
                SEEN.append("seen")
                raise

        @app.around_enqueue
        def refuse(request: EnqueueRequest) -> Iterator[None]:
            if request.args == (1,):
                raise PermissionError("not this one")
            yield

        with pytest.raises(PermissionError):
            app.enqueue("t", 1)
        assert SEEN == ["seen"]
        with pytest.raises(StoreUnavailable):  # nothing listens there
            app.enqueue("t", 2)


class TestEvents:
    @KINDS
    async def test_each_is_told_in_order_when_redis_knows(self, site: Site, kind: str) -> None:
        def told(event: Event) -> None:
            error = type(event.error).__name__ if event.error else ""
            verb = {"failed": "retry", "retried": "retry", "succeeded": "done"}
            known = site.counters().get(verb.get(event.name, event.name), 0)
            SEEN.append((event.name, event.task, event.attempt, error, known > 0))

        async def told_async(event: Event) -> None:
            await asyncio.sleep(0)
            told(event)

        site.app.on("started", "succeeded", "failed", "retried", "dead")(
            told_async if kind == "async" else told
        )
        task = site.app.task(name="fails", max_attempts=2, backoff=AT_ONCE)(
            both(fail_at_once, kind)
        )
        await task.aenqueue()
        async with site.consumer(concurrency=1):
            await site.drained()
            await site.app.task(name="ends")(both(lambda: None, kind)).aenqueue()
            await site.drained()
        assert SEEN == [
            ("started", "fails", 1, "", False),
            ("failed", "fails", 1, "IndexError", True),
            ("retried", "fails", 1, "IndexError", True),
            ("started", "fails", 2, "", False),
            ("failed", "fails", 2, "IndexError", True),
            ("dead", "fails", 2, "IndexError", True),
            ("started", "ends", 1, "", False),
            ("succeeded", "ends", 1, "", True),
        ]

    async def test_a_listener_that_fails_or_hangs_harms_nothing(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(telling, "CLOSE_S", 0.1)
        monkeypatch.setattr(telling, "MOST", 3)
        gate = threading.Event()

        @site.app.on("succeeded")
        def fail(event: Event) -> None:
            raise SystemExit("no")

        @site.app.on("succeeded")
        def hang(event: Event) -> None:
            gate.wait()

        task = site.app.task(name="t")(lambda: None)
        await site.app.aenqueue_many([task.call() for _ in range(20)])
        async with site.consumer(burst=True, check=False) as running:
            await running.ended()
        assert site.counters()["done"] == 20
        assert "a listener of 'succeeded' failed" in caplog.text
        assert "listeners are slow" in caplog.text
        assert "listeners do not end within 0.1 s" in caplog.text
        gate.set()
        await site.check_nothing_is_left()

    async def test_of_a_run_whose_claim_was_lost_nothing_is_told(self, site: Site) -> None:
        begun: list[int] = []
        go = threading.Event()

        @site.app.on("succeeded", "failed")
        def told(event: Event) -> None:
            SEEN.append((event.name, event.job_id))

        @site.app.task(name="deaf")
        def deaf(ctx: Context = CURRENT) -> None:  # it does not look at its context
            begun.append(ctx.delivery)
            assert go.wait(WAIT_S)

        async with site.consumer(lease=QUICK, concurrency=1):
            job = await deaf.aenqueue()
            await await_until(lambda: begun)
            site.redis.delete(site.k.claims, site.k.leases)  # now it counts as a plain consumer's
            await await_until(lambda: site.redis.zcard(site.k.leases))
            site.leases_run_out()
            await await_until(lambda: site.counters().get("reclaimed"))
            go.set()
            await await_until(lambda: len(begun) == 2)
            await site.drained()
        assert SEEN == [("succeeded", job.id)]

    def test_enqueued_is_told_once_for_each_job_that_is_new(self, site: Site) -> None:
        @site.app.on("enqueued")
        def told(event: Event) -> None:
            SEEN.append(event.job_id)

        @site.app.on("enqueued")
        def fail(event: Event) -> None:
            raise RuntimeError

        task = site.app.task(name="t")(lambda: None)
        first = task.options(key="k").enqueue()
        assert task.options(key="k").enqueue().id == first.id
        second = site.app.enqueue("unknown here")
        assert SEEN == [first.id, second.id]
        site.app.close()
