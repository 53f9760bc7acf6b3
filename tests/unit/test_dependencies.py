"""Dependencies and hooks as they are declared: what callers see of them, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest

from headrace import INJECTED, Context, Depends, Headrace, InvalidArguments, InvalidSetting
from headrace.context import Context as JobContext
from headrace.context import current_job

if TYPE_CHECKING:
    from nowhere import Depends as Unknown  # type: ignore[import-not-found]


def one() -> int:
    return 1


def two(first: Annotated[int, Depends(one)], ctx: Context, *, more: int = 0) -> int:
    return first + 1


def needs_more(what: int) -> int:
    return what


def ring(other: Annotated[int, Depends(lambda: 0)]) -> int:
    return other


ring.__annotations__["other"] = Annotated[int, Depends(ring)]

One = Annotated[int, Depends(one)]
Two = Annotated[int, Depends(two)]


@pytest.fixture
def app() -> Headrace:
    return Headrace("redis://127.0.0.1:1")


def run(task: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a task as a consumer does."""
    token = current_job.set(JobContext("id", "queue", task.name, 1, 0, 1))
    try:
        args, kwargs = task.arguments(args, kwargs, current_job.get())
        return task.run(*args, **kwargs)
    finally:
        current_job.reset(token)


def between(a: int, it: Two, ctx: Context, b: int = 5, *rest: int, last: One = INJECTED) -> Any:
    return a, it, ctx.job_id, b, rest, last


def test_callers_pass_the_others_wherever_they_stand(app: Headrace) -> None:
    task: Any = app.task(between)
    assert task.call(1, b=2).job.endswith(b'"args":[1],"kwargs":{"b":2}}')
    assert task.argument_names == ["a", "b"]
    assert run(task, 1) == (1, 2, "id", 5, (), 1)
    assert run(task, 1, 3, 4, 6) == (1, 2, "id", 3, (4, 6), 1)
    assert run(task, a=1, b=2) == (1, 2, "id", 2, (), 1)
    for call in ({"it": 3}, {"last": 3}, {"ctx": 3}):
        with pytest.raises(
            InvalidArguments, match=r"between\(a: 'int', b: 'int' = 5, \*rest: 'int'\)"
        ):
            task.call(1, **call)


def test_a_function_without_any_is_run_itself(app: Headrace) -> None:
    task = app.task(one)
    assert task.run is one
    app.on("succeeded")(print)
    assert task.run is one
    app.around_run(lambda ctx: (yield))
    assert task.run is not one


def test_called_it_is_the_function(app: Headrace) -> None:
    def plain(a: int, it: One = INJECTED) -> Any:
        return a, it

    task = app.task(plain)
    assert task(1, 2) == (1, 2)
    _, injected = task(1)
    assert repr(injected) == "INJECTED"
    with pytest.raises(AttributeError, match=r"who calls the function passes a value: \.execute"):
        injected.execute()


def by_place_alone(it: One, /) -> None: ...
def unfilled(it: Annotated[int, Depends(needs_more)]) -> None: ...
def circular(it: Annotated[int, Depends(ring)]) -> None: ...
def unresolved(it: Annotated[int, Unknown(one)]) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (by_place_alone, "dependency 'it' must have a name"),
        (unfilled, "dependency needs_more has a parameter 'what' that nobody fills"),
        (circular, "ring depends on itself"),
        (unresolved, "the annotation of 'it'.*cannot be resolved"),
    ],
)
def test_what_cannot_be_made_is_refused_when_the_task_is(
    app: Headrace, function: Any, said: str
) -> None:
    if function is unresolved:
        said = said.replace("Unknown", "Depends")
        function.__annotations__["it"] = "Annotated[int, nowhere.Depends(one)]"
    with pytest.raises(InvalidSetting, match=said):
        app.task(function)


def test_what_is_no_dependency_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="Depends takes a function, and not 3"):
        Depends(3)  # type: ignore[arg-type]


def test_a_hook_has_to_yield(app: Headrace) -> None:
    async def awaited(ctx: Context) -> None: ...

    for no_hook in (one, awaited, 3):
        with pytest.raises(InvalidSetting, match="takes a generator function, sync or async"):
            app.around_run(no_hook)  # type: ignore[type-var]
        with pytest.raises(InvalidSetting, match="does not yield"):
            app.around_enqueue(no_hook)  # type: ignore[type-var]


def test_an_event_that_does_not_exist_is_refused(app: Headrace) -> None:
    with pytest.raises(
        InvalidSetting, match="there is no event 'finished'; the events are enqueued,"
    ):
        app.on("finished")  # type: ignore[arg-type]
    with pytest.raises(InvalidSetting, match="the events are"):
        app.on()


def test_enqueued_is_told_where_nothing_is_awaited(app: Headrace) -> None:
    async def awaited(_: object) -> None: ...

    with pytest.raises(InvalidSetting, match="let it be a plain function"):
        app.on("enqueued")(awaited)
