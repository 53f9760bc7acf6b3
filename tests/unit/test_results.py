"""How a job ended is told to whoever waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import results, wire
from headrace.errors import JobCancelled, JobFailed, NoResult
from headrace.wire import Error

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_what_a_task_returns_is_what_its_waiter_gets(value: Any) -> None:
    end = results.encode_value(value)
    assert results.value_of("a", end) == value
    assert results.state_of(end) == "done"


@pytest.mark.parametrize("value", [(), [], {}, None, 0, "", False])
def test_nothing_is_a_value_too(value: Any) -> None:
    expected = [] if value == () else value
    assert results.value_of("a", results.encode_value(value)) == expected


def test_a_value_that_is_no_json_is_told_and_the_job_is_done() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (object(), 1j, circle):
        end = results.encode_value(value)
        assert results.state_of(end) == "done"
        with pytest.raises(NoResult, match=rf"job a is done.*\({type(value).__name__}\)"):
            results.value_of("a", end)


def test_a_failure_is_raised_with_its_reason() -> None:
    end = results.encode_error(Error("max_attempts", "ValueError", "no", "Traceback …", 1, "c"))
    assert results.state_of(end) == "dead"
    with pytest.raises(JobFailed, match=r"job a failed \(max_attempts\): ValueError: no") as caught:
        results.value_of("a", end)
    failure = caught.value
    assert (failure.reason, failure.error_type, failure.traceback) == (
        *("max_attempts", "ValueError", "Traceback …"),
    )


def test_a_failure_without_an_exception_says_so() -> None:
    end = results.encode_error(Error("expired"))
    with pytest.raises(JobFailed, match=r"\(expired\): no exception"):
        results.value_of("a", end)


def test_the_payload_of_a_malformed_job_stays_in_its_letter() -> None:
    error = Error("malformed", payload="secret", payload_base64="c2VjcmV0")
    assert b"c2VjcmV0" not in results.encode_error(error)
    assert b"secret" not in results.encode_error(error)


def test_a_cancelled_job_is_told_as_such() -> None:
    assert results.state_of(results.CANCELLED) == "cancelled"
    with pytest.raises(JobCancelled, match="job a was cancelled"):
        results.value_of("a", results.CANCELLED)


class TestFate:
    """A job that left no result: what became of it is found elsewhere."""

    def test_a_cancelled_one_is_told_as_such(self) -> None:
        assert results.of_fate("cancelled", b"") == results.CANCELLED

    def test_a_dead_one_is_told_by_its_letter(self) -> None:
        error = Error("crashed", "ProcessDied", "no", failed_at=1, consumer="c")
        letter = wire.letter(wire.Head("a"), b',"task":"t"}', error)
        assert results.of_fate("dead", letter) == results.encode_error(error)
