"""An application whose jobs are members of workflows; some kill the process that runs them."""

from __future__ import annotations

import os
import signal
from typing import Any

from headrace import CURRENT, Backoff, Context, Headrace

app = Headrace(backoff=Backoff(base_s=0.1, max_s=0.2))


@app.task
def good(n: int) -> int:
    return n


@app.task
def deadly(n: int) -> int:
    """Kill its process, each time."""
    os.kill(os.getpid(), signal.SIGKILL)
    return n


@app.task
def deadly_once(n: int, ctx: Context = CURRENT) -> int:
    """Hand on, and kill its process before that is committed; the second run ends well."""
    ctx.enqueue(good.options(queue="elsewhere").call(n))
    if ctx.delivery == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@app.task
def whole(values: list[Any]) -> list[Any]:
    return values
