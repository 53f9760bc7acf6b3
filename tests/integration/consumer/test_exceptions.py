"""Whatever a task raises, wrong calls and what ends programs included, becomes a letter that tells of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace import JobFailed
from tests.support.consuming import Site
from tests.support.tasks import BOTH, define, quick
from tests.support.wait import WAIT_S, await_until


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
