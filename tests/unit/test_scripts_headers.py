"""Every Lua script says on top what it does, what it is given, and what it answers."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "headrace"
SCRIPTS = sorted(PACKAGE.glob("*/*.lua"))  # scripts/lib/ holds parts of scripts, not scripts
BRING_JOBS = {
    "append",
    "arrive",
    "enqueue",
    "fill",
    "fire",
    "push",
    "replace",
    "start",
    "tick",
}  # or items of a stream

pytestmark = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)


def header(path: Path) -> str:
    """Give the comment lines that follow the first line."""
    match = re.match(r"#![^\n]*\n((?:--[^\n]*\n)*)", path.read_text("utf-8"))
    return match[1] if match else ""


def test_a_script_names_its_keys_its_arguments_and_its_answers(path: Path) -> None:
    assert re.match(r"-- [A-Z][^.]*\.", header(path)), "begin with one sentence: what it does"
    for word in ("KEYS", "ARGV", "Returns"):
        assert re.search(rf"^-- {word}\b", header(path), re.MULTILINE), f"'-- {word} …' is missing"


def test_a_script_binds_its_keys_by_the_names_in_its_header(path: Path) -> None:
    keys = header(path).partition("-- KEYS")[2].partition("-- ARGV")[0]
    documented = re.findall(r"\b\d+…? (\w+) \(", keys)
    bound = re.search(r"^local ([\w, ]+) = unpack\(KEYS", path.read_text("utf-8"), re.MULTILINE)
    if bound:
        names = bound[1].split(", ")
        assert names == documented[: len(names)]


def test_only_those_that_bring_jobs_may_be_refused_by_a_full_redis(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[0]
    assert first == ("#!lua" if path.stem in BRING_JOBS else "#!lua flags=allow-oom")
