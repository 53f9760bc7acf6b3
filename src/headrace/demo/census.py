"""The work of the demo: the application that its consumers run."""

from __future__ import annotations

import os
from typing import Final

from headrace import Backoff, Context, Headrace
from headrace.demo import tasks
from headrace.demo.tasks import RESULT_TTL_S, FileCount

TASK: Final = "count_file"
ATTEMPTS: Final = 3


class Counted(FileCount):
    """What a job returns: the counts, and who made them, in which delivery of the job."""

    pid: int
    delivery: int


app = Headrace(result_ttl=RESULT_TTL_S)


# Short delays before the retries (0.2 s, then 0.4 s): the failures on purpose should not take minutes.
@app.task(name=TASK, max_attempts=ATTEMPTS, backoff=Backoff(base_s=0.2, jitter=False))
def count(path: str, ctx: Context) -> Counted:
    """Count a file, as ``headrace.demo.tasks.count_file`` does.

    Raises:
        OSError: the file cannot be read.
    """
    return {**tasks.count_file(path), "pid": os.getpid(), "delivery": ctx.delivery}
