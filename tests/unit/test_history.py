"""The runs of a job stand beside its result: the last one with its end, which stays what it was."""

from __future__ import annotations

import pytest

from headrace import history, results, wire
from headrace.history import Run

RUN = Run("c", 1, 2, "done", delivery=3)
ENDS = {
    "value": results.encode_value([1]),
    "unreadable": results.encode_unreadable(object()),
    "cancelled": results.CANCELLED,
    "dead": results.encode_error(wire.Error("rejected", message='}{","run":1}'), ValueError(1)),
}


def listed(*deliveries: int) -> list[bytes]:
    return [history.encode(Run("c", 1, 2, "retry", delivery=n)) for n in deliveries]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_end_tells_of_the_last_run_and_is_what_it_was(end: bytes) -> None:
    told = history.with_run(end, RUN)
    assert history.last_of(told) == RUN
    assert history.last_of(end) is None
    assert results.state_of(told) == results.state_of(end)
    assert told.startswith(end[:-1])


def test_a_value_that_looks_like_a_run_is_none() -> None:
    end = results.encode_value({"run": {"consumer": "x"}})
    assert history.last_of(end) is None
    assert results.value_of("a", history.with_run(end, RUN)) == {"run": {"consumer": "x"}}


def test_runs_are_given_in_their_order_and_the_last_one_after_them() -> None:
    runs = history.of(listed(0, 1), RUN)
    assert [run.delivery for run in runs] == [0, 1, 3]
    assert runs[-1] == RUN
    assert history.of([], None) == []


def test_the_end_of_a_job_that_was_redriven_stands_before_its_new_runs() -> None:
    assert [run.delivery for run in history.of(listed(0, 4, 5), RUN)] == [0, 3, 4, 5]


def test_the_last_ten_are_given() -> None:
    assert [run.delivery for run in history.of(listed(*range(4, 20)), RUN)] == [*range(10, 20)]


@pytest.mark.parametrize("foreign", [b"", b"[]", b"null", b'{"consumer":1}', b"\xff", b"[" * 5000])
def test_what_somebody_else_has_written_there_is_passed_over(foreign: bytes) -> None:
    assert history.of([*listed(0), foreign], RUN) == history.of(listed(0), RUN)
