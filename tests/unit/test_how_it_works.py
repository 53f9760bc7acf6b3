"""What docs/how-it-works.md draws is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from headrace.consumer.claimed import NEXT

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")


def test_each_step_of_a_job_is_drawn_and_no_other() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)", PAGE, re.MULTILINE))
    steps = {(phase, later) for phase in NEXT for later in NEXT[phase]}
    assert drawn == steps


def test_the_files_that_it_names_are_there() -> None:
    names = set(re.findall(r"\b(?:[a-z_]+/)*[a-z_]+\.py\b", PAGE))
    assert len(names) > 6
    missing = [name for name in names if not (ROOT / "src" / "headrace" / name).exists()]
    assert not missing


def test_the_scripts_that_it_names_are_there() -> None:
    names = set(re.findall(r"\b[a-z_]+\.lua\b", PAGE))
    assert names >= {"enqueue.lua", "claim.lua", "adopt.lua", "settle.lua"}
    there = {path.name for path in (ROOT / "src" / "headrace").glob("*/*.lua")}
    assert names <= there
