"""How a job ended is told to whoever waits for it."""

from __future__ import annotations

import datetime as dt
import math
import traceback
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import results, wire
from headrace.errors import InvalidArguments, JobCancelled, JobFailed, NoResult
from headrace.plain import plain_copy, traceback_of
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


class Refused(Exception):
    """One of an application's own, whose constructor is nobody's business but the task's."""

    made = 0

    def __init__(self, order: int, *, code: str) -> None:
        super().__init__(f"order {order} was refused")
        Refused.made += 1
        self.code = code


class RefusedTwice(Refused):
    """One below it."""


def end_of(error: BaseException) -> bytes:
    """Encode the end of a job whose task raised this."""
    try:
        raise error
    except BaseException as raised:
        copy = plain_copy(raised)
    told = wire.error_of(
        "max_attempts", copy, traceback=traceback_of(copy), failed_at=1, consumer="c"
    )
    return results.encode_error(told, copy)


def failed_by(error: BaseException, *raises: type[BaseException]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is what the tests ask
        results.value_of("a", end_of(error), raises)
    return caught.value


class TestWhatTheTaskRaised:
    """It is raised again: as the cause of JobFailed, or as itself where the waiter names its class."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("no", 3),
            KeyError("k"),
            FileNotFoundError(2, "gone"),
            ZeroDivisionError(),
            InvalidArguments("x"),
        ],
        ids=repr,
    )
    def test_pythons_and_our_own_are_the_cause(self, error: Exception) -> None:
        failed = failed_by(error)
        assert type(failed) is JobFailed
        assert type(failed.__cause__) is type(error)
        assert str(failed.__cause__) == str(error)
        assert failed.__cause__.args == error.args

    def test_the_remote_traceback_stands_above_it(self) -> None:
        failed = failed_by(ValueError("no"))
        assert failed.__cause__ is not None
        remote = failed.__cause__.__cause__
        assert type(remote).__name__ == "RemoteTraceback"
        assert "raise error" in str(remote)
        shown = "".join(traceback.format_exception(failed))
        assert shown.index("RemoteTraceback") < shown.index("ValueError: no\n\nThe above")

    def test_one_that_was_not_named_is_its_traceback_alone(self) -> None:
        failed = failed_by(Refused(7, code="late"))
        assert type(failed) is JobFailed
        assert type(failed.__cause__).__name__ == "RemoteTraceback"

    @pytest.mark.parametrize("named", [Refused, Exception, (OSError, Refused)])
    def test_one_that_the_waiter_names_is_raised_itself(self, named: Any) -> None:
        error = RefusedTwice(7, code="late")
        made = Refused.made
        failed = failed_by(error, *(named if isinstance(named, tuple) else (named,)))
        assert type(failed) is RefusedTwice
        assert str(failed) == "order 7 was refused"
        assert failed.code == "late"
        assert Refused.made == made, "its constructor must not run again"
        assert failed.__notes__ == ["raised in job a, which failed: max_attempts"]

    def test_a_class_beside_those_that_were_named_is_not_found(self) -> None:
        assert type(failed_by(Refused(7, code="late"), RefusedTwice)) is JobFailed

    def test_one_that_ends_a_program_does_not_end_the_waiters(self) -> None:
        for error in SystemExit(3), KeyboardInterrupt(), GeneratorExit():
            assert type(failed_by(error)) is JobFailed
            assert type(failed_by(error, BaseException)) is JobFailed

    def test_a_foreign_class_of_a_builtins_name_is_not_taken_for_it(self) -> None:
        foreign = type("ConnectionError", (Exception,), {"__module__": "requests.exceptions"})
        assert type(failed_by(foreign("no"), ConnectionError)) is JobFailed

    @pytest.mark.parametrize("args", [(b"raw",), (object(),), ("x" * 5_000,), (1j,), ("\ud800",)])
    def test_what_json_cannot_carry_leaves_the_text(self, args: tuple[Any, ...]) -> None:
        cause = failed_by(ValueError(*args)).__cause__
        assert type(cause) is ValueError
        assert cause.args == (str(plain_copy(ValueError(*args)))[:1_000],)

    def test_what_cannot_be_made_of_a_text_is_its_traceback_alone(self) -> None:
        error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")
        assert type(failed_by(error).__cause__).__name__ == "RemoteTraceback"
        group = ExceptionGroup("two", [ValueError(1), ValueError(2)])
        assert type(failed_by(group).__cause__).__name__ == "RemoteTraceback"

    @pytest.mark.parametrize(
        "raised",
        [
            {"name": "system", "module": "os"},
            {"name": "Popen", "module": "subprocess", "args": ["true"]},
            {"name": "eval", "module": "builtins", "args": ["1"]},
            {"name": "object", "module": "builtins"},
            {"name": "wire", "module": "headrace.errors"},
            {"name": "ValueError.__new__", "module": "builtins"},
        ],
    )
    def test_what_stands_in_redis_names_nothing_else(self, raised: dict[str, Any]) -> None:
        end = {"state": "dead", "error": {"reason": "x", "traceback": "t"}, "raised": raised}
        with pytest.raises(JobFailed) as caught:
            results.value_of("a", msgspec.json.encode(end), (Exception,))
        assert type(caught.value.__cause__).__name__ == "RemoteTraceback"

    def test_an_attribute_from_redis_replaces_nothing_of_the_class(self) -> None:
        raised = {"name": "Refused", "module": __name__, "args": ["no"], "state": {"__class__": 1}}
        end = {"state": "dead", "error": {"reason": "x"}, "raised": raised}
        with pytest.raises(Refused, match="no"):
            results.value_of("a", msgspec.json.encode(end), (Refused,))

    def test_an_end_of_an_older_version_has_no_cause(self) -> None:
        with pytest.raises(JobFailed) as caught:
            results.value_of("a", results.encode_error(Error("max_attempts", "ValueError", "no")))
        assert caught.value.__cause__ is None
