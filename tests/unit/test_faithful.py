"""What JSON would change silently is refused at the caller, with its place and what to pass instead."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Headrace, InvalidJob, faithful


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Size(enum.StrEnum):
    BIG = "big"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):  # noqa: SLOT000
    pass


class Odd(dict[str, int]):
    """A dict that cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")


@dataclasses.dataclass
class Order:
    number: int


class Record(msgspec.Struct):
    number: int


def ring() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "nan does not come back equal from JSON; pass None, or a string"),
        (math.inf, "inf does not come back equal from JSON; pass None, or a string"),
        (-math.inf, "-inf does not come back equal from JSON; pass None, or a string"),
        ({1, 2}, "a set does not come back equal from JSON; pass a list"),
        (frozenset((1, 2)), "a frozenset does not come back equal from JSON; pass a list"),
        ((1, 2), "a tuple does not come back equal from JSON; pass a list"),
        (Point(1, 2), "a Point does not come back equal from JSON; pass a list"),
        (b"x", "a bytes does not come back equal from JSON; pass text, such as base64"),
        (bytearray(b"x"), "pass text, such as base64"),
        (date(2026, 1, 2), "a date does not come back equal from JSON; pass its isoformat()"),
        (datetime(2026, 1, 2, tzinfo=UTC), "pass its isoformat()"),
        (time(12), "pass its isoformat()"),
        (timedelta(1), "pass its total_seconds()"),
        (Decimal("1.5"), "a Decimal does not come back equal from JSON; pass its str()"),
        (uuid.UUID(int=1), "a UUID does not come back equal from JSON; pass its str()"),
        (Colour.RED, "a Colour does not come back equal from JSON; pass its value"),
        (Order(1), "an Order does not come back equal from JSON; pass numbers, strings, lists"),
        (Record(1), "a Record does not come back equal from JSON; pass numbers, strings, lists"),
        (object(), "an object does not come back equal from JSON; pass numbers, strings, lists"),
        (1j, "a complex does not come back equal from JSON"),
        (Text("x"), "a Text does not come back equal from JSON; pass a plain str"),
        ("\ud800", "a str does not come back equal from JSON; pass a plain str of characters that"),
        ({1: "a"}, "the key 1 does not come back equal from JSON; use strings as keys"),
        ({None: "a"}, "the key None does not come back equal from JSON; use strings as keys"),
        ({Level.LOW: 1}, "the key of type Level does not come back equal from JSON"),
        (ring(), "it is nested too deeply, or holds itself"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
)
def test_what_does_not_come_back_equal_is_refused_with_what_to_pass(value: Any, said: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        faithful.encode_args((1, value))
    assert str(refused.value).startswith("argument 2")
    assert said in str(refused.value)
    with pytest.raises(InvalidJob, match="^argument 'b'"):
        faithful.encode_kwargs({"a": 1, "b": value})


def test_the_message_says_where_inside_the_argument() -> None:
    with pytest.raises(InvalidJob) as refused:
        faithful.encode_args(({"items": [1, 2, 3, {4}]},), ("order",))
    assert str(refused.value) == (
        "argument 'order' at ['items'][3]: a set does not come back equal from JSON; pass a list"
    )
    assert faithful.fault([{"a": {}}, {"b": {2: 3}}]).startswith(" at [1]['b']: the key 2 does not")
    assert len(faithful.fault({"x" * 1000: {1}})) < 150


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**200), 1.5, -0.0, 1e300, "", "ä\n\x00", [], {}, [[{}]], {"a": [None]}),
        *(Size.BIG, Level.LOW, [Size.BIG], {Size.BIG: 1}),  # equal to what they come back as
        *(OrderedDict(a=1), defaultdict(list, a=[1])),
    ],
    ids=repr,
)
def test_what_comes_back_equal_passes(value: Any) -> None:
    raw = faithful.encode_args((value,))
    assert msgspec.json.decode(raw) == [value]
    assert msgspec.json.decode(faithful.encode_kwargs({"a": value})) == {"a": value}
    assert faithful.fault(value) == ""


def test_a_value_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidJob, match=r"^the arguments cannot be written as JSON: no; pass"):
        faithful.encode_args((Odd(a=1),))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
others = st.binary(max_size=3) | st.sets(st.integers(), max_size=3) | st.dates() | st.uuids()
values = st.recursive(
    plain | others,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_exactly_what_comes_back_equal_is_accepted(value: Any) -> None:
    try:
        same = msgspec.json.decode(msgspec.json.encode(value)) == value
    except Exception:
        same = False
    assert (faithful.fault(value) == "") is same
    try:
        raw = faithful.encode_args((value,))
    except InvalidJob as refused:
        assert str(refused).startswith("argument 1")
        assert not same
    else:
        assert same
        assert msgspec.json.decode(raw) == [value]


class TestAtTheCaller:
    """No Redis is asked: what is refused never leaves."""

    app = Headrace("redis://127.0.0.1:1/0")

    def test_a_task_names_its_own_parameter(self) -> None:
        @self.app.task
        def ship(order: int, /, items: object, *more: object, when: object = None) -> None: ...

        for args, kwargs, name in (
            ((1, {2}), {}, "'items'"),
            (({1}, 2), {}, "'order'"),
            ((1, 2, 3, {4}), {}, "4"),
            ((1, 2), {"when": math.nan}, "'when'"),
        ):
            with pytest.raises(InvalidJob, match=f"^argument {name}: "):
                ship.enqueue(*args, **kwargs)
            with pytest.raises(InvalidJob, match=f"^argument {name}: "):
                self.app.enqueue_many([ship.call(*args, **kwargs)])

    def test_a_task_known_by_name_alone_counts_its_arguments(self) -> None:
        with pytest.raises(InvalidJob, match=r"^argument 2 at \[0\]: a tuple does not"):
            self.app.enqueue("of_another_program", 1, [(2, 3)])

    async def test_the_awaited_twins_refuse_it_too(self) -> None:
        with pytest.raises(InvalidJob, match="^argument 1: nan does not"):
            await self.app.aenqueue("of_another_program", math.nan)
