"""An application with hooks and dependencies that new processes find: it writes down what they do."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

from headrace import CURRENT, INJECTED, Backoff, Context, Depends, Event, Headrace, Reject

app = Headrace("redis://127.0.0.1:1", max_attempts=1)


def note(*words: object) -> None:
    path = os.environ.get("HEADRACE_TEST_JOURNAL")
    if path is not None:
        with Path(path).open("a") as journal:
            journal.write(" ".join(map(str, (*words, os.getpid()))) + "\n")


@app.around_run
def outer(ctx: Context) -> Iterator[None]:
    note("outer", "in")
    yield
    note("outer", "out")


@app.around_run
async def inner(ctx: Context) -> AsyncIterator[None]:
    note("inner", "in")
    yield
    note("inner", "out")


@app.on("started", "succeeded")
def told(event: Event) -> None:
    note("told", event.name)


@app.on("enqueued", "failed", "retried", "dead")
def told_of_apart(event: Event) -> None:
    if event.task in ("apart", "elsewhere"):
        note("told", event.name, event.task)


async def session() -> AsyncIterator[str]:
    note("session", "in")
    yield "session"
    note("session", "out")


@app.task
def use(db: Annotated[str, Depends(session)] = INJECTED) -> None:
    note("use", db)


@app.task
async def use_async(db: Annotated[str, Depends(session)] = INJECTED) -> None:
    note("use", db)


@app.task(queue="elsewhere")
def elsewhere(n: int) -> None: ...


@app.task(isolate="process", max_attempts=2, backoff=Backoff(base_s=0))
def apart(end: str, ctx: Context = CURRENT) -> None:
    note("run", end)
    elsewhere.enqueue(1)
    ctx.enqueue(elsewhere.call(2))
    if end == "retried" and ctx.attempt == 1:
        raise ValueError(end)
    if end == "dead":
        raise Reject(end)
