"""Half a minute of the fault laboratory: a third of its classes, small; ``make faults`` runs it whole.

Which ones, the seed says, another one each time: what a class finds, some of the next runs find.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import ROOT, clean_environment
from tests.support.wait import bound


def laboratory(*args: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *args],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.timeout(150)  # half a minute on a machine that has nothing else to do
def test_nothing_is_lost_in_half_a_minute_of_faults() -> None:
    ended = laboratory("--short", "--third", timeout_s=bound(120))
    print(ended.stdout)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert "PASS" in ended.stdout


def test_a_class_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    ended = laboratory("--only", "no such class", timeout_s=bound(20))
    assert ended.returncode == 2
    assert "consumer SIGKILL" in ended.stderr
