"""An application whose job hands a workflow on, in processes that are killed on the way, once, where POINT says.

``ack``: the job has run. ``begin``: it is acked, and what starts the workflow is not run yet. ``begun``: that has
run, and is not acked.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace import CURRENT, RESULT, Backoff, Context, Headrace, chain, group
from headrace.supervisor import forward
from headrace.workflows.handing import begun

app = Headrace(backoff=Backoff(base_s=0.1, max_s=0.2))
AWAY = os.environ.get("AWAY", "queue")  # the home of the workflow


def die_once(point: str) -> None:
    marker = Path(os.environ.get("MARKER", "/nonexistent/marker"))
    if os.environ.get("POINT") == point and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def deadly(carried: str) -> Iterator[Any]:
    die_once("begin")
    yield from begun(carried)
    die_once("begun")


vars(forward)["begun"] = deadly  # which its starters call


@app.task
def plus(n: int, m: int = 1) -> int:
    return n + m


@app.task
def whole(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(result_ttl=600)
def hands_on(ctx: Context = CURRENT) -> str:
    parts = group(plus.options(queue=AWAY).call(n) for n in range(10))
    flow_id = ctx.enqueue(chain(parts, whole.call(RESULT), plus.call(RESULT)), window=4)
    die_once("ack")
    return flow_id
