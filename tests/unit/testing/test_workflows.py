"""Workflows in memory: they begin, follow, fail and are cancelled as on a server, also those that jobs hand on."""

from __future__ import annotations

import pytest

from headrace import (
    CURRENT,
    RESULT,
    Context,
    Headrace,
    JobCancelled,
    JobFailed,
    NoResult,
    QueueFull,
    Reject,
    ResultTimeout,
    chain,
    chord,
    group,
)
from headrace.testing import Inline, call, run_inline

app = Headrace(max_attempts=1, max_pending=50)


@app.task
def add(a: int, b: int = 1) -> int:
    return a + b


@app.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def broken() -> int:
    raise Reject("broken")


@app.task
def hands_on(fails: bool = False, ctx: Context = CURRENT) -> str:  # noqa: FBT001, FBT002
    first = ctx.enqueue(chord([add.call(n) for n in range(60)], total.call(RESULT)), window=3)
    if fails:
        raise OSError
    return first


@pytest.fixture
def jobs():  # type: ignore[no-untyped-def]
    with run_inline(app) as inline:
        yield inline


def test_what_a_job_hands_on_begins_when_it_is_done(jobs: Inline) -> None:
    job = hands_on.enqueue()
    assert jobs.enqueued == [call(hands_on)]
    jobs.run()
    flow = app.workflow(jobs.result(job))
    assert flow.result(timeout=0) == sum(range(1, 61))
    assert jobs.job(total).args == ([*range(1, 61)],)
    assert flow.status()[:4] == ("done", 61, 61, 0)


def test_who_fails_starts_none(jobs: Inline) -> None:
    hands_on.enqueue(fails=True)
    jobs.run(raises=False)
    assert jobs.enqueued == [call(hands_on, fails=True)]


def test_only_the_window_is_enqueued_at_a_time(jobs: Inline) -> None:
    flow = group(add.call(n) for n in range(10)).enqueue(window=4)
    assert len(jobs.pending) == 4
    assert flow.status()[:4] == ("running", 10, 0, 4)
    assert flow.result() == list(range(1, 11))  # who waits lets them run


async def test_it_is_awaited(jobs: Inline) -> None:
    flow = await chain(add.call(1), add.call(RESULT, 10)).aenqueue()
    assert await flow.aresult() == 12
    assert not await flow.acancel()


def test_it_stops_at_a_dead_member(jobs: Inline) -> None:
    flow = chain(group(broken.call(), add.call(1)), total.call(RESULT)).enqueue()
    jobs.run()
    with pytest.raises(JobFailed, match="rejected"):
        flow.result()
    (dead,) = flow.status().failed
    assert (dead.n, dead.reason, dead.message, dead.queue) == (0, "rejected", "broken", "queue")
    assert not jobs.jobs_of(total)


def test_it_goes_on_past_one_if_it_is_to(jobs: Inline) -> None:
    flow = group(broken.call(), add.call(1)).enqueue(on_failure="continue")
    first, second = flow.result()
    assert (first["error"]["reason"], second) == ("rejected", 2)


@pytest.mark.parametrize("how", ["crashed", "cancelled"])
def test_a_member_that_ends_without_a_consumer_is_seen(jobs: Inline, how: str) -> None:
    flow = chain(add.call(1), add.call(RESULT)).enqueue()
    if how == "crashed":
        jobs.crash(before=add, times=5)
    else:
        assert app.job(jobs.job(add).id).cancel()
    jobs.run()
    (dead,) = flow.status().failed
    assert (dead.n, dead.reason) == (0, how)


def test_it_is_cancelled_with_its_members(jobs: Inline) -> None:
    flow = chain(group(add.call(n) for n in range(5)), total.call(RESULT)).enqueue(window=2)
    assert flow.cancel()
    assert jobs.run() == []
    assert len(jobs.cancelled) == 2
    assert flow.status().state == "cancelled"
    with pytest.raises(JobCancelled):
        flow.result()


def test_time_stands_still_for_who_waits_for_it(jobs: Inline) -> None:
    flow = chain(add.options(delay=60).call(1), add.call(RESULT)).enqueue(ttl=5)
    with pytest.raises(ResultTimeout, match="advance"):
        flow.result()
    jobs.advance(60)
    assert flow.result() == 3
    jobs.advance(6)
    assert flow.status().state == "unknown"
    with pytest.raises(NoResult):
        flow.result()


def test_a_bound_of_waiting_jobs_holds_for_producers(jobs: Inline) -> None:
    with pytest.raises(QueueFull, match="has 0 jobs waiting"):
        group(add.call(n) for n in range(51)).enqueue()
    assert not jobs.enqueued


def test_a_clean_slate_has_none(jobs: Inline) -> None:
    flow = group(add.call(1)).enqueue()
    jobs.clear()
    assert flow.status().state == "unknown"
    assert not flow.cancel()
