"""The tasks of ``benchmarks.flow``, and their limits."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from redis.asyncio import Redis

from headrace import Headrace

SMALL: Final = "flow:small"
"""Counts the jobs of the small tenants that have ended."""

HELD: Final = "flow:held"
"""Counts the jobs that hold the only slot."""

app = Headrace()
app.limit_queue("fair", fair_by="tenant")
redis: Redis = Redis.from_url(os.environ.get("HEADRACE_URL", "redis://127.0.0.1:6379/0"))


@app.task(queue="rated", rate_limit="100/s")
async def rated(n: int) -> None:
    """Do nothing, a hundred times a second."""


@app.task(queue="fair")
async def tenants(tenant: str) -> None:
    """Take 10 ms, for one tenant."""
    await asyncio.sleep(0.01)
    if tenant != "big":
        await redis.incr(SMALL)


@app.task(queue="held", concurrency_limit=1)
async def hold(_: int) -> None:
    """Take the only slot, for good."""
    await redis.incr(HELD)
    await asyncio.sleep(1_000)
