"""Consumers are lost at points that the test names, so that it can see what its tasks make of that."""

from __future__ import annotations

import pytest

from headrace import CURRENT, Context, Headrace, wire
from headrace.testing import Crash, Inline, call


def test_after_the_run_its_outcome_is_lost_and_the_job_runs_again(
    app: Headrace, jobs: Inline
) -> None:
    seen: list[tuple[int, int]] = []

    @app.task(result_ttl=60)
    def charge(order: int, ctx: Context = CURRENT) -> int:
        seen.append((ctx.attempt, ctx.delivery))
        return len(seen)

    job = charge.enqueue(5)
    jobs.crash(after=charge)
    assert jobs.run() == [call(charge, 5), call(charge, 5)]
    # No attempt is charged: the task did not fail.
    assert seen == [(1, 0), (1, 1)]
    assert (jobs.job(job).delivery, jobs.job(job).crashes, jobs.job(job).runs) == (1, 1, 2)
    assert job.result() == 2


def test_before_the_run_the_function_is_not_called(app: Headrace, jobs: Inline) -> None:
    seen: list[int] = []

    @app.task
    def charge(ctx: Context = CURRENT) -> None:
        seen.append(ctx.delivery)

    charge.enqueue()
    jobs.crash(before=charge, times=2)
    jobs.run()
    assert seen == [2]


def test_a_stand_in_can_lose_the_consumer_deep_inside_a_task(app: Headrace, jobs: Inline) -> None:
    charged: list[str] = []

    def bank(key: str) -> None:
        charged.append(key)
        if len(charged) == 1:
            raise Crash

    @app.task
    def charge(ctx: Context = CURRENT) -> None:
        bank(ctx.job_id)

    charge.enqueue()
    jobs.run()
    assert len(charged) == 2
    assert len(set(charged)) == 1
    assert jobs.done[0].crashes == 1


def test_five_crashes_end_a_job_in_the_dead_letters(app: Headrace, jobs: Inline) -> None:
    @app.task
    def charge() -> None: ...

    charge.enqueue()
    jobs.crash(after=charge, times=9)
    jobs.run()
    (dead,) = jobs.dead
    assert (dead.reason, dead.crashes, dead.delivery, dead.runs) == ("crashed", 5, 5, 5)
    error = wire.read_error(dead.job)
    assert error is not None
    assert error.message == "its consumer was lost 5 times while it ran"


def test_a_failure_that_nobody_heard_of_is_no_attempt(app: Headrace, jobs: Inline) -> None:
    attempts: list[int] = []

    @app.task
    def fail(ctx: Context = CURRENT) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            raise ValueError("no")

    fail.enqueue()
    jobs.crash(after=fail)
    jobs.run()
    assert attempts == [1, 1]


def test_a_job_that_was_cancelled_meanwhile_does_not_come_back(app: Headrace, jobs: Inline) -> None:
    @app.task
    def work(ctx: Context = CURRENT) -> None:
        app.job(ctx.job_id).cancel()
        raise Crash

    work.enqueue()
    jobs.run()
    assert jobs.cancelled == [call(work)]


def test_forgotten_jobs_take_the_crashes_that_were_to_come_along(
    app: Headrace, jobs: Inline
) -> None:
    @app.task
    def work() -> None: ...

    jobs.crash(after=work)
    jobs.clear()
    work.enqueue()
    jobs.run()
    assert jobs.job(work).crashes == 0


def test_a_job_that_is_asked_for_by_its_task_is_the_only_one(app: Headrace, jobs: Inline) -> None:
    @app.task
    def work() -> None: ...

    with pytest.raises(AssertionError, match="0 jobs of work"):
        jobs.job(work)
    with pytest.raises(AssertionError, match="was not enqueued in this test"):
        jobs.job("nothing")
