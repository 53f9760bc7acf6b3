"""The smallest configuration of the model has no error, and removals are caught: `make model` checks all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/check-model"

needs_spin = pytest.mark.skipif(
    not (shutil.which("spin") or (ROOT / ".cache/spin/usr/bin/spin").exists())
    or not shutil.which("gcc"),
    reason="needs gcc, and spin: run scripts/check-model once, or apt-get install spin",
)


def check_model(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


@needs_spin
def test_the_smallest_configuration_has_no_error_and_a_removal_has_a_counterexample() -> None:
    checked = check_model("--trail", "short", "TOKEN_UNREAD")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no error: claims by script" in checked.stdout
    assert "I4: only the current claim settles (5 steps)" in checked.stdout
    assert "    settle: consumer 2, done (id 1, token 5; the current one is 4)\n" in checked.stdout


@needs_spin
def test_the_models_of_hand_off_and_limits_find_what_was_removed() -> None:
    checked = check_model("HANDOFF_IN_TWO", "SLOT_KEPT")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "H1: what follows is enqueued, if it may (3 steps)" in checked.stdout
    assert "I10: in the end nobody waits, in a lane or elsewhere (6 steps)" in checked.stdout


def test_an_unknown_name_is_an_error_that_names_the_known_ones() -> None:
    checked = check_model("tokens")
    assert checked.returncode == 2
    assert "TOKEN_UNREAD" in checked.stderr
