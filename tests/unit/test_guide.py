"""The guide is complete: what can be set, raised, counted and asked for stands in it."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import pytest

import headrace
from headrace import Headrace
from headrace.cli import DONE, FAILED, INTERRUPTED, READER_GONE, USAGE
from headrace.errors import LASTING_CODES
from headrace.options import JobOptions
from headrace.wire import Reason
from tests.support import guide

TEXT = guide.GUIDE.read_text()
WORDS = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`\n]+)`", TEXT))))


def rows(section: str) -> list[str]:
    """The rows of the tables of a section."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_its_tables_of_settings_and_metrics_are_those_of_the_code() -> None:
    assert guide.written(TEXT) == TEXT, "make them anew: python -m tests.support.guide"


def test_every_flag_and_every_variable_stands_in_the_table() -> None:
    table = "\n".join(rows("Settings"))
    for command, names, variable, _, _ in guide.options():
        for name in names:
            assert f"`{name}`" in table, f"{name} of {command}"
        shared = re.sub(r"^HEADRACE_.*_(\w+)$", r"HEADRACE_…_\1", variable)
        assert f"`{variable}`" in table or f"`{shared}`" in table, f"{variable} of {command}"


def test_every_option_of_a_task_and_of_a_job_is_explained() -> None:
    options = inspect.signature(Headrace.task).parameters, Headrace()._defaults
    assert {*options[1], "name", "retry_on", "give_up_on"} <= WORDS
    assert set(inspect.signature(Headrace).parameters) <= WORDS
    assert set(JobOptions.__annotations__) <= WORDS


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    found = {match[1] for row in rows("Dead letters") if (match := re.match(r"\| `(\w+)`", row))}
    assert found == set(get_args(Reason)) - {"cancelled"}  # which leaves no letter


def test_every_exit_code_is_explained() -> None:
    found = {
        int(match[1]) for row in rows("Exit codes") if (match := re.match(r"\| (\d+) \|", row))
    }
    assert {DONE, FAILED, USAGE, INTERRUPTED, READER_GONE, *LASTING_CODES} <= found


def test_every_public_name_stands_in_it() -> None:
    left_out = {"Job", "Task"}  # nobody makes them by name
    assert set(headrace.__all__) - left_out <= set(re.findall(r"\w+", TEXT))


def test_the_readme_leads_to_it_first() -> None:
    readme = (guide.GUIDE.parents[1] / "README.md").read_text()
    links = re.findall(r"\]\((docs/\w+\.md)\)", readme)
    assert links[0] == "docs/guide.md"


def test_the_suite_runs_without_the_plugin_of_a_dependency(pytestconfig: pytest.Config) -> None:
    assert not pytestconfig.pluginmanager.hasplugin("valkey")
