"""The tasks of ``benchmarks.against``: no more than every version has had."""

from __future__ import annotations

from headrace import Headrace

app = Headrace()


@app.task(queue="async")
async def nothing_async() -> None:
    """Do nothing."""


@app.task(queue="sync")
def nothing_sync() -> None:
    """Do nothing, in a thread."""
