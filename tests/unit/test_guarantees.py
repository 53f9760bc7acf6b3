"""The guarantees page names a test for each promise, and there is such a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)


def test_each_invariant_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| I\d+ ", line)]
    assert [row.split()[1] for row in rows] == [f"I{n}" for n in range(1, 13)]
    assert all("::test_" in row for row in rows)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert re.search(rf"def {name}\b", (ROOT / path).read_text("utf-8"))
