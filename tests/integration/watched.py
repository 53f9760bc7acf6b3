"""An application for tests of probes: a task that keeps the event loop to itself until a file is there."""

import time
from pathlib import Path

from headrace import Context
from tests.acceptance.shop import _write, app
from tests.support.wait import bound


@app.task
async def wedge(number: int, until: str, ctx: Context) -> None:
    _write("start", ctx, number)
    deadline = time.monotonic() + bound(60)
    while not Path(until).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    _write("end", ctx, number)
