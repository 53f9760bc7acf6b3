"""The tasks of ``benchmarks.features``: each does nothing, in a queue that is named as its feature."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from headrace import CURRENT, INJECTED, Batch, Context, Depends, Event, Headrace

app = Headrace()
app.limit_queue("fair", fair_by="tenant")
hooked, hooked_sync, hooked_async, heard = Headrace(), Headrace(), Headrace(), Headrace()


@app.task(queue="plain")
async def plain(n: int) -> None:
    """Do nothing."""


@app.task(queue="plain-sync")
def plain_sync(n: int) -> None:
    """Do nothing, in a thread."""


@app.task(queue="unique")
async def unique(n: int) -> None:
    """Do nothing, once for each key."""


@app.task(queue="delayed")
async def delayed(n: int) -> None:
    """Do nothing, later."""


@app.task(queue="priority")
async def priority(n: int) -> None:
    """Do nothing, before or after others."""


@app.task(queue="expires")
async def expires(n: int) -> None:
    """Do nothing, if it is not too late."""


@app.task(queue="timeouts", soft_timeout=50, timeout=60)
async def timeouts(n: int) -> None:
    """Do nothing, within a time."""


@app.task(queue="results", result_ttl=600)
async def results(n: int) -> int:
    """Give something that is kept."""
    return n


@app.task(queue="progress", result_ttl=600)
async def progress(n: int, ctx: Context = CURRENT) -> int:
    """Say once how far it is."""
    ctx.progress(n, n)
    return n


def connection() -> Iterator[object]:
    """Give what a job needs, and take it back."""
    yield object()


@app.task(queue="dependencies")
async def depends(n: int, db: Annotated[object, Depends(connection)] = INJECTED) -> None:
    """Do nothing, with what it needs."""


@hooked.around_run
@hooked_sync.around_run
def hook(_: Context) -> Iterator[None]:
    """Do nothing, around a run."""
    yield


@hooked_async.around_run
async def async_hook(_: Context) -> AsyncIterator[None]:
    """Do nothing, around a run."""
    yield


@hooked.task(queue="hook")
async def under_hook(n: int) -> None:
    """Do nothing, under a hook."""


@hooked_sync.task(queue="hook-sync")
def under_hook_sync(n: int) -> None:
    """Do nothing in a thread, under a hook there."""


@hooked_async.task(queue="async-hook-sync")
def under_async_hook(n: int) -> None:
    """Do nothing in a thread, under a hook on the event loop."""


@heard.task(queue="events")
async def told(n: int) -> None:
    """Do nothing, and be heard of."""


@heard.on("succeeded")
def hear(event: Event) -> None:
    """Do nothing with it."""


@app.batch_task(queue="batches", size=100, within=0.1)
async def batched(batch: Batch[int]) -> None:
    """Do nothing, for a hundred jobs at once."""


@app.task(queue="hand-off")
async def handed_on(n: int) -> None:
    """Do nothing."""


@app.task(queue="hand-off")
async def hands_on(n: int, ctx: Context = CURRENT) -> None:
    """Hand another job on."""
    ctx.enqueue(handed_on.call(n))


@app.task(queue="chain")
async def link(n: int) -> None:
    """Do nothing, one after the other."""


@app.task(queue="group")
async def member(n: int) -> None:
    """Do nothing, beside others."""


@app.task(queue="group")
async def nothing_more() -> None:
    """Do nothing, after all of them."""


@app.task(queue="chord")
async def gives(n: int) -> int:
    """Give something to what follows."""
    return n


@app.task(queue="chord")
async def takes(numbers: list[int]) -> None:
    """Take what the others gave."""


@app.task(queue="concurrency", concurrency_limit=1_000)
async def capped(n: int) -> None:
    """Do nothing, under a limit that never holds anybody back."""


@app.task(queue="limit-by", concurrency_limit=1_000, limit_by="n")
async def keyed(n: int) -> None:
    """Do nothing, with a limit for each of a hundred keys."""


@app.task(queue="rate", rate_limit="1000000/s")
async def fast(n: int) -> None:
    """Do nothing, at a rate that is never reached."""


@app.task(queue="fair")
async def turns(tenant: int) -> None:
    """Do nothing, in turn."""


@app.task(queue="own-process", isolate="process")
async def isolated(n: int) -> None:
    """Do nothing, in a process of its own."""


for _part in (hooked, hooked_sync, hooked_async, heard):
    app.include(_part)
