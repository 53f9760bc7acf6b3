"""The application that a command line names: found, or refused with what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import Headrace, InvalidSetting
from headrace.cli.application import DEMO, is_demo, load
from headrace.demo import tasks

ONE = "from headrace import Headrace\napp = Headrace()\nthe_same = app\nqueue = 'app'\n"
TWO = "from headrace import Headrace\nclass Shop:\n    app = Headrace()\none, two = Headrace(), Headrace()\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a directory of one's own, of which nothing stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("shop"):
            del sys.modules[name]


def write(text: str, path: str = "shop_tasks.py") -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def refusal(spec: str) -> str:
    with pytest.raises(InvalidSetting) as caught:
        load(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_demos_application_has_the_tasks_of_the_tour() -> None:
    assert load(DEMO) is tasks.app
    assert is_demo(DEMO) and is_demo(f"{DEMO}:app") and not is_demo("shop") and not is_demo(None)
    assert {"echo", "add", "sleep", "fail", "flaky", "count_file"} == set(tasks.app.tasks)


def test_a_module_in_the_current_directory_is_found() -> None:
    write(ONE)
    assert isinstance(load("shop_tasks:app"), Headrace)


def test_a_module_in_a_package_is_found() -> None:
    write(ONE, "shop_package/inner/tasks.py")
    assert isinstance(load("shop_package.inner.tasks:app"), Headrace)


def test_a_module_alone_will_do_when_it_holds_one_application_however_often_named() -> None:
    write(ONE)
    assert load("shop_tasks") is load("shop_tasks:the_same")


def test_an_attribute_of_an_object_is_found() -> None:
    write(TWO)
    assert isinstance(load("shop_tasks:Shop.app"), Headrace)


def test_of_several_one_must_be_named() -> None:
    write(TWO)
    assert refusal("shop_tasks") == (
        "module 'shop_tasks' holds several applications: give shop_tasks:one or shop_tasks:two"
    )


def test_a_module_that_is_missing_is_named() -> None:
    assert "there is no module 'shop_nowhere'" in refusal("shop_nowhere:app")


def test_a_part_of_a_module_that_is_missing_is_named() -> None:
    write("", "shop_package/__init__.py")
    assert "there is no module 'shop_package.jobs'" in refusal("shop_package.jobs:app")


def test_a_module_that_the_users_module_lacks_is_told_apart() -> None:
    write("import shop_dependency\n")
    said = refusal("shop_tasks:app")
    assert "module 'shop_tasks' cannot be imported: shop_tasks.py, line 1" in said
    assert "No module named 'shop_dependency'" in said


def test_an_error_in_the_users_module_is_told_with_its_place() -> None:
    write("x = 1\nx.nope\n")
    assert "shop_tasks.py, line 2: AttributeError" in refusal("shop_tasks")


def test_an_error_of_several_lines_stays_one() -> None:
    write("raise ValueError('one\\ntwo')\n")
    assert r"ValueError: one\ntwo" in refusal("shop_tasks")


def test_a_syntax_error_in_the_users_module_is_told() -> None:
    write("def f(:\n")
    assert "SyntaxError" in refusal("shop_tasks")


def test_a_module_without_an_application_is_told_what_it_lacks() -> None:
    write("x = 1\n")
    assert "app = Headrace()" in refusal("shop_tasks")


def test_an_attribute_that_is_missing_is_told_with_what_there_is() -> None:
    write(ONE)
    assert refusal("shop_tasks:nope").startswith(
        "module 'shop_tasks' has no 'nope': give shop_tasks:app"
    )


def test_an_attribute_that_is_something_else_is_told() -> None:
    write(ONE)
    assert "shop_tasks:queue is a str, not a Headrace application" in refusal("shop_tasks:queue")


@pytest.mark.parametrize("spec", ["shop/tasks.py:app", "./shop/tasks.py:app", "shop/tasks:app"])
def test_a_file_is_answered_with_its_module(spec: str) -> None:
    assert refusal(spec).endswith("give the module, as in shop.tasks:app")


@pytest.mark.parametrize("spec", ["", ":app", "..tasks:app", "shop tasks"])
def test_what_is_no_name_at_all_is_refused(spec: str) -> None:
    with pytest.raises(InvalidSetting):
        load(spec or ":")
