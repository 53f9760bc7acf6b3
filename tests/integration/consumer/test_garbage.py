"""A job leaves nothing to the garbage collector: its objects end when it does."""

from __future__ import annotations

import gc

import pytest

from tests.support.consuming import Site
from tests.support.tasks import BOTH, define
from tests.support.wait import await_until

JOBS = 200


@BOTH
@pytest.mark.parametrize("raises", [False, True], ids=["done", "failed"])
async def test_a_job_leaves_no_objects_in_a_circle(site: Site, kind: str, raises: bool) -> None:
    ended = 0

    def work() -> None:
        nonlocal ended
        ended += 1
        if raises:
            raise ValueError(ended)

    task = define(site.app, kind, work, max_attempts=1)

    async def run(jobs: int) -> None:
        before = ended
        await site.app.aenqueue_many(task.call() for _ in range(jobs))
        await await_until(lambda: ended == before + jobs)
        await site.drained()

    async with site.consumer():
        await run(JOBS)  # what is made once is made
        gc.collect()
        gc.disable()
        try:
            await run(JOBS)
            left = gc.collect()
        finally:
            gc.enable()
    assert left < JOBS
