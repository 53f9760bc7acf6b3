"""An application whose tasks run within limits, in processes of their own: those find it by its module."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from headrace import CURRENT, Backoff, Context, Headrace, Reject, Retry

app = Headrace("redis://127.0.0.1:1", backoff=Backoff(base_s=0), result_ttl=600, max_attempts=2)


def begin(mark: str) -> None:
    """Say in which process a run has begun."""
    with Path(mark).open("a") as file:
        file.write(f"{os.getpid()}\n")


def wait_until(look: Callable[[], bool]) -> None:
    """Wait as long as the test does: what the tests wait with measures the machine when it is imported."""
    while not look():
        time.sleep(0.01)


@app.task(isolate="process")
def process() -> int:
    return os.getpid()


@app.task(isolate="process")
async def aprocess() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@app.task(isolate="process")
def meet(mine: str, other: str) -> bool:
    """End when another one runs at the same time."""
    begin(mine)
    wait_until(Path(other).exists)
    return True


@app.task(isolate="process")
def fail(kind: str) -> None:
    raise {"again": OSError("once more"), "retry": Retry(in_=0), "reject": Reject("no")}[kind]


@app.task(isolate="process", timeout=1, max_attempts=1)
def hang(mark: str) -> None:
    begin(mark)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # as C code that does not return
    wait_forever()


def wait_forever() -> None:
    while True:
        signal.pause()


@app.task(isolate="process")
def stay(mark: str, ctx: Context = CURRENT) -> None:
    begin(mark)
    wait_until(lambda: ctx.stopping)
    begin(f"{mark}-{ctx.stop_reason}")
    ctx.check()


@app.task(isolate="process")
async def astay(mark: str, ctx: Context = CURRENT) -> None:
    begin(mark)
    try:
        await asyncio.Event().wait()
    finally:
        begin(f"{mark}-{ctx.stop_reason}")


@app.task(isolate="process")
def die(mark: str) -> None:
    begin(mark)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(isolate="process", memory="128M")
def hold(mib: int) -> int:
    """Take so much memory, and use it."""
    return len(bytearray(b"x") * (mib << 20)) >> 20


@app.task(isolate="process", memory="128M")
async def ahold(mib: int) -> int:
    await asyncio.sleep(0)
    return len(bytearray(b"x") * (mib << 20)) >> 20


@app.task(isolate="process", memory="128M", give_up_on=MemoryError)
def hold_once(mib: int) -> int:
    return len(bytearray(mib << 20))


@app.task(isolate="process", cpu=1, max_attempts=1)
def spin(*, deaf: bool) -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            if not deaf:
                raise


@app.task(soft_timeout=0.1)
def wind_up(ctx: Context = CURRENT) -> str:
    wait_until(lambda: ctx.stopping)
    return str(ctx.stop_reason)


@app.task(soft_timeout=0.1)
async def awind_up(ctx: Context = CURRENT) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return str(ctx.stop_reason)
    return ""


@app.task(soft_timeout=0.1, isolate="process")
def wind_up_alone(ctx: Context = CURRENT) -> str:
    wait_until(lambda: ctx.stopping)
    return str(ctx.stop_reason)


@app.task(soft_timeout=0.1, isolate="process")
async def awind_up_alone(ctx: Context = CURRENT) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return str(ctx.stop_reason)
    return ""


def _wrapped() -> None:
    @app.task(isolate="process")
    def nested(mark: str) -> None:
        begin(mark)


_wrapped()
