"""Tasks that keep memory, or hang in a call of C code."""

from __future__ import annotations

from queue import SimpleQueue

from headrace import Context
from tests.acceptance.shop import _write, app

__all__ = ["app"]

kept: list[bytearray] = []


@app.task
def keep(number: int, mib: int, ctx: Context) -> None:
    _write("start", ctx, number)
    kept.append(bytearray(b"\1") * (mib << 20))
    _write("end", ctx, number)


@app.task(timeout=0.1, max_attempts=1)
def hang(number: int, ctx: Context) -> None:
    _write("start", ctx, number)
    SimpleQueue[None]().get()
