"""Tasks of libraries, before and after an application includes them; and packages that are discovered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import Headrace, InvalidSetting, Task, Tasks

URL = "redis://127.0.0.1:1"  # nothing listens there, and nothing has to


def resize(width: int, height: int = 1) -> int:
    return width * height


class TestALibrary:
    def test_its_tasks_are_functions_and_belong_nowhere(self) -> None:
        task = Tasks().task(resize)
        assert task(2, 3) == 6
        with pytest.raises(InvalidSetting, match=r"belong to no application yet.*app\.include\("):
            task.enqueue(2)

    def test_what_they_leave_open_the_application_says(self) -> None:
        images = Tasks()
        task = images.task(max_attempts=7)(resize)
        app = Headrace(URL, queue="shop", max_attempts=2, timeout=9)
        app.include(images)
        assert app.find_task("resize") is task
        assert (task.config.queue, task.config.max_attempts, task.config.timeout_s) == (
            "shop",
            7,
            9,
        )
        assert task.producer() is app.producer()

    def test_those_that_are_declared_later_are_included_as_well(self) -> None:
        app, images = Headrace(URL, queue="shop"), Tasks()
        app.include(images)
        task = images.task(resize)
        assert app.tasks == {"resize": task}
        assert task.config.queue == "shop"

    def test_a_library_may_include_another(self) -> None:
        app, outer, inner = Headrace(URL, queue="shop"), Tasks(), Tasks()
        outer.include(inner)
        task = inner.task(resize)
        app.include(outer)
        assert app.tasks == {"resize": task}
        late = inner.task(name="late")(resize)
        assert app.find_task("late") is late
        assert late.producer() is task.producer() is app.producer()

    def test_of_two_applications_the_first_keeps_its_enqueues(self) -> None:
        images = Tasks()
        task = images.task(resize)
        first, second = Headrace(URL, queue="one"), Headrace(URL, queue="two")
        first.include(images)
        second.include(images)
        other = second.find_task("resize")
        assert (task.config.queue, other.config.queue) == ("one", "two")
        assert (task.producer(), other.producer()) == (first.producer(), second.producer())
        assert other(2, 3) == 6

    def test_an_application_may_include_another(self) -> None:
        app, part = Headrace(URL, queue="shop"), Headrace("redis://127.0.0.1:2", queue="part")
        task = part.task(resize)
        app.include(part)
        assert app.tasks == {"resize": task}
        assert task.producer() is app.producer()

    def test_a_name_that_is_taken_is_refused_and_nothing_is_included(self) -> None:
        app, images = Headrace(URL), Tasks()
        images.task(name="first")(resize)
        images.task(resize)
        app.task(resize)
        with pytest.raises(InvalidSetting, match="there is a task 'resize' already"):
            app.include(images)
        assert [*app.tasks] == ["resize"]
        app.include(library := Tasks())
        with pytest.raises(InvalidSetting, match="there is a task 'resize' already"):
            library.task(resize)
        assert not library.tasks

    def test_nobody_includes_itself_not_by_a_detour_either(self) -> None:
        one, two = Tasks(), Tasks()
        one.include(two)
        with pytest.raises(InvalidSetting, match="cannot include itself"):
            two.include(one)
        with pytest.raises(InvalidSetting, match="cannot include itself"):
            one.include(one)

    def test_a_second_time_changes_nothing(self) -> None:
        app, images = Headrace(URL), Tasks()
        task = images.task(resize)
        app.include(images)
        app.include(images)
        assert app.tasks == {"resize": task}
        images.task(name="late")(resize)
        assert [*app.tasks] == ["resize", "late"]

    def test_options_are_checked_where_they_are_written(self) -> None:
        with pytest.raises(InvalidSetting, match="max_attempts=0 must be 1 or more"):
            Tasks().task(max_attempts=0)(resize)


class TestDiscovery:
    @pytest.fixture
    def shop(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """Give a package that stands where Python looks."""
        monkeypatch.syspath_prepend(tmp_path)
        folder = tmp_path / "discovered_shop"
        (folder / "jobs" / "mail").mkdir(parents=True)
        app = f"from headrace import Headrace\napp = Headrace('{URL}')\napp.discover('{folder.name}.jobs')\n"
        (folder / "app.py").write_text(app)
        for place in (
            "jobs/__init__.py",
            "jobs/orders.py",
            "jobs/mail/__init__.py",
            "jobs/mail/out.py",
        ):
            name = place.removesuffix(".py").replace("/", "_").replace("__init__", "init")
            text = f"from {folder.name}.app import app\n@app.task\ndef {name}() -> None: ...\n"
            (folder / place).write_text(text)
        (folder / "jobs/__main__.py").write_text("raise SystemExit('it was run')\n")
        yield folder
        for name in [name for name in sys.modules if name.startswith(folder.name)]:
            del sys.modules[name]

    def app(self) -> Headrace:
        from discovered_shop.app import app  # type: ignore[import-not-found]

        assert isinstance(app, Headrace)
        return app

    def test_all_modules_of_a_package_are_imported_but_its_program(self, shop: Path) -> None:
        app = self.app()
        assert not app.tasks
        app.import_discovered()
        assert sorted(app.tasks) == [
            "jobs_init",
            "jobs_mail_init",
            "jobs_mail_out",
            "jobs_orders",
        ]
        app.import_discovered()
        assert all(isinstance(task, Task) for task in app.tasks.values())

    def test_a_module_that_fails_is_named_with_the_line(self, shop: Path) -> None:
        (shop / "jobs/orders.py").write_text("\nx = 1 / 0\n")
        with pytest.raises(
            InvalidSetting,
            match=r"'discovered_shop\.jobs\.orders' cannot be imported: orders\.py, line 2: ZeroDiv",
        ):
            self.app().import_discovered()

    def test_a_package_that_is_not_there_is_named(self) -> None:
        app = Headrace(URL)
        app.discover("no_such_package.jobs")
        with pytest.raises(InvalidSetting, match="there is no module 'no_such_package'"):
            app.import_discovered()
