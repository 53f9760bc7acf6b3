"""A job that takes too long is told to end; for a sync one that goes on see test_sync_limits.py."""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace import Context
from headrace.clock import monotonic
from headrace.consumer import executor
from tests.support.consuming import Site
from tests.support.wait import await_until, wait_until


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

        begun = threading.Event()

        @site.app.task(max_attempts=1)
        def slow(ctx: Context) -> None:
            begun.set()
            wait_until(lambda: ctx.stopping)
            reasons.append(ctx.stop_reason)
            ctx.check()

        async with site.consumer() as running:
            await slow.options(timeout=600).aenqueue()  # type: ignore[call-arg]
            await await_until(begun.is_set)  # before its time is over, however slow the machine is
            [claimed] = running.consumer._slots.running
            claimed.deadline = monotonic()
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
