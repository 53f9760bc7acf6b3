"""Jobs of a test run by the consumer's own steps: in order, with retries, dead letters and results."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from headrace import (
    CURRENT,
    Context,
    Headrace,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    NoResult,
    Reject,
    ResultTimeout,
    Retry,
    results_of,
    wire,
)
from headrace.testing import Inline, NotExercised, call


@dataclass
class Order:
    number: int
    paid: bool = False


def test_what_is_due_runs_in_the_order_in_which_a_consumer_would(
    app: Headrace, jobs: Inline
) -> None:
    ran: list[str] = []

    @app.task
    def note(what: str) -> None:
        ran.append(what)

    note.enqueue("first")
    note.options(priority=-1).enqueue("idle")
    note.options(priority=5).enqueue("urgent")
    note.options(queue="other").enqueue("second")
    note.options(delay=1).enqueue("later")
    assert [job.args[0] for job in jobs.pending] == ["urgent", "first", "second", "idle"]
    assert jobs.run() == [
        call(note, "urgent"), call(note, "first"), call(note, "second"), call(note, "idle")
    ]  # fmt: skip
    assert ran == ["urgent", "first", "second", "idle"]
    assert jobs.delayed == [call(note, "later")]
    assert jobs.run() == []
    jobs.advance(1)
    jobs.run()
    assert ran[-1] == "later"


def test_jobs_that_jobs_enqueue_run_too(app: Headrace, jobs: Inline) -> None:
    @app.task
    def down(n: int) -> None:
        if n:
            down.enqueue(n - 1)

    down.enqueue(3)
    assert [job.args for job in jobs.run()] == [(3,), (2,), (1,), (0,)]


def test_time_can_pass_while_jobs_run_each_at_its_own_time(app: Headrace, jobs: Inline) -> None:
    times: list[float] = []
    start = jobs.now

    @app.task
    def tick() -> None:
        times.append((jobs.now - start).total_seconds())
        tick.options(delay=60).enqueue()

    tick.enqueue()
    jobs.run(150)
    assert times == [0, 60, 120]
    assert (jobs.now - start).total_seconds() == 150


def test_a_task_that_never_ends_to_enqueue_itself_is_told_of(app: Headrace, jobs: Inline) -> None:
    @app.task
    def again() -> None:
        again.enqueue()

    again.enqueue()
    with pytest.raises(RuntimeError, match="enqueue itself"):
        jobs.run()


def test_values_go_through_the_same_encoding(app: Headrace, jobs: Inline) -> None:
    seen: list[object] = []

    @app.task(result_ttl=60)
    def pay(order: Order) -> Order:
        seen.append(order)
        return Order(order.number, paid=True)

    order = Order(1)
    job = pay.enqueue(order)
    jobs.run()
    assert seen == [order]
    assert seen[0] is not order
    assert job.result(timeout=1) == Order(1, paid=True) == jobs.result(job) == jobs.result(pay)
    assert job.status() == "done"


def test_a_result_is_kept_for_as_long_as_its_task_says(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60)
    def add(a: int, b: int) -> int:
        return a + b

    job = add.enqueue(1, 2)
    jobs.run()
    jobs.advance(59)
    assert job.result() == 3
    jobs.advance(1)
    with pytest.raises(NoResult):
        job.result(timeout=1)


def test_the_results_of_many_come_as_they_end(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60, max_attempts=1)
    def halve(a: int) -> int:
        if a % 2:
            raise ValueError(a)
        return a // 2

    many = [halve.enqueue(a) for a in (2, 4, 6)]
    assert [job.result() for job in results_of(many)] == [1, 2, 3]
    (odd,) = results_of([halve.enqueue(3)])
    with pytest.raises(ValueError, match="3"):
        odd.result(raises=ValueError)
    late = halve.options(delay=60).enqueue(2)
    with pytest.raises(ResultTimeout, match="advance"):
        list(results_of([late]))
    jobs.advance(60)
    assert list(results_of([late])) == [late]


def test_nobody_hears_what_a_job_tells_while_it_runs(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60)
    def rows(count: int, ctx: Context = CURRENT) -> Generator[int, None, int]:
        for row in range(count):
            ctx.progress(row, count)
            yield row
        return count

    job = rows.enqueue(3)
    assert job.result() == 3 == jobs.result(job)
    questions: list[Callable[[], object]] = [lambda: [*job.stream()], job.progress, job.history]
    for ask in questions:
        with pytest.raises(NotExercised):
            ask()


def test_what_a_task_returns_is_seen_also_when_nobody_keeps_it(app: Headrace, jobs: Inline) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    job = add.enqueue(1, 2)
    with pytest.raises(AssertionError, match="it is pending"):
        jobs.result(job)
    jobs.run()
    assert jobs.result(job) == 3
    with pytest.raises(NoResult, match="keeps no results"):
        job.result()


def test_who_waits_for_a_result_has_what_is_due_run(app: Headrace, jobs: Inline) -> None:
    @app.task(result_ttl=60)
    def add(a: int, b: int) -> int:
        return a + b

    @app.task(result_ttl=60)
    def twice(a: int) -> int:
        return add.enqueue(a, a).result(timeout=5)

    assert twice.enqueue(4).result(timeout=5) == 8
    late = add.options(delay=60).enqueue(1, 1)
    with pytest.raises(ResultTimeout, match="advance"):
        late.result()


def test_a_failure_is_raised_where_jobs_are_run_and_is_retried_all_the_same(
    app: Headrace, jobs: Inline
) -> None:
    attempts: list[tuple[int, int]] = []

    @app.task(max_attempts=3)
    def charge(ctx: Context = CURRENT) -> None:
        attempts.append((ctx.attempt, ctx.delivery))
        raise ConnectionError("the bank is closed")

    charge.enqueue()
    with pytest.raises(ConnectionError, match="the bank is closed"):
        jobs.run()
    (job,) = jobs.delayed
    assert (job.attempt, job.runs, job.state) == (1, 1, "delayed")
    jobs.advance(1.9)
    assert jobs.run() == []
    jobs.advance(0.1)
    jobs.run(raises=False)
    jobs.run(4, raises=False)
    assert attempts == [(1, 0), (2, 1), (3, 2)]
    assert jobs.dead == [call(charge)]
    assert job.reason == "max_attempts"
    error = wire.read_error(job.job)
    assert error is not None
    assert error.message == "the bank is closed"
    assert "raise ConnectionError" in error.traceback
    assert error.failed_at // 1000 == jobs.now.timestamp() // 1
    with pytest.raises(JobFailed, match="the bank is closed") as raised:
        jobs.result(job)
    assert isinstance(raised.value.__cause__, ConnectionError)


def test_failures_of_several_jobs_are_all_told(app: Headrace, jobs: Inline) -> None:
    @app.task
    def fail(what: str) -> None:
        raise ValueError(what)

    fail.enqueue("one")
    fail.enqueue("two")
    with pytest.raises(ValueError, match="one") as raised:
        jobs.run()
    assert raised.value.__notes__ == ["another job failed, too: ValueError: two"]


def test_what_a_task_decides_itself_is_not_raised(app: Headrace, jobs: Inline) -> None:
    @app.task
    def again(ctx: Context = CURRENT) -> None:
        if ctx.attempt == 1:
            raise Retry("not yet", in_=30)

    @app.task
    def never() -> None:
        raise Reject("no such order")

    again.enqueue()
    never.enqueue()
    jobs.run()
    assert jobs.dead == [call(never)]
    assert jobs.dead[0].reason == "rejected"
    jobs.run(30)
    assert jobs.done == [call(again)]


def test_a_failure_is_in_the_log_as_a_consumers_is(
    app: Headrace, jobs: Inline, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(max_attempts=1)
    def fail() -> None:
        raise ValueError("no")

    fail.enqueue()
    with caplog.at_level(logging.INFO):
        jobs.run(raises=False)
    assert "failed for good: ValueError: no" in caplog.text


def test_a_job_that_fits_no_more_is_dead_with_its_reason(app: Headrace, jobs: Inline) -> None:
    before = Headrace()

    @app.task
    def bill(day: date) -> None: ...

    @before.task(name="bill")
    def bill_before(day: str, order: int) -> None: ...

    app.enqueue_many([bill_before.call("today", 5)])
    assert jobs.enqueued == [call("bill", "today", 5)]
    assert jobs.enqueued != [call(bill, date(2026, 1, 2))]
    with pytest.raises(InvalidArguments):
        jobs.run()
    assert jobs.dead[0].reason == "invalid_arguments"


def test_a_job_of_a_task_that_is_not_known_waits_for_a_consumer_that_knows_it(
    app: Headrace, jobs: Inline
) -> None:
    app.enqueue("elsewhere", 1)
    jobs.run()
    (job,) = jobs.delayed
    assert (job.runs, job.delivery) == (0, 1)
    jobs.run(86_500)
    assert jobs.dead[0].reason == "unknown_task"


def test_a_waiting_job_can_be_cancelled_and_a_running_one_is_told(
    app: Headrace, jobs: Inline
) -> None:
    stopped: list[str | None] = []

    @app.task(result_ttl=60)
    def work(ctx: Context = CURRENT) -> None:
        app.job(ctx.job_id).cancel()
        stopped.append(ctx.stop_reason)
        ctx.check()

    waiting, running = work.enqueue(), work.enqueue()
    assert waiting.cancel()
    assert waiting.status() == "cancelled"
    assert not waiting.cancel()
    jobs.run()
    assert stopped == ["cancelled"]
    assert jobs.cancelled == [call(work), call(work)]
    with pytest.raises(JobCancelled):
        running.result()


def test_sync_tasks_run_in_the_thread_of_the_test(app: Headrace, jobs: Inline) -> None:
    @app.task
    def where() -> int:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return threading.get_ident()

    where.enqueue()
    jobs.run()
    assert jobs.result(where) == threading.get_ident()


def test_async_tasks_share_one_loop_and_may_return_what_is_awaited(
    app: Headrace, jobs: Inline
) -> None:
    @app.task
    async def where() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    @app.task
    def hidden() -> Any:
        return asyncio.sleep(0, result=7)

    first, second = where.enqueue(), where.enqueue()
    hidden.enqueue()
    jobs.run()
    assert jobs.result(first) == jobs.result(second)
    assert jobs.result(hidden) == 7


def test_an_async_job_that_runs_out_of_time_is_told_and_tried_again(
    app: Headrace, jobs: Inline
) -> None:
    stopped: list[str | None] = []

    @app.task(timeout=0.01, max_attempts=1)
    async def hang(ctx: Context = CURRENT) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(ctx.stop_reason)

    hang.enqueue()
    jobs.run(raises=False)
    assert stopped == ["timeout"]
    assert jobs.dead[0].reason == "timeout"


def test_jobs_do_not_see_the_variables_of_one_another(app: Headrace, jobs: Inline) -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")

    @app.task
    def look() -> str:
        seen = variable.get()
        variable.set("set by a job")
        return seen

    variable.set("set by the test")
    first, second = look.enqueue(), look.enqueue()
    jobs.run()
    assert jobs.result(first) == jobs.result(second) == "unset"
    assert variable.get() == "set by the test"


def test_ctrl_c_ends_the_test_and_gives_the_job_back(app: Headrace, jobs: Inline) -> None:
    @app.task
    def work() -> None:
        raise KeyboardInterrupt

    work.enqueue()
    with pytest.raises(KeyboardInterrupt):
        jobs.run()
    assert jobs.pending == [call(work)]
    assert (jobs.pending[0].attempt, jobs.pending[0].delivery) == (0, 1)


def test_discovered_tasks_are_known(
    app: Headrace, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace import InvalidSetting
    from headrace.testing import run_inline

    app.discover("no_such_package_of_tasks")
    with pytest.raises(InvalidSetting, match="no_such_package_of_tasks"):
        run_inline(app)
