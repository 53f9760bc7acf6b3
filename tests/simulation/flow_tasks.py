"""The tasks of such runs: members of workflows, tasks that hand on, limited ones, batches, ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace import Batch, Context, Headrace
from tests.simulation.checker import MAX_ATTEMPTS
from tests.simulation.flow_checker import BURST, CAP, RATE, FlowChecker
from tests.simulation.scenario import Untold

Body = Callable[..., Awaitable[None]]
"""What each does: ``Scenario.run``."""


def following(app: Headrace, checker: FlowChecker, run: Body) -> None:
    """Add tasks that follow others, and get what those return."""

    async def member(key: int, ms: int, value: Any, how: str) -> int:
        checker.given(key, value)
        await run(key, ms, how)
        return key

    @app.task(name="link")
    async def link(key: int, ms: int, value: Any = None) -> int:
        return await member(key, ms, value, "ok")

    @app.task(name="narrow", concurrency_limit=1)
    async def narrow(key: int, ms: int, value: Any = None) -> int:
        return await member(key, ms, value, "ok")

    @app.task(name="flawed")
    async def flawed(key: int, ms: int, value: Any = None) -> int:
        """Fail so often that it dies; when it is redriven, all is well."""
        failed = sum(one.how == "failed" for one in checker.jobs[key].runs)
        return await member(key, ms, value, "failed" if failed < MAX_ATTEMPTS else "ok")

    @app.task(name="hand_on")
    async def hand_on(key: int, ms: int, others: list[tuple[int, int]], ctx: Context) -> None:
        for other, delay_ms in others:
            ctx.enqueue(link.options(delay=delay_ms / 1000).call(other, ms))
        await run(key, ms)


def limited(app: Headrace, run: Body) -> None:
    """Add tasks under each kind of limit."""

    @app.task(name="capped", concurrency_limit=CAP)
    async def capped(key: int, ms: int) -> None:
        await run(key, ms)

    @app.task(name="keyed", concurrency_limit=1, limit_by=lambda key, ms, tenant: tenant)
    async def keyed(key: int, ms: int, tenant: str) -> None:
        await run(key, ms)

    @app.task(name="rated", rate_limit=f"{RATE}/s", burst=BURST)
    async def rated(key: int, ms: int) -> None:
        await run(key, ms)


def together(app: Headrace, checker: FlowChecker) -> None:
    """Add a task that takes batches; some jobs fail at the first attempt, and the others do not."""

    @app.batch_task(name="together", size=4, within=0.3)
    async def together(batch: Batch[int]) -> None:
        runs = [(item, checker.begin(item.value)) for item in batch]
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            for _, one in runs:
                checker.end(one, "stopped")
            raise
        for item, one in runs:
            fails = item.value % 5 == 0 and item.ctx.attempt == 1
            checker.end(one, "failed" if fails else "ok")
            if fails:
                item.fail(Untold(f"job {item.value}"))


def ticking(app: Headrace, checker: FlowChecker, run: Body) -> None:
    """Add the task of the schedule."""

    @app.task(name="tick")
    async def tick(key: int, ctx: Context) -> None:
        at = ctx.scheduled_at
        assert at is not None
        checker.ticked(ctx.job_id, round(at.timestamp() * 1000))
        await run(key, 10)
