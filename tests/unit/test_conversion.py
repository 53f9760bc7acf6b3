"""Arguments and results by annotations: what goes in comes out equal, or is refused by its name."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Optional, Protocol, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Context, Headrace, InvalidArguments, InvalidJob, NoResult, Task, results
from headrace.conversion import Misfit, conversion_of, converter_of

URL = "redis://127.0.0.1:1"  # nothing listens there: none of this needs a server
ID = UUID(int=7)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONTEXT = Context(job_id="j", queue="q", task="t", attempt=1, delivery=0, max_attempts=3)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Shape(enum.Enum):
    SQUARE = (1, 1)


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    extra: Any = None


@dataclasses.dataclass
class Order:
    id: UUID
    lines: list[Line] = dataclasses.field(default_factory=list)
    parent: Order | None = None


@dataclasses.dataclass
class Rush(Order):
    until: date = date.max


@dataclasses.dataclass(eq=False)
class Nameless:
    when: date


@attrs.define
class Parcel:
    weight: Decimal
    tags: frozenset[str] = frozenset()


@attrs.define(eq=False)
class Crate:
    within: Nameless


class Record(msgspec.Struct):
    day: date
    path: Path | None = None


class Loose(msgspec.Struct, eq=False):
    day: date


class Point(NamedTuple):
    x: int
    at: time


class Options(TypedDict, total=False):
    since: date


class Tree(TypedDict):
    name: str
    below: list[Tree]


class Customer(pydantic.BaseModel):
    name: str
    born: date | None = None
    orders: list[int] = []


class Strict(pydantic.BaseModel, strict=True):
    at: datetime
    tags: set[str]


class Aliased(pydantic.BaseModel):
    order_id: int = pydantic.Field(alias="orderId")


class Secret(pydantic.BaseModel):
    word: pydantic.SecretStr


class Remembering(pydantic.BaseModel):
    name: str
    _seen: float = pydantic.PrivateAttr(default_factory=lambda: id(object()))


class Fussy(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        if self.n == 0:
            raise ConnectionError("no answer")
        if self.n < 0:
            raise ValueError("below 0")


class Quack(Protocol):
    def quack(self) -> None: ...


class Own:
    pass


def task_of(function: Callable[..., Any], **options: Any) -> Task[Any, Any]:
    task: Task[Any, Any] = Headrace(URL).task(name="ship", **options)(function)
    return task


def taking(hint: Any) -> Task[Any, Any]:
    """Give a task whose parameter is annotated so."""

    def ship(order: Any) -> None: ...

    ship.__annotations__["order"] = hint
    return task_of(ship)


def travelled(task: Task[Any, Any], *args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return what a function gets, when a job of it has gone by way of JSON."""
    job = json.loads(task.call(*args, **kwargs).job)
    there, named = task.arguments(job.get("args", []), job.get("kwargs", {}), CONTEXT)
    return [*there], named


CONVERTED = [
    (datetime, NOON, "2026-01-01T12:00:00Z"),
    (datetime, datetime(2026, 1, 1, 12, 0, 0, 5), "2026-01-01T12:00:00.000005"),
    (datetime, NOON.astimezone(timezone(timedelta(hours=2))), "2026-01-01T14:00:00+02:00"),
    (date, date(2026, 1, 1), "2026-01-01"),
    (time, time(1, 2, 3), "01:02:03"),
    (timedelta, timedelta(days=1, milliseconds=500), "P1DT0.5S"),
    (UUID, ID, str(ID)),
    (Decimal, Decimal("1.10"), "1.10"),
    (Colour, Colour.RED, "red"),
    (Level, Level.LOW, 1),
    (Path, Path("a/b"), "a/b"),
    (PurePosixPath, PurePosixPath("/a"), "/a"),
    (bytes, b"hi\xff", "aGn/"),
    (set[int], {1}, [1]),
    (frozenset, frozenset({"a"}), ["a"]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (tuple[UUID, ...], (ID, ID), [str(ID), str(ID)]),
    (Order, Order(ID, [Line("x", Decimal(2))], Order(ID)), None),
    (Nameless, Nameless(date(2026, 1, 1)), {"when": "2026-01-01"}),
    (Parcel, Parcel(Decimal("0.5"), frozenset({"a"})), {"weight": "0.5", "tags": ["a"]}),
    (list[Crate], [Crate(Nameless(date(2026, 1, 1)))], [{"within": {"when": "2026-01-01"}}]),
    (Record, Record(date(2026, 1, 1), Path("x")), {"day": "2026-01-01", "path": "x"}),
    (Loose, Loose(date(2026, 1, 1)), {"day": "2026-01-01"}),
    (Point, Point(1, time(1)), [1, "01:00:00"]),
    (Options, {"since": date(2026, 1, 1)}, {"since": "2026-01-01"}),
    (Customer, Customer(name="Ada", born=date(1815, 12, 10)), None),
    (Strict, Strict(at=NOON, tags={"a"}), {"at": "2026-01-01T12:00:00Z", "tags": ["a"]}),
    (Aliased, Aliased(orderId=3), {"orderId": 3}),
    (dict[str, Customer], {"a": Customer(name="Ada")}, None),
    (list[Order], [Order(ID), Order(UUID(int=8))], None),
    (Sequence[Order], [Order(ID)], None),
    (dict[UUID, Decimal], {ID: Decimal(1)}, {str(ID): "1"}),
    (dict[int, str], {1: "a"}, {"1": "a"}),
    (Order | None, None, None),
    (Optional[Order], Order(ID), None),  # noqa: UP045 - the older way
    (Annotated[date, "its day"], date(2026, 1, 1), "2026-01-01"),
    (int | UUID, ID, str(ID)),
    (int | UUID, 3, 3),
]


@pytest.mark.parametrize(("hint", "value", "written"), CONVERTED, ids=lambda one: str(one)[:30])
def test_what_goes_in_comes_out_and_is_plain_json_between(
    hint: Any, value: Any, written: Any
) -> None:
    task = taking(hint)
    [there], _ = travelled(task, value)
    assert type(there) is type(value)
    assert there == value or repr(there) == repr(value)  # not all of them can be compared
    if written is not None:
        assert json.loads(task.call(value).job)["args"] == [written]
        # As a foreign producer, or a caller from a shell, would give it.
        [from_plain], _ = travelled(task, written)
        assert type(from_plain) is type(there)
    [named], _ = travelled(task, value)
    assert travelled(task, order=value)[1].keys() == {"order"}
    assert type(named) is type(there)


def test_parts_without_an_equality_of_their_own_arrive_whole() -> None:
    [[crate]], _ = travelled(taking(list[Crate]), [Crate(Nameless(date(2026, 1, 1)))])
    assert crate.within.when == date(2026, 1, 1)
    [model], _ = travelled(taking(Remembering), Remembering(name="Ada"))
    assert model.name == "Ada"


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (datetime, 3, "Expected `datetime`, got `int`"),
        (datetime, date(2026, 1, 1), "Invalid RFC3339 encoded datetime"),
        (date, NOON, "Invalid RFC3339 encoded date"),
        (UUID, "x", "Invalid UUID"),
        (UUID, None, "Expected `uuid`, got `null`"),
        (Colour, "blue", "Invalid enum value 'blue'"),
        (Path, 3, "Expected `str`, got `int`"),
        (Order, object(), "Objects of type object cannot be written as JSON"),
        (Order, {"id": 3}, "Expected `uuid`, got `int` - at `order.id`"),
        (Order, Order(ID, [Line("x", 2.5), Line(3, Decimal(1))]),  # type: ignore[arg-type]
         "Expected `str`, got `int` - at `order.lines[1].sku`"),
        (Order, Order(ID, [Line("x", Decimal(1), (1, 2))]),
         "a tuple would arrive as a list - at `order.lines[0].extra`"),
        (Order, Order(ID, [Line("x", Decimal(1), {1: 2})]),
         "the keys would not arrive as they are - at `order.lines[0].extra`"),
        (Order, Rush(ID), "a Rush would arrive as a Order - at `order`"),
        (Line, Line("x", Decimal("NaN")), "a Decimal would not arrive as it is - at `order.price`"),
        (Line, Line("x", Decimal(1), float("nan")),
         "a float would arrive as a NoneType - at `order.extra`"),
        (list[Order], (Order(ID),), "a tuple would arrive as a list - at `order`"),
        (dict[UUID, int], {"x": 1}, "Invalid UUID - at `key` in `order`"),
        (Options, {"since": date(2026, 1, 1), "till": 3},
         "the keys would not arrive as they are - at `order`"),
        (list[Customer], [{"name": "Ada", "orders": [1, "x"]}],
         "orders.1: Input should be a valid integer, unable to parse string as an integer - at `order[0]`"),
        (Secret, Secret(word=pydantic.SecretStr("x")),
         "a SecretStr would not arrive as it is - at `order.word`"),
        (Fussy, {"n": 0}, "no answer"),
        (datetime, NOON.astimezone(timezone(timedelta(seconds=3208))),
         "a datetime would not arrive as it is - at `order`"),
        (Annotated[int, msgspec.Meta(gt=0)], 0, "Expected `int` >= 1"),
    ],
)  # fmt: skip
def test_a_wrong_one_is_refused_by_the_names_of_its_function_and_itself(
    hint: Any, value: Any, said: str
) -> None:
    for args, kwargs in (((value,), {}), ((), {"order": value})):
        with pytest.raises(InvalidArguments) as caught:
            taking(hint).call(*args, **kwargs)
        assert str(caught.value) == f"argument 'order' of 'ship': {said}"
        # A task that enqueues another one is not itself called wrongly: see consumer/run.py.
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "hint",
    [
        *(int, str, float, bool, None, Any, list, dict, list[int], dict[str, list[float]], object),
        *(int | None, Optional[str], Sequence[str], Literal["a", "b"], Tree, Annotated[int, "n"], "int"),  # noqa: UP045
        *(Quack, Own, list[Own], Callable[[], int], Shape, Order | Parcel, date | str, "list[str]"),
        inspect.Parameter.empty,
    ],
)  # fmt: skip
def test_plain_and_impossible_annotations_cost_nothing_and_change_nothing(hint: Any) -> None:
    task = taking(hint)
    assert task.conversion is None
    assert task.encode_result is results.encode_value
    assert task.decode_result is None
    args, kwargs = [object()], {"a": object()}
    assert task.arguments(args, kwargs, CONTEXT)[0] is args
    with pytest.raises(InvalidJob, match=r"^argument 'order': a set does not come back equal"):
        task.call({1})


class TestParameters:
    def test_all_kinds_of_them(self) -> None:
        def ship(
            day: date, /, at: time, *rest: UUID, how: Path, note: Any = None, **more: Decimal
        ) -> None: ...

        task = task_of(ship)
        kwargs = {"how": Path("x"), "note": [1], "day": Decimal(1), "b": Decimal(2)}
        args = [date(2026, 1, 1), time(1), ID, ID]
        assert travelled(task, *args, **kwargs) == (args, kwargs)
        with pytest.raises(InvalidArguments, match="argument 4 of 'ship': Invalid UUID"):
            task.call(*args[:3], "x", how=Path("x"))
        with pytest.raises(InvalidArguments, match="argument 'b' of 'ship': Invalid decimal"):
            task.call(*args, how=Path("x"), b="x")

    def test_a_path_into_one_without_a_name_begins_at_itself(self) -> None:
        def ship(*rest: list[UUID]) -> None: ...

        with pytest.raises(InvalidArguments, match=r"argument 1 of 'ship': .* - at `\[0\]`"):
            task_of(ship).call([3])

    def test_those_of_a_method_an_object_a_partial_and_what_is_wrapped(self) -> None:
        class Sender:
            def send(self, day: date) -> None: ...
            def __call__(self, day: date) -> None: ...

        def wrapped(day: date) -> None: ...

        @functools.wraps(wrapped)
        def wrapper(*args: Any, **kwargs: Any) -> None: ...

        day = date(2026, 1, 1)
        sent = functools.partial(Sender.send, Sender())
        for function in (Sender().send, Sender(), sent, wrapper):
            assert travelled(task_of(function), day)[0] == [day]

    def test_those_that_are_left_out_are_left_out(self) -> None:
        def ship(day: date = NOON, at: Any = {1}) -> None: ...  # noqa: B006

        task = task_of(ship)
        assert travelled(task) == ([], {})
        assert b"args" not in task.call().job

    def test_none_by_default_may_be_none(self) -> None:
        def ship(day: date = None) -> None: ...  # type: ignore[assignment] # noqa: RUF013

        assert travelled(task_of(ship), None)[0] == [None]

    def test_the_context_is_left_alone(self) -> None:
        def ship(ctx: Context, day: date) -> None: ...

        day = date(2026, 1, 1)
        task = task_of(ship)
        assert travelled(task, day) == ([CONTEXT, day], {})
        assert travelled(task, day=day)[1] == {"day": day, "ctx": CONTEXT}

    def test_a_number_of_arguments_that_does_not_fit_is_the_calls_business(self) -> None:
        task = taking(date)
        assert task.arguments([], {}, CONTEXT) == ((), {})
        assert task.arguments(["2026-01-01", 2], {"x": 1}, CONTEXT) == (
            (date(2026, 1, 1), 2),
            {"x": 1},
        )
        with pytest.raises(InvalidArguments, match="too many positional"):
            task.call(1, 2)


class TestNamesThatAreDefinedLater:
    def test_are_looked_up_at_the_first_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task = taking("Later")
        monkeypatch.setitem(globals(), "Later", date)
        day = date(2026, 1, 1)
        assert travelled(task, day)[0] == [day]

    def test_also_inside_a_class(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @dataclasses.dataclass
        class Box:
            content: Content  # type: ignore[name-defined] # noqa: F821

        task = taking(Box)
        monkeypatch.setitem(globals(), "Content", date)
        [box], _ = travelled(task, Box(date(2026, 1, 1)))
        assert box == Box(date(2026, 1, 1))

    def test_and_where_there_is_none_the_value_stays_plain_and_it_is_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def ship(order: Nowhere, day: date) -> Nowhere: ...  # type: ignore[name-defined] # noqa: F821

        with caplog.at_level(logging.WARNING, "headrace"):
            task = task_of(ship)
            assert not caplog.messages
            day = date(2026, 1, 1)
            for _ in range(2):
                assert travelled(task, {"id": 3}, day)[0] == [{"id": 3}, day]
            with pytest.raises(InvalidJob, match="argument 'order': a set does not"):
                task.call({1}, day)
        assert [m.partition(",")[0] for m in caplog.messages] == [
            "task 'ship': the annotation of 'order'",
            "task 'ship': the annotation of 'return'",
        ]
        assert "name 'Nowhere' is not defined" in caplog.messages[0]


class TestAtTheConsumer:
    def test_what_does_not_fit_is_an_invalid_argument_with_a_cause(self) -> None:
        task = taking(Order)
        with pytest.raises(InvalidArguments) as caught:
            task.arguments([{"id": "x"}], {}, CONTEXT)
        assert str(caught.value) == "argument 'order' of 'ship': Invalid UUID - at `order.id`"
        assert isinstance(caught.value.__cause__, msgspec.ValidationError)
        with pytest.raises(InvalidArguments, match="argument 'order' of 'ship': below 0"):
            taking(Fussy).arguments([{"n": -1}], {}, CONTEXT)

    def test_what_a_class_raises_of_its_own_is_not_the_arguments_fault(self) -> None:
        with pytest.raises(ConnectionError, match="no answer"):
            taking(Fussy).arguments([{"n": 0}], {}, CONTEXT)

    def test_fields_that_a_newer_producer_added_are_ignored(self) -> None:
        args, _ = taking(Order).arguments([{"id": str(ID), "colour": "red"}], {}, CONTEXT)
        assert args == (Order(ID),)


class TestResults:
    @pytest.mark.parametrize(("hint", "value", "written"), CONVERTED, ids=lambda one: str(one)[:30])
    def test_come_back_as_what_the_annotation_says(
        self, hint: Any, value: Any, written: Any
    ) -> None:
        def ship() -> Any: ...

        ship.__annotations__["return"] = hint
        task = task_of(ship)
        plain = results.value_of("j", task.encode_result(value))
        assert written is None or plain == written
        assert task.decode_result is not None
        assert task.call().decode == task.decode_result
        assert type(task.decode_result(plain)) is type(value)

    def test_one_that_does_not_fit_is_not_told_and_why(self) -> None:
        def ship() -> list[Order]:
            return []

        task = task_of(ship)
        for wrong, why in (
            ([{"id": 3}], r"Expected `uuid`, got `int` - at `result\[0\]\.id`"),
            ([Rush(ID)], "a Rush would arrive as a Order"),
        ):
            with pytest.raises(NoResult, match=f"its result is not told: {why}"):
                results.value_of("j", task.encode_result(wrong))

    def test_one_that_another_version_kept_is_refused_with_the_way_to_get_it(self) -> None:
        def ship() -> Order:
            return Order(ID)

        decode = task_of(ship).decode_result
        assert decode is not None
        with pytest.raises(NoResult, match=r"of 'ship' does not fit its annotation: Invalid UUID"):
            decode({"id": "x"})

    def test_a_hostile_one_is_not_told(self) -> None:
        class Hostile:
            def __getattribute__(self, name: str) -> Any:
                raise SystemExit(3)

        def ship() -> Order:
            return Order(ID)

        with pytest.raises(NoResult, match="its result is not told"):
            results.value_of("j", task_of(ship).encode_result(Hostile()))

    def test_where_only_arguments_are_converted_it_stays_plain(self) -> None:
        task = taking(date)
        assert results.value_of("j", task.encode_result((1, 2))) == [1, 2]
        assert task.decode_result is not None
        assert task.decode_result([1]) == [1]


LINES = st.builds(Line, st.text(), st.decimals(allow_nan=False), st.none() | st.integers())
ORDERS = st.recursive(
    st.builds(Order, st.uuids(), st.lists(LINES, max_size=3)),
    lambda orders: st.builds(Order, st.uuids(), st.lists(LINES, max_size=3), orders),
    max_leaves=3,
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    datetime: st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=True),
    bytes: st.binary(),
    Path: st.text(st.characters(exclude_characters="\0", codec="utf-8")).map(Path),
    set[int]: st.sets(st.integers(-(2**63), 2**63)),
    tuple[int, str]: st.tuples(st.integers(), st.text()),
    dict[UUID, Decimal]: st.dictionaries(st.uuids(), st.decimals(allow_nan=False)),
    dict[int, date]: st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.dates()),
    Order: ORDERS,
    Parcel: st.builds(Parcel, st.decimals(allow_nan=False), st.frozensets(st.text())),
    Customer: st.builds(Customer, name=st.text(), born=st.none() | st.dates()),
    list[Order | None]: st.lists(ORDERS | st.none(), max_size=3),
}
CONVERTERS = {hint: converter_of(hint) for hint in VALUES}


@given(st.data())
def test_whatever_goes_in_comes_out_equal_by_way_of_json(data: st.DataObject) -> None:
    hint = data.draw(st.sampled_from([*VALUES]))
    value, converter = data.draw(VALUES[hint]), CONVERTERS[hint]
    assert converter is not None
    plain = converter.encode(value)
    there = converter.decode(json.loads(json.dumps(plain)))
    assert (there, type(there)) == (value, type(value))


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers()),
))  # fmt: skip
def test_whatever_else_goes_in_comes_out_equal_or_is_refused(value: Any) -> None:
    converter, line = converter_of(Line), Line("x", Decimal(1), value)
    assert converter is not None
    try:
        plain = converter.encode(line)
    except Misfit:
        return
    assert converter.decode(json.loads(json.dumps(plain))) == line


def test_a_conversion_of_nothing_is_none() -> None:
    assert conversion_of("t", lambda: None, [], inspect.Signature.empty) is None
