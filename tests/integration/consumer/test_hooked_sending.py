"""What is sent in other ways than by ``enqueue`` passes the hooks, too; and who hears of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    CURRENT,
    RESULT,
    Backoff,
    Context,
    Dag,
    EnqueueRequest,
    Event,
    Headrace,
    InvalidSetting,
    QueueFull,
    chain,
    group,
)
from headrace.schedules import adefinitions_of
from tests.integration.consumer import hooked_tasks
from tests.support.consuming import Site, lent
from tests.support.jobs import jobs
from tests.support.journal import lines_of
from tests.support.wait import WAIT_S, await_until

OTHER = "other"
SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _seen_anew() -> None:
    SEEN.clear()


def mark(app: Headrace) -> None:
    """Let each job have a header, and note what was seen of it."""

    @app.around_enqueue
    def around(request: EnqueueRequest) -> Iterator[None]:
        request.headers["by"] = f"a hook of {request.task}"
        yield
        SEEN.append((request.task, request.job_id, request.schedule))


def mark_async(app: Headrace) -> None:
    @app.around_enqueue
    async def around(request: EnqueueRequest) -> AsyncIterator[None]:
        request.headers["by"] = "an async hook"
        yield


class TestHandOff:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    async def test_what_a_job_hands_on_passes_the_hooks_and_is_told_when_redis_has_it(
        self, site: Site, kind: str
    ) -> None:
        told: list[tuple[str, bool]] = []
        mark(site.app)

        @site.app.on("enqueued")
        def hear(event: Event) -> None:
            there = event.job_id in [job["id"] for job in jobs(site.redis, event.queue)]
            told.append((event.job_id, there))

        @site.app.task(queue=OTHER)
        def note(n: int) -> None: ...

        def hands_on(ctx: Context = CURRENT) -> None:
            SEEN.clear()
            SEEN.append(ctx.enqueue(note.options(timeout=3).call(1)))
            SEEN.append(ctx.enqueue(site.app.call("unknown here", 2)))
            told.clear()

        async def hands_on_async(ctx: Context = CURRENT) -> None:
            hands_on(ctx)

        task = site.app.task(name="hands_on")(hands_on if kind == "sync" else hands_on_async)
        await task.aenqueue()
        async with site.consumer(max_jobs=1) as running:
            await running.ended()
        (one,) = jobs(site.redis, OTHER)
        assert one["headers"] == {"by": "a hook of note"}
        assert one["timeout"] == 3
        (unknown,) = jobs(site.redis, site.k.queue)
        assert unknown["headers"] == {"by": "a hook of unknown here"}
        assert SEEN == [
            *(("note", one["id"], ""), one["id"]),
            *(("unknown here", unknown["id"], ""), unknown["id"]),
        ]
        assert told == [(one["id"], True)]

    async def test_of_a_run_that_fails_nothing_is_told_to_be_enqueued(self, site: Site) -> None:
        site.app.on("enqueued")(lambda event: SEEN.append(event.task))

        @site.app.task(queue=OTHER)
        def note(n: int) -> None: ...

        @site.app.task(max_attempts=2, backoff=Backoff(base_s=0))
        def hands_on(ctx: Context = CURRENT) -> None:
            ctx.enqueue(note.call(ctx.attempt))
            ctx.enqueue(note.options(key="k").call(ctx.attempt))  # nobody says if that was free
            if ctx.attempt == 1:
                raise ValueError

        await hands_on.aenqueue()
        async with site.consumer():
            await site.drained()
        assert SEEN == ["hands_on", "note"]

    async def test_an_async_hook_cannot_stand_there(self, site: Site) -> None:
        mark_async(site.app)

        @site.app.task(max_attempts=1)
        async def hands_on(ctx: Context = CURRENT) -> None:
            ctx.enqueue(hands_on.call())

        await hands_on.aenqueue()
        async with site.consumer():
            (letter,) = await site.died()
        assert letter["error"]["type"] == "InvalidSetting"


class TestWorkflows:
    async def test_all_members_pass_the_hooks_when_it_is_started(self, site: Site) -> None:
        mark(site.app)
        told: list[str] = []
        site.app.on("enqueued")(lambda event: told.append(event.job_id))

        @site.app.task
        def add(a: int, b: int, ctx: Context = CURRENT) -> int:
            assert ctx.headers == {"by": "a hook of add"}
            return a + b

        @site.app.task
        def total(numbers: list[int], ctx: Context = CURRENT) -> int:
            assert ctx.headers == {"by": "a hook of total"}
            return sum(numbers)

        flow = chain(group(add.call(1, 2), add.call(3, 4)), total.call(RESULT)).enqueue()
        ids = [f"{flow.id}-{n:06}" for n in range(3)]
        assert told == ids
        assert SEEN == [(t, i, "") for t, i in zip(("total", "add", "add"), ids[::-1], strict=True)]
        async with site.consumer():
            assert await flow.aresult(timeout=WAIT_S) == 10

    async def test_of_an_awaited_start_async_hooks_may_change_the_calls(self, site: Site) -> None:
        mark_async(site.app)

        @site.app.around_enqueue
        def double(request: EnqueueRequest) -> Iterator[None]:
            request.args = tuple(n * 2 if isinstance(n, int) else n for n in request.args)
            yield

        @site.app.task
        def add(a: int, b: int, ctx: Context = CURRENT) -> int:
            assert ctx.headers == {"by": "an async hook"}
            return a + b

        dag = Dag()
        first = dag.add(add.call(1, 2))
        dag.add(add.options(priority=2).call(first.result, 5))
        with pytest.raises(InvalidSetting, match="async"):
            dag.enqueue()
        flow = await dag.aenqueue()
        async with site.consumer():
            assert await flow.aresult(timeout=WAIT_S) == 6 + 10

    async def test_one_that_is_refused_is_told_by_nobody(self, site: Site) -> None:
        full = site.another_app(max_pending=1)
        mark(full)
        full.on("enqueued")(lambda event: SEEN.append(event.name))
        task = full.task(name="t")(lambda: None)
        with pytest.raises(QueueFull):
            group(task.call(), task.call()).enqueue()
        assert SEEN == []


class TestSchedules:
    def test_one_that_is_added_passes_the_hooks_once(self, site: Site) -> None:
        mark(site.app)
        site.app.on("enqueued")(lambda event: SEEN.append(event))
        task = site.app.task(name="t")(lambda: None)
        site.app.schedules.add("often", task.options(priority=4).call(), every=30)
        (raw,) = site.redis.hvals("headrace:schedules")
        said = json.loads(raw)
        assert said["job"]["headers"] == {"by": "a hook of t"}
        assert said["priority"] == 4
        assert SEEN == [("t", "", "often")]

    async def test_those_in_code_pass_them_when_a_consumer_starts(self, site: Site) -> None:
        @site.app.task
        def beat(n: int) -> None: ...

        beat.options(priority=4).every(30, args=(1,))
        mark(site.app)  # later than what it stands around
        (declared,) = site.app.declared_schedules().values()
        assert b'"headers":{"by":"a hook of beat"}' in bytes(declared.job)
        assert declared.priority == 4
        assert SEEN == [("beat", "", "beat")]
        mark_async(site.app)
        with pytest.raises(InvalidSetting, match="async"):
            site.app.declared_schedules()
        (declared,) = (await adefinitions_of(site.app.tasks)).values()
        assert b'"headers":{"by":"an async hook"}' in bytes(declared.job)
        with pytest.raises(InvalidSetting, match="async"):
            site.app.schedules.add("more", beat.call(2), every=30)
        await site.app.schedules.aadd("more", beat.call(2), every=30)


class TestOfRunsApart:
    @pytest.mark.parametrize("end", ["succeeded", "retried", "dead"])
    async def test_events_of_a_job_in_a_process_of_its_own_are_told(
        self, site: Site, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = tmp_path / "journal"
        journal.touch()
        monkeypatch.setenv("HEADRACE_TEST_JOURNAL", str(journal))
        run = ["told started", "outer in", "inner in", f"run {end}", "told enqueued elsewhere"]
        well = [*run, "inner out", "outer out", "told succeeded", "told enqueued elsewhere"]
        expected = {
            "succeeded": well,
            "retried": [*run, "told failed apart", "told retried apart", *well],
            "dead": [*run, "told failed apart", "told dead apart"],
        }[end]

        def words() -> list[str]:
            return [" ".join(line[:-1]) for line in lines_of(journal)]

        async with lent(site, hooked_tasks.app):
            await hooked_tasks.apart.aenqueue(end)
            async with site.consumer():
                await await_until(lambda: len(words()) > len(expected), what="its end is told")
        assert words() == ["told enqueued apart", *expected]


async def test_a_job_that_came_too_late_is_told_to_be_dead_and_not_to_have_failed(
    site: Site,
) -> None:
    site.app.on("started", "failed", "dead")(
        lambda event: SEEN.append((event.name, event.attempt, str(event.error)))
    )
    task = site.app.task(name="t")(lambda: None)
    await task.options(expires=datetime(2020, 1, 1, tzinfo=UTC)).aenqueue()
    async with site.consumer():
        await site.died()
    ((name, attempt, error),) = SEEN
    assert (name, attempt) == ("dead", 0)
    assert "at the latest" in error
