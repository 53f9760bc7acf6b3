"""Batch tasks that new processes find: they write down what they were called with."""

from __future__ import annotations

import os
import time
from pathlib import Path

from headrace import Batch, Headrace

app = Headrace(max_attempts=1)


def note(*words: object) -> None:
    with Path(os.environ["HEADRACE_TEST_JOURNAL"]).open("a") as journal:
        journal.write(" ".join(map(str, words)) + "\n")


@app.batch_task(size=10, within=600)
async def together(batch: Batch[int]) -> None:
    note("ran", *sorted(batch.values))


@app.batch_task(size=10, within=600)
def in_a_thread(batch: Batch[int]) -> None:
    note("ran", *sorted(batch.values))


@app.batch_task(size=3, within=600)
def held(batch: Batch[int]) -> None:
    note("begun", *sorted(batch.values))
    while all(item.ctx.delivery == 0 for item in batch):
        time.sleep(0.01)
    note("ran", *sorted(batch.values))
