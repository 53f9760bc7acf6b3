"""Each job has a context of its own: its context variables, its logs, and the parameter that tells of it."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from headrace import Context
from headrace.context import current_job
from tests.support.consuming import Site
from tests.support.tasks import BOTH, define, quick
from tests.support.wait import await_until

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
