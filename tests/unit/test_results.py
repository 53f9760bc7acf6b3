"""How a job ended is told to whoever waits for it."""

from __future__ import annotations

import datetime as dt
import math
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


@pytest.mark.parametrize("value", [[], {}, None, 0, "", False])
def test_nothing_is_a_value_too(value: Any) -> None:
    assert results.value_of("a", results.encode_value(value)) == value


@pytest.mark.parametrize(
    ("value", "told"), [((1, 2), [1, 2]), ({"at": [(1, (2, 3))]}, {"at": [[1, [2, 3]]]}), ((), [])]
)
def test_tuples_come_back_as_lists(value: Any, told: Any) -> None:
    assert results.value_of("a", results.encode_value(value)) == told


class Hostile:
    """Its comparison raises, as that of an array does."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("which elements?")


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
UNTOLD: list[tuple[Any, str]] = [
    (object(), "an object does not come back equal"),
    (1j, "a complex does not come back equal"),
    (CIRCLE, "nested too deeply, or holds itself"),
    (math.nan, "nan does not come back equal"),
    ({"rates": [1.0, math.inf]}, r"at \['rates'\]\[1\]: inf does not come back equal"),
    ((1, {2}), r"at \[1\]: a set does not come back equal from JSON; pass a list"),
    ({1, 2}, "a set does not"),
    (b"raw", "a bytes does not"),
    (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "a datetime does not"),
    ({1: "a"}, "the key 1 does not"),
    (Hostile(), "a Hostile does not"),
    ("\ud800", "str"),
    ("x" * wire.DEFAULT_MAX_BYTES, "1,048,[0-9]{3} bytes; the limit is 1,048,576"),
    (["x" * 600_000, "y" * 600_000], "1,200,[0-9]{3} bytes; the limit is"),
]


@pytest.mark.parametrize(("value", "why"), UNTOLD, ids=lambda one: str(one)[:20])
def test_a_value_that_would_come_back_as_another_is_not_told_and_the_job_is_done(
    value: Any, why: str
) -> None:
    end = results.encode_value(value)
    assert results.state_of(end) == "done"
    assert len(end) < 500
    with pytest.raises(NoResult, match=f"job a is done, but its result is not told.*: .*{why}"):
        results.value_of("a", end)


def test_a_value_as_large_as_a_job_may_be_is_told() -> None:
    bare = len(results.encode_value(""))
    value = "x" * (wire.DEFAULT_MAX_BYTES - bare)
    assert results.value_of("a", results.encode_value(value)) == value


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
        assert results.of_place("cancelled", b"") == results.CANCELLED

    def test_a_dead_one_is_told_by_its_letter(self) -> None:
        error = Error("crashed", "ProcessDied", "no", failed_at=1, consumer="c")
        letter = wire.letter(wire.Head("a"), b',"task":"t"}', error)
        assert results.of_place("dead", letter) == results.encode_error(error)

    def test_one_whose_letter_says_nothing_has_failed(self) -> None:
        end = results.of_place("dead", b'{"id":"a","task":"t"}')
        assert end is not None
        with pytest.raises(JobFailed, match="unknown"):
            results.value_of("a", end)

    @pytest.mark.parametrize("place", ["pending", "processing", "delayed", "unknown"])
    def test_one_that_goes_on_has_no_end(self, place: str) -> None:
        assert results.of_place(place, b"{}") is None
