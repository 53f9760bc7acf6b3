"""The log: one line for each transition, and none for success unless somebody asks for it."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from headrace import Headrace, wire
from headrace.consumer import report
from headrace.consumer.claimed import ClaimedJob, read
from headrace.keys import keys_of
from headrace.operations import Outcome
from headrace.wire import Head

app = Headrace("redis://127.0.0.1:1")


@app.task
def known() -> None: ...


@pytest.fixture
def claimed() -> ClaimedJob:
    raw = wire.join(Head("a"), b',"task":"known"}')
    return read(raw, keys_of("mail"), 1, tasks=app.tasks, leased_until=0.0, moved=False)


def test_success_is_silent_unless_debugged(
    claimed: ClaimedJob, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "headrace"):
        report.ended(claimed, Outcome("a", 1, "done"), None)
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "headrace"):
        report.ended(claimed, Outcome("a", 1, "done"), None)
    assert [record.getMessage() for record in caplog.records] == ["done"]


def test_success_beyond_the_timeout_is_told(
    claimed: ClaimedJob, caplog: pytest.LogCaptureFixture
) -> None:
    assert claimed.context is not None
    claimed.context.stop_reason = "timeout"
    report.ended(claimed, Outcome("a", 1, "done"), None)
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == (
        *("WARNING", "done, but late: beyond its timeout"),
    )


def test_what_is_dropped_stands_in_the_log(
    claimed: ClaimedJob, caplog: pytest.LogCaptureFixture
) -> None:
    report.ended(claimed, Outcome("a", 1, "drop"), ValueError("no"))
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == f"failed for good: ValueError: no; dropped: {claimed.job!r}"


def test_what_was_done_is_summed_up_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "headrace"):
        report.sum_up(Counter(), 60.0)
        report.sum_up(Counter({"dead": 3, "done": 1240}), 60.04)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "jobs in the last 60 s: done 1,240, dead 3")
    ]


def test_a_job_of_an_unknown_task_tells_that_the_queue_may_be_shared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = wire.join(Head("a"), b',"task":"unheard_of"}')
    stranger = read(raw, keys_of("mail"), 1, tasks=app.tasks, leased_until=0.0, moved=False)
    report.unrunnable(stranger, Outcome("a", 1, "park", delay_ms=2_000))
    assert caplog.records[0].getMessage() == (
        "no such task here: parked for 2 s. If it is another application's, give each of the two a "
        "queue of its own: Headrace(queue=…)"
    )
