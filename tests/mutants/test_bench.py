"""The bench: what fails without a mutant, too, kills none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.mutants import bench
from tests.mutants.lua import Mutant

MUTANT = Mutant("settle", 1, "a", "b", "b")


@dataclass
class Item:
    """A test that fails at some of its runs, with a mutant and without."""

    nodeid: str
    with_it: Sequence[bool]
    without: Sequence[bool] = ()


@pytest.fixture(autouse=True)
def _runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each item say itself how its runs end, in this process."""
    ends: dict[tuple[str, bool], list[bool]] = {}

    def first_failure(_: Any, items: list[Item], mutant: Mutant | None) -> str:
        for item in items:
            said = item.with_it if mutant else item.without
            if ends.setdefault((item.nodeid, mutant is not None), [*said]).pop(0):
                return item.nodeid
        return ""

    monkeypatch.setattr(bench, "_first_failure", first_failure)


@pytest.mark.parametrize(
    ("item", "killer"),
    [
        (Item("passes", [False]), ""),
        (Item("fails once", [True, False]), ""),
        (Item("fails by itself", [True, True], [True]), ""),
        (Item("kills", [True, True], [False]), "kills"),
    ],
)
def test_a_mutant_is_killed_by_a_test_that_fails_twice_and_passes_without_it(
    item: Item, killer: str
) -> None:
    assert bench._failed_twice(None, [item], MUTANT, {}) == killer  # type: ignore[arg-type,list-item]


def test_the_next_test_may_kill_where_one_fails_by_itself() -> None:
    items = [Item("fails by itself", [True, True], [True]), Item("kills", [True, True], [False])]
    assert bench._failed_twice(None, items, MUTANT, {}) == "kills"  # type: ignore[arg-type]


def test_what_has_just_passed_without_a_mutant_is_not_asked_again() -> None:
    item, sound = Item("kills", [True] * 4, [False]), dict[str, float]()
    for _ in range(2):
        assert bench._failed_twice(None, [item], MUTANT, sound) == "kills"  # type: ignore[arg-type,list-item]
