"""The application: what it is told is checked where it is written."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Context, Headrace, InvalidJob, InvalidSetting

URL = "redis://127.0.0.1:1"  # nothing listens there: none of this needs a server


@pytest.fixture
def app() -> Headrace:
    return Headrace(URL)


@pytest.mark.parametrize("wrong", [-1, True])
def test_a_number_of_replicas_has_to_be_one(wrong: int) -> None:
    with pytest.raises(InvalidSetting, match=f"confirm_replicas={wrong} must be 0 or more"):
        Headrace(URL, confirm_replicas=wrong)


def test_two_tasks_have_two_names(app: Headrace) -> None:
    def work() -> None: ...

    app.task(work)
    with pytest.raises(InvalidSetting, match="a task 'work' already: give this one name="):
        app.task(work)
    assert app.task(name="other")(work).name == "other"


def test_an_option_that_there_is_not_is_refused_by_its_name(app: Headrace) -> None:
    with pytest.raises(InvalidSetting, match="unknown task option retries"):
        app.task(retries=3)(lambda: None)  # type: ignore[call-overload]


class TestMistakesAtEnqueue:
    """Each is told in a sentence, and nothing is sent."""

    def test_a_task_where_its_name_belongs(self, app: Headrace) -> None:
        @app.task
        def add(a: int, b: int) -> int:
            return a + b

        with pytest.raises(InvalidJob, match=r"not Task\('add'\); a task enqueues itself, as in"):
            app.enqueue(add, 1, 2)  # type: ignore[arg-type]
        with pytest.raises(InvalidJob, match="enqueue takes the name of a task, not 3"):
            app.call(3)  # type: ignore[arg-type]

    async def test_what_is_no_call_among_many(self, app: Headrace) -> None:
        @app.task
        def add(a: int, b: int) -> int:
            return a + b

        what = (
            (3, "int, 3"),
            (("add", (1, 2)), r"tuple, \('add', \("),
            (add, r"Task, Task\('add'\)"),
        )
        for wrong, told in what:
            said = rf"enqueue_many takes calls, as add.call\(1, 2\) .*; number 2 is of type {told}"
            with pytest.raises(TypeError, match=said):
                app.enqueue_many([add.call(1, 2), wrong])  # type: ignore[list-item]
            with pytest.raises(InvalidJob, match=said):
                await app.aenqueue_many([add.call(1, 2), wrong])  # type: ignore[list-item]
        for single, kind in ((add.call(1, 2), "Call"), (3, "int")):
            with pytest.raises(TypeError, match=f"it got a single {kind}: put it into a list"):
                app.enqueue_many(single)  # type: ignore[arg-type]


class TestTask:
    def test_it_is_still_a_plain_function(self, app: Headrace) -> None:
        @app.task
        def add(a: int, b: int) -> int:
            """Add."""
            return a + b

        assert add(1, 2) == 3
        assert (getattr(add, "__name__", ""), add.__doc__, repr(add)) == (
            "add",
            "Add.",
            "Task('add')",
        )

    async def test_so_is_an_async_one(self, app: Headrace) -> None:
        @app.task
        async def add(a: int, b: int) -> int:
            return a + b

        assert await add(1, 2) == 3

    def test_it_gets_its_context_by_annotation(self, app: Headrace) -> None:
        @app.task
        def work(x: int, ctx: Context) -> None: ...

        assert work.context_parameter == "ctx"

    def test_an_annotation_that_leads_nowhere_is_not_looked_into(self, app: Headrace) -> None:
        def work(x, ctx, y): ...  # type: ignore[no-untyped-def]

        work.__annotations__ = {"x": "Nowhere", "ctx": "Context", "return": "Context"}
        assert app.task(work).context_parameter == "ctx"
        work.__annotations__ = {"x": "Nowhere", "return": "Context"}
        assert app.task(name="other")(work).context_parameter is None

    def test_a_context_without_a_name_could_not_be_given(self, app: Headrace) -> None:
        def work(ctx: Context, /) -> None: ...

        with pytest.raises(InvalidSetting, match="'ctx' takes the context, so it must have a name"):
            app.task(work)


def test_a_job_shows_its_id_and_its_queue(app: Headrace) -> None:
    assert repr(app.job("a", queue="mail")) == "Job(id='a', queue='mail')"
    assert repr(app.job("a")) == "Job(id='a', queue='queue')"


@pytest.mark.parametrize("options", [{}, {"result_ttl": None}])
def test_a_task_keeps_no_results_unless_told_to(app: Headrace, options: dict[str, Any]) -> None:
    assert app.task(**options)(lambda: None).config.result_ttl_s is None
