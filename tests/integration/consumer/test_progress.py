"""How far a job is: told while it runs, by the current run alone, and at most once a second."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace import CURRENT, Backoff, Context, Headrace, InvalidSetting, Progress
from headrace import operations as op
from headrace.ids import new_id
from headrace.operations import Outcome
from headrace.reports import progress, reporter
from headrace.reports.keys import progress_of
from headrace.scripts import script
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Site, a_store, hold_as
from tests.support.proxy import Proxy
from tests.support.tasks import BOTH, Crowd
from tests.support.wait import WAIT_S, await_until


def telling(site: Site, kind: str, crowd: Crowd, *told: Any) -> Any:
    """Make a task that tells this, and waits."""

    async def tell_async(ctx: Context = CURRENT) -> None:
        for one in told:
            ctx.progress(*one)
        await crowd.avisit()

    def tell(ctx: Context = CURRENT) -> None:
        for one in told:
            ctx.progress(*one)
        crowd.visit()

    return site.app.task(name="tell")(tell if kind == "sync" else tell_async)


async def told_of(job: Any, *, past: float = -1.0) -> Progress:
    """Wait for a progress of a job."""

    found: Progress | None = None
    while found is None or found.done <= past:
        await asyncio.sleep(0.01)
        found = await job.aprogress()
    return found


@BOTH
async def test_others_see_how_far_a_job_is(site: Site, kind: str) -> None:
    crowd = Crowd()
    task = telling(site, kind, crowd, (1, 10), (340, 1000, "loading"))
    async with site.consumer():
        job = await task.aenqueue()
        found = await asyncio.wait_for(told_of(job, past=1), WAIT_S)
        assert (found.done, found.total, found.note) == (340, 1000, "loading")
        assert (found.attempt, found.delivery, found.share) == (1, 0, 0.34)
        assert str(found) == "340 of 1,000 (34 %): loading"
        now_ms = int(site.redis.time()[0]) * 1000
        assert abs(now_ms - found.at_ms) < WAIT_S * 1000
        assert await site.app.job(job.id).aprogress() == found
        assert 0 < site.redis.pttl(progress_of(site.k, job.id)) <= progress.KEPT_MS
        crowd.open.set()
        await site.drained()


async def test_each_of_two_consumers_in_a_process_tells_of_its_own_jobs(site: Site) -> None:
    crowd = Crowd()
    task = telling(site, "async", crowd, (1, 2))
    async with site.consumer(), site.consumer(queues="other"), site.consumer():
        jobs = [await task.aenqueue(), await task.options(queue="other").aenqueue()]
        for job in jobs:
            assert (await asyncio.wait_for(told_of(job), WAIT_S)).total == 2
        crowd.open.set()
        await site.drained()
        await await_until(lambda: not site.redis.exists("other:processing"))


async def test_a_job_that_tells_nothing_has_none_and_no_thread_begins(site: Site) -> None:
    @site.app.task(result_ttl=60)
    async def quiet() -> list[str]:
        return [one.name for one in threading.enumerate()]

    async with site.consumer():
        job = await quiet.aenqueue()
        assert "headrace-reports" not in await job.aresult(timeout=WAIT_S)
        assert await job.aprogress() is None
    assert await site.app.job(new_id()).aprogress() is None


async def test_a_thousand_calls_are_one_request(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr(reporter, "TELL_EVERY_S", 600.0)
    crowd = Crowd()
    requests: list[int] = []
    tell = progress.tell

    def counted(k: Any, consumer: str, told: Any) -> Any:
        requests.append(len(told))
        return tell(k, consumer, told)

    monkeypatch.setattr(reporter, "tell", counted)
    task = telling(site, "sync", crowd, *((n, 1000) for n in range(1000)))
    async with site.consumer():
        job = await task.aenqueue()
        await asyncio.wait_for(told_of(job), WAIT_S)
        assert requests == [1]
        crowd.open.set()
        await site.drained()


@pytest.mark.parametrize(
    "wrong", [(-1,), (1, -1), ("half",), (float("nan"),), (float("inf"),), (True,), (1, 1 << 60)]
)
async def test_what_is_no_progress_is_refused_in_the_task(site: Site, wrong: Any) -> None:
    @site.app.task(max_attempts=1)
    async def tell(ctx: Context = CURRENT) -> None:
        with pytest.raises(InvalidSetting, match="progress: .* must be a number"):
            ctx.progress(*wrong)

    async with site.consumer():
        await tell.aenqueue()
        await site.drained()
    assert site.letters() == []


async def test_a_note_of_any_length_and_kind_is_cut(site: Site) -> None:
    crowd = Crowd()
    task = telling(site, "async", crowd, (1, None, "\ud800" + "x" * 1000))
    async with site.consumer():
        found = await asyncio.wait_for(told_of(await task.aenqueue()), WAIT_S)
        assert found.note.startswith("\\ud800xx")
        assert len(found.note) < 250
        assert str(found).startswith("1: ")
        crowd.open.set()
        await site.drained()


def test_outside_of_a_job_it_is_told_to_nobody() -> None:
    CURRENT.progress(1, 2)


async def test_the_next_run_tells_its_own(site: Site) -> None:
    crowd = Crowd()

    @site.app.task(backoff=Backoff(base_s=0))
    async def tell(ctx: Context = CURRENT) -> None:
        ctx.progress(ctx.attempt * 10)
        if ctx.attempt == 1:
            await asyncio.sleep(0.1)
            raise ValueError("again")
        await crowd.avisit()

    async with site.consumer():
        job = await tell.aenqueue()
        found = await asyncio.wait_for(told_of(job, past=10), WAIT_S)
        assert (found.done, found.attempt, found.delivery) == (20, 2, 1)
        crowd.open.set()
        await site.drained()


async def test_a_claim_that_was_lost_tells_nothing(site: Site, store: AsyncStore) -> None:
    """The script: under the current token alone, however late or often it is sent."""
    ids = [(await site.app.aenqueue("far")).id for _ in range(2)]
    await hold_as(site, "a", 2, lease_ms=60_000)

    async def tell(consumer: str, claim: int, done: int) -> list[str]:
        told = [progress.Told(ids[0], claim, Progress(done))]
        return await store.run(progress.tell(site.k, consumer, told))

    assert await tell("a", 1, 5) == []
    assert await tell("a", 2, 6) == [ids[0]]  # another claim's number
    assert await tell("b", 1, 7) == [ids[0]]
    assert await tell("", 1, 7) == [ids[0]]
    assert site.redis.get(progress_of(site.k, ids[0])).startswith(b'{"done":5,')
    release = Outcome(ids[0], 1, "release")
    assert await store.run(op.settle(site.k, "a", [release])) == []
    assert await tell("a", 1, 8) == [ids[0]]
    assert site.redis.get(progress_of(site.k, ids[0])).startswith(b'{"done":5,')


async def test_what_somebody_else_wrote_there_is_none(site: Site) -> None:
    job = site.app.job(new_id())
    for wrong in (b"", b"{}", b"[1]", b'{"done":"a"}', b"\xff"):
        site.redis.set(progress_of(site.k, job.id), wrong)
        assert await job.aprogress() is None


@pytest.mark.parametrize("fault", ["cut", "swallow", "break"])
async def test_what_is_lost_on_the_way_is_told_again(
    site: Site, proxy: Proxy, app: Headrace, fault: Any
) -> None:
    crowd = Crowd()
    task = telling(site, "async", crowd, (7,))
    sha = script("reports/progress")
    site.redis.script_load(sha.source)
    async with site.consumer(app, lease=QUICK):
        proxy.fail_next(fault, sha.sha.encode())
        job = await task.aenqueue()
        await await_until(lambda: proxy.failures == 1)
        assert (await asyncio.wait_for(told_of(job), WAIT_S)).done == 7
        crowd.open.set()
        await site.drained()


@pytest.fixture
async def store(site: Site) -> AsyncIterator[AsyncStore]:
    async with a_store(site.url) as store:
        yield store
