"""Applications with a lifespan, for test_lifespan: what they open and close stands in a journal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from headrace import CURRENT, Context, Headrace, Tasks

JOURNAL = Path(os.environ.get("HEADRACE_TEST_JOURNAL", os.devnull))


def note(*words: object) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(" ".join(map(str, words)) + "\n")


@asynccontextmanager
async def opens_a_pool(app: Headrace) -> AsyncIterator[Mapping[str, Any]]:
    note("opened", os.getpid())
    asyncio.get_running_loop()
    yield {"pool": f"pool-{os.getpid()}", "app": app}
    note("closed", os.getpid())


@contextmanager
def opens_at_once(_: Headrace) -> Iterator[dict[str, str]]:
    note("opened", os.getpid())
    yield {"pool": f"pool-{os.getpid()}"}
    note("closed", os.getpid())


@asynccontextmanager
async def fails(_: Headrace) -> AsyncIterator[None]:
    if JOURNAL.exists():
        raise ConnectionRefusedError("no database at db:5432")
    yield


@asynccontextmanager
async def hangs_at_the_start(_: Headrace) -> AsyncIterator[None]:
    note("opening", os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        note("given-up", os.getpid())
    yield


@asynccontextmanager
async def hangs_at_the_end(_: Headrace) -> AsyncIterator[None]:
    yield
    note("closing", os.getpid())
    await asyncio.Event().wait()


@asynccontextmanager
async def fails_at_the_end(_: Headrace) -> AsyncIterator[None]:
    yield
    raise OSError("the disk is full")


@asynccontextmanager
async def yields_no_mapping(_: Headrace) -> AsyncIterator[Any]:
    yield "pool"
    note("closed", os.getpid())


async def gives_no_context_manager(_: Headrace) -> None: ...


library = Tasks()


@library.task
async def use(number: int, ctx: Context = CURRENT) -> None:
    note("used", number, ctx.state.pool, ctx.state is CURRENT.state)


@library.task
def use_in_a_thread(number: int, ctx: Context = CURRENT) -> None:
    note("used", number, ctx.state.pool, ctx.state is CURRENT.state)


@library.task
async def die_twice(ctx: Context = CURRENT) -> None:
    """Run in a process of its own the third time."""
    if ctx.delivery < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    note("used", ctx.delivery, ctx.state.pool, os.getpid())


@library.task
def die_twice_in_a_thread(ctx: Context = CURRENT) -> None:
    if ctx.delivery < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    note("used", ctx.delivery, ctx.state.pool, os.getpid())


@library.task
async def plain() -> None:
    note("ran")


def made(lifespan: Any) -> Headrace:
    app = Headrace(lifespan=lifespan)
    app.include(library)
    return app


asynchronous, synchronous = made(opens_a_pool), made(opens_at_once)
failing, hanging, stuck = made(fails), made(hangs_at_the_start), made(hangs_at_the_end)
unclosable, nameless = made(fails_at_the_end), made(yields_no_mapping)
mistaken, without = made(gives_no_context_manager), made(None)
