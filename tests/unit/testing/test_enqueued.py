"""What a test sees of the jobs that were enqueued, and what it expects."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from unittest.mock import ANY

import pytest

from headrace import Headrace, InvalidArguments, InvalidJob, QueueFull, ReplyLost, StoreUnavailable
from headrace.keys import keys_of
from headrace.operations import is_paused
from headrace.testing import Inline, NotExercised, call, run_inline


def test_what_was_enqueued_equals_the_expected_calls(app: Headrace, jobs: Inline) -> None:
    @app.task
    def send_mail(order: int, *, copy: bool = False) -> None: ...

    send_mail.enqueue(5)
    send_mail.enqueue(6, copy=True)
    app.enqueue("send_mail", 7)
    assert jobs.enqueued == [call(send_mail, 5), call(send_mail, 6, copy=True), call(send_mail, 7)]
    assert jobs.enqueued != [call(send_mail, 5), call(send_mail, 6), call(send_mail, 7)]
    assert call(send_mail, order=5) in jobs.enqueued
    assert call(send_mail, ANY) in jobs.enqueued
    assert call(send_mail, 8) not in jobs.enqueued
    assert call("send_mail", 5) in jobs.enqueued


def test_an_expected_call_that_nobody_could_make_is_refused(app: Headrace) -> None:
    @app.task
    def send_mail(order: int) -> None: ...

    with pytest.raises(InvalidArguments, match="order"):
        call(send_mail)  # type: ignore[call-overload]


def test_options_are_compared_where_they_are_given(app: Headrace, jobs: Inline) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    add.options(delay=60, priority=3, queue="other", key="a b", max_attempts=9).enqueue(1, 2)
    assert jobs.enqueued == [call(add, 1, 2)]
    assert jobs.enqueued == [call(add.options(delay=timedelta(minutes=1), key="a b"), 1, 2)]
    assert jobs.enqueued == [call(add.options(queue="other", max_attempts=9), 1, 2)]
    assert jobs.enqueued != [call(add.options(delay=61), 1, 2)]
    assert jobs.enqueued != [call(add.options(max_attempts=8), 1, 2)]


def test_a_failed_assertion_shows_jobs_as_they_would_be_written(
    app: Headrace, jobs: Inline
) -> None:
    @app.task
    def add(a: int, b: int = 0) -> int:
        return a + b

    add.options(delay=1.5, queue="other").enqueue(1, b=2)
    shown = "call(add.options(queue='other', delay=1.5), 1, b=2)"
    assert repr(jobs.enqueued) == f"[{shown}]"
    assert repr(call(add.options(queue="other", delay=1.5), 1, b=2)) == shown
    assert repr(jobs) == f"Inline({shown} delayed)"


def test_arguments_are_seen_as_the_function_gets_them(app: Headrace, jobs: Inline) -> None:
    @app.task
    def bill(day: date) -> None: ...

    bill.enqueue(date(2026, 1, 2))
    assert jobs.enqueued == [call(bill, date(2026, 1, 2))]
    assert jobs.enqueued[0].job.endswith(b'"args":["2026-01-02"]}')


def test_arguments_that_json_would_change_are_refused_as_ever(app: Headrace, jobs: Inline) -> None:
    @app.task
    def untyped(anything) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(InvalidJob, match="a set does not come back equal"):
        untyped.enqueue({1})
    assert jobs.enqueued == []


def test_jobs_are_recorded_from_whatever_thread(app: Headrace, jobs: Inline) -> None:
    @app.task
    def note(number: int) -> None: ...

    threads = [threading.Thread(target=note.enqueue, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {job.args[0] for job in jobs.jobs_of(note)} == set(range(20))


def test_jobs_with_a_key_are_enqueued_once_until_they_end(app: Headrace, jobs: Inline) -> None:
    @app.task
    def sync(user: int) -> None: ...

    keyed = sync.options(key="user-1")
    first, second = keyed.enqueue(1), keyed.enqueue(1)
    assert first.id == second.id
    assert len(jobs.enqueued) == 1
    jobs.run()
    assert keyed.enqueue(1).id != first.id
    held = sync.options(key="user-2", key_ttl=60)
    before = held.enqueue(2)
    jobs.run()
    assert held.enqueue(2).id == before.id
    jobs.advance(60)
    assert held.enqueue(2).id != before.id


def test_a_full_queue_takes_no_more(app: Headrace) -> None:
    small = Headrace(queue="small", max_pending=2)
    with run_inline(small) as jobs:
        small.enqueue("x")
        with pytest.raises(QueueFull):
            small.enqueue_many([small.call("x"), small.call("x")])
        small.enqueue("x")
        assert len(jobs.enqueued) == 2


def test_redis_can_be_taken_away_and_replies_be_lost(app: Headrace, jobs: Inline) -> None:
    @app.task
    def send_mail(order: int) -> None: ...

    with jobs.unavailable(), pytest.raises(StoreUnavailable):
        send_mail.enqueue(1)
    assert jobs.enqueued == []
    with jobs.replies_lost(), pytest.raises(ReplyLost):
        send_mail.enqueue(2)
    job = send_mail.enqueue(3)
    assert jobs.enqueued == [call(send_mail, 2), call(send_mail, 3)]
    with jobs.unavailable(), pytest.raises(StoreUnavailable):
        job.status()


def test_what_only_redis_can_tell_is_refused_and_says_so(app: Headrace, jobs: Inline) -> None:
    with pytest.raises(NotExercised, match="real one"):
        app.producer().store.run(is_paused(keys_of("shop")))


def test_an_application_that_is_pointed_elsewhere_still_keeps_its_jobs(
    app: Headrace, jobs: Inline
) -> None:
    app.use("redis://127.0.0.1:2/0")
    app.enqueue("anything")
    assert len(jobs.enqueued) == 1


def test_the_application_has_its_own_producer_back_afterwards(app: Headrace) -> None:
    with run_inline(app):
        with run_inline(app) as inner:
            app.enqueue("inner")
        app.enqueue("outer")
    assert [job.task for job in inner.enqueued] == ["inner"]
    with pytest.raises(StoreUnavailable):
        app.enqueue("redis")


def test_jobs_can_be_forgotten_between_two_parts_of_a_test(app: Headrace, jobs: Inline) -> None:
    app.enqueue("one")
    jobs.clear()
    assert jobs.enqueued == []
    assert jobs.run() == []


def test_an_instant_is_seen_by_the_clock_of_the_test(app: Headrace, jobs: Inline) -> None:
    @app.task
    def later() -> None: ...

    later.options(at=jobs.now + timedelta(hours=1)).enqueue()
    later.options(at=datetime.now(UTC)).enqueue()
    later.options(at=1_700_000_000.123).enqueue()
    assert [job.state for job in jobs.enqueued] == ["delayed", "pending", "pending"]
    assert repr(jobs.enqueued[2]) == "call(later.options(at=1700000000.123))"
    jobs.advance(timedelta(hours=1))
    assert [job.state for job in jobs.enqueued] == ["pending"] * 3
