"""A minute of the fault laboratory: each class once, small; ``make faults`` runs it whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import ROOT, clean_environment


@pytest.mark.timeout(240)  # a minute on a machine that has nothing else to do
def test_nothing_is_lost_in_a_minute_of_faults() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--short"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    print(ended.stdout)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert "PASS" in ended.stdout


def test_a_class_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--only", "no such class"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 2
    assert "consumer SIGKILL" in ended.stderr
