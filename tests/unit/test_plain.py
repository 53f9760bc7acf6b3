"""A plain copy tells all that can be told of an exception, and runs none of its code any more."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from headrace import plain
from tests.support.hostile import SHAPES, Hostile, hostile_error


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_special_method_raises_the_name_and_the_place_are_told(shape: str) -> None:
    copy = plain.plain_copy(raised(hostile_error(shape, SystemExit)))
    assert type(copy).__name__ == "Hostile"
    text = plain.traceback_of(copy)
    assert "Hostile" in text
    assert "raise error" in text
    repr(copy), str(copy), copy == copy, hash(copy), copy.__cause__, traceback.format_exc()


def test_a_text_that_cannot_be_made_is_told_as_such() -> None:
    class Evil(Exception):
        def __str__(self) -> str:
            raise SystemExit(1)

    copy = plain.plain_copy(Evil())
    assert str(copy) == "its text could not be made: SystemExit was raised"


def test_causes_contexts_notes_and_groups_are_copied() -> None:
    inner = ValueError("inner")
    inner.add_note("a note")
    group = ExceptionGroup("many", [inner, KeyError("k")])
    try:
        raise RuntimeError("outer") from group
    except RuntimeError as error:
        expected = "".join(traceback.format_exception(error))
        assert plain.traceback_of(plain.plain_copy(error)) == expected


def test_a_ring_of_causes_is_copied_as_a_ring() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    copy = plain.plain_copy(one)
    assert plain.traceback_of(copy).count("ValueError: one") == 1
    assert str(copy.__cause__) == "other"


def test_of_a_long_chain_the_last_ones_are_copied() -> None:
    error: BaseException = ValueError("first")
    for number in range(5_000):
        later = ValueError(number)
        later.__cause__, error = error, later
    text = plain.traceback_of(plain.plain_copy(error))
    assert "ValueError: 4999" in text
    assert "first" not in text


def test_a_text_that_is_not_utf_8_is_written_with_escapes() -> None:
    assert str(plain.plain_copy(OSError("\udcff"))) == r"\udcff"


def test_a_text_of_a_class_of_its_own_becomes_a_plain_one() -> None:
    class Text(str):
        __slots__ = ()

    class Odd(Exception):
        def __str__(self) -> str:
            return Text("odd")

    assert type(plain.plain_copy(Odd()).args[0]) is str


def test_a_metaclass_has_no_say_in_the_name() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit

        def __hash__(cls) -> int:
            raise SystemExit

    kind: Any = Meta("Shown", (Exception,), {})
    assert plain.name_of(kind) == "Shown"
    assert type(plain.plain_copy(BaseException.__new__(kind))).__name__ == "Shown"


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError(1), raised(RuntimeError({"a": [1, None]})), TimeoutError()],
)
def test_pythons_own_exceptions_are_plain(error: BaseException) -> None:
    assert plain.is_plain_error(error) is (type(error) is not TimeoutError)


@pytest.mark.parametrize("change", ["argument", "note", "cause", "attribute"])
def test_one_that_holds_something_else_is_not(change: str) -> None:
    error = ValueError("x")
    if change == "argument":
        error.args = (Hostile("str"),)
    elif change == "note":
        error.__notes__ = [Hostile("str")]
    elif change == "cause":
        error.__cause__ = hostile_error("str", SystemExit)
    else:
        vars(error)["what"] = Hostile("str")
    assert not plain.is_plain_error(error)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        ({"a": [1, 2.5, (b"x", "y")], "b": {"c": True}}, True),
        (list(range(1_000)), False),
        ({1, 2}, False),
        (object(), False),
        ([Hostile("str")], False),
    ],
)
def test_small_values_of_pythons_own_types_are_plain(value: object, expected: bool) -> None:
    assert plain.is_plain(value) is expected


def test_a_value_that_holds_itself_is_not_plain() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert not plain.is_plain(ring)


@pytest.mark.parametrize("make", [lambda: Hostile("str"), lambda: hostile_error("str", SystemExit)])
def test_a_log_line_that_cannot_be_made_ends_nobody(
    make: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from headrace import logs

    value = make()
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        error = value if isinstance(value, BaseException) else raised(ValueError())
        record = logging.LogRecord("x", 40, "f", 1, "%s", (value,), (type(error), error, None))
        assert "a log message could not be made: SystemExit was raised" in formatter.format(record)
