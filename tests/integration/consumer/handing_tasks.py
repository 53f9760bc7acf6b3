"""An application that new processes find, whose job hands another one on."""

from __future__ import annotations

from headrace import CURRENT, RESULT, Context, Headrace, chain

app = Headrace("redis://127.0.0.1:1")


@app.task(queue="other")
def note(n: int) -> None: ...


@app.task
def hands_on(n: int, ctx: Context = CURRENT) -> None:
    ctx.enqueue(note.call(n))


@app.task
def same(n: int) -> int:
    return n


@app.task
def hands_a_workflow_on(n: int, ctx: Context = CURRENT) -> None:
    ctx.enqueue(chain(same.call(n), note.call(RESULT)))
