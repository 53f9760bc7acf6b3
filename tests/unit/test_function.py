"""What a task's function is: what runs, what is refused, and which parameter takes the context."""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from headrace import CURRENT, Context, Headrace, InvalidSetting
from headrace.context import current_job
from headrace.task import AsyncTask

if TYPE_CHECKING:
    from nowhere import Thing  # type: ignore[import-not-found]

    from headrace import Context as Unresolved


class AsyncObject:
    name = "an attribute that a task has too"

    async def __call__(self, number: int, ctx: Context | None = None) -> int:
        return number


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1

    def method(self) -> Iterator[int]:
        yield 1


async def coroutine(number: int, ctx: Context) -> int:
    return number


def generator(number: int = 1) -> Iterator[int]:
    yield number


async def async_generator() -> AsyncIterator[int]:
    yield 1


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return list(function(*args, **kwargs))

    return wrapper


@types.coroutine
def old_coroutine() -> Iterator[None]:
    yield


@pytest.fixture
def app() -> Headrace:
    return Headrace("redis://127.0.0.1:1")


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        functools.partial(generator, 2),
        staticmethod(generator),
        Generating(),
        Generating().method,
    ],
)
def test_a_generator_is_refused_when_the_task_is_made(app: Headrace, function: Any) -> None:
    with pytest.raises(InvalidSetting, match="is a generator, and calling one runs nothing"):
        app.task(name="t")(function)
    assert app.tasks == {}


def test_a_decorator_may_use_up_a_generator(app: Headrace) -> None:
    assert app.task(wrapped(generator))(2) == [2]


@pytest.mark.parametrize(
    "function",
    [coroutine, functools.partial(coroutine, 1), staticmethod(coroutine), AsyncObject()],
)
def test_what_is_async_inside_is_async(app: Headrace, function: Any) -> None:
    task = app.task(name="t")(function)
    assert task.is_async
    assert isinstance(task, AsyncTask)
    assert task.context_parameter == "ctx"
    assert task.name == "t"


def test_a_coroutine_of_the_old_kind_is_no_generator(app: Headrace) -> None:
    app.task(old_coroutine)


@pytest.mark.parametrize("function", [AsyncObject(), functools.partial(coroutine, 1)])
def test_what_has_no_name_needs_one(app: Headrace, function: Any) -> None:
    with pytest.raises(InvalidSetting, match="has no name of its own: give it name="):
        app.task(function)


def test_what_cannot_be_called_is_no_task(app: Headrace) -> None:
    with pytest.raises(InvalidSetting, match="must be callable, and classmethod is not"):
        app.task(classmethod(generator))  # type: ignore[call-overload, arg-type]


def test_a_function_written_in_c_may_be_a_task(app: Headrace) -> None:
    assert app.task(len)([1, 2]) == 2


def _plain(x: int, ctx: Context) -> None: ...
def _optional(x: int, ctx: Context | None = None) -> None: ...
def _old_optional(x: int, ctx: Context | None = None) -> None: ...
def _default(x: int, ctx: Context = CURRENT) -> None: ...
def _unresolved(x: Thing, ctx: Context | None = None) -> None: ...
def _by_another_name(x: int, ctx: Unresolved) -> None: ...
def _text(x: Thing, ctx: Context | None = None) -> None: ...
def _another(x: Thing, ctx: Mapping[str, Context]) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_plain, "ctx"),
        (_optional, "ctx"),
        (_old_optional, "ctx"),
        (_default, "ctx"),
        (_unresolved, "ctx"),
        (_text, "ctx"),
        (_by_another_name, None),
        (_another, None),
    ],
)
def test_the_context_is_asked_for_by_annotation(
    app: Headrace, function: Callable[..., None], expected: str | None
) -> None:
    assert app.task(function).context_parameter == expected


def test_the_current_context_is_that_of_the_job_that_runs_here() -> None:
    context = Context("id", "queue", "task", 2, 1, 3)
    token = current_job.set(context)
    try:
        assert (CURRENT.job_id, CURRENT.attempt, CURRENT.stopping) == ("id", 2, False)
        context.stop_reason = "timeout"
        assert CURRENT.stopping
    finally:
        current_job.reset(token)


def test_outside_of_a_job_the_current_context_has_no_id_and_never_stops() -> None:
    CURRENT.check()
    assert (CURRENT.job_id, CURRENT.attempt, CURRENT.stop_reason) == ("", 1, None)


def test_a_task_cannot_have_a_name_that_no_job_can_carry() -> None:
    app = Headrace()
    app.task(name="n" * 255)(print)
    with pytest.raises(InvalidSetting, match="at most 255 characters"):
        app.task(name="n" * 256)(print)
