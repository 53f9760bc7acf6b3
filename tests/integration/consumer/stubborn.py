"""An application whose tasks do not end when they are told to, for consumers as processes."""

import asyncio
import threading

from headrace import Context
from tests.acceptance.shop import _write, app
from tests.support.wait import bound


@app.task
async def swallow(number: int, ctx: Context) -> None:
    _write("start", ctx, number)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@app.task
async def hang_in_a_thread(number: int, ctx: Context) -> None:
    _write("start", ctx, number)
    await asyncio.to_thread(threading.Event().wait, 60)


@app.task
def hang(number: int, ctx: Context) -> None:
    _write("start", ctx, number)
    threading.Event().wait(bound(60))
