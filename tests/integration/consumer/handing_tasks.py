"""An application that new processes find, whose job hands another one on."""

from __future__ import annotations

from headrace import CURRENT, Context, Headrace

app = Headrace("redis://127.0.0.1:1")


@app.task(queue="other")
def note(n: int) -> None: ...


@app.task
def hands_on(n: int, ctx: Context = CURRENT) -> None:
    ctx.enqueue(note.call(n))
