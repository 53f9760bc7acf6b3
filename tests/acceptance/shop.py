"""An application for tests that run consumers as processes of their own.

Each run of a task leaves a line in the file that HEADRACE_TEST_JOURNAL names: outside Redis, so that
what was run can be held against what Redis says.
"""

import asyncio
import os
import threading

from headrace import Context, Headrace

app = Headrace()
_lock = threading.Lock()


def _write(event: str, ctx: Context, number: int) -> None:
    line = f"{event} {number} {ctx.job_id} {ctx.delivery} {os.getpid()}\n".encode()
    with _lock:
        # One write of less than a page to a file opened for appending is not torn.
        fd = os.open(os.environ["HEADRACE_TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line)
        os.close(fd)


@app.task
def note(number: int, ctx: Context) -> None:
    _write("start", ctx, number)
    _write("end", ctx, number)


@app.task
async def nap(number: int, seconds: float, ctx: Context) -> None:
    _write("start", ctx, number)
    await asyncio.sleep(seconds)
    _write("end", ctx, number)
