"""An application whose jobs kill the process that runs them, each in its own way, and innocents.

Each run leaves a line in the file that HEADRACE_TEST_JOURNAL names: what was run, and in which process.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator

from headrace import CURRENT, Backoff, Context, Headrace, Reject

app = Headrace(backoff=Backoff(base_s=0.1, max_s=0.2), result_ttl=60)


def write(event: str, ctx: Context) -> None:
    line = f"{event} {ctx.job_id} {ctx.delivery} {os.getpid()} {time.monotonic()}\n".encode()
    # One write of less than a page to a file opened for appending is not torn.
    fd = os.open(os.environ["HEADRACE_TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line)
    os.close(fd)


@app.task
def innocent(number: int, ctx: Context = CURRENT, seconds: float = 0.0) -> int:
    write("start", ctx)
    time.sleep(seconds)
    write("end", ctx)
    return number


@app.task
async def ainnocent(number: int, ctx: Context = CURRENT, seconds: float = 0.0) -> int:
    write("start", ctx)
    await asyncio.sleep(seconds)
    write("end", ctx)
    return number


@app.task
def telling(count: int, ctx: Context = CURRENT) -> Iterator[int]:
    write("start", ctx)
    ctx.progress(1, 2, "counting")
    yield from range(count)


@app.task
async def atelling(count: int, ctx: Context = CURRENT) -> AsyncIterator[int]:
    write("start", ctx)
    ctx.progress(1, 2, "counting")
    for number in range(count):
        yield number


@app.task
def poison(how: str, ctx: Context = CURRENT) -> None:
    write("start", ctx)
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "linger":
            linger()
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "hog":
            hog()


@app.task
async def apoison(ctx: Context = CURRENT) -> None:
    write("start", ctx)
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)


def linger() -> None:
    """Work for a while before the kernel ends it, as one that takes too much memory does."""
    time.sleep(1.2)
    os.kill(os.getpid(), signal.SIGKILL)


def hog() -> None:
    """Take memory until there is none, and give up as a C library does."""
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    hoard = []
    with contextlib.suppress(MemoryError):
        hoard.append(b"x" * (120 << 20))  # that it holds …
        hoard.append(bytes(limit))  # … and more than there may be
    os.abort()


class Fussy(Exception):
    """What ``fail`` raises."""


@app.task(retry_on=OSError, max_attempts=2)
def fail(kind: str) -> None:
    raise {"again": OSError("once more"), "never": Fussy("not again"), "reject": Reject("no")}[kind]


@app.task
def obedient(ctx: Context = CURRENT) -> None:
    """Wait to be told to end, and say that it was."""
    logging.getLogger("poison").info("waits")
    write("start", ctx)
    while not ctx.stopping:
        time.sleep(0.01)
    write(f"stopped-{ctx.stop_reason}", ctx)
    ctx.check()


@app.task
def deaf(ctx: Context = CURRENT) -> None:
    """Ignore whatever it is told."""
    write("start", ctx)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


@app.task
async def aobedient(ctx: Context = CURRENT) -> None:
    write("start", ctx)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        write(f"stopped-{ctx.stop_reason}", ctx)
        raise


@app.task
def parent(ctx: Context = CURRENT) -> None:
    """Enqueue another job, wherever the application says that Redis is."""
    innocent.enqueue(1)


def _wrapped() -> None:
    @app.task
    def nested(ctx: Context = CURRENT) -> int:
        write("start", ctx)
        return 7

    @app.task
    async def anested(ctx: Context = CURRENT) -> int:
        write("start", ctx)
        return 8


_wrapped()

bounded = Headrace(max_pending=2)
"""A queue that is full soon."""


@bounded.task
def pebble() -> None:
    """Weigh nothing."""
