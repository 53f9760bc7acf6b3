"""The protocol's model: its smallest configuration has no error, and without a mechanism there is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FETCHED = ROOT / ".cache" / "spin" / "usr" / "bin" / "spin"

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") and (shutil.which("spin") or FETCHED.exists())),
    reason="no spin or no C compiler: `make model` fetches spin where it can",
)


def check(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "check-model"), *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_every_job_ends_whatever_crashes() -> None:
    ran = check("ends")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("no error, every state") == 2


def test_without_the_sweep_a_moved_job_never_ends() -> None:
    ran = check("NO_SWEEP", "--trail")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "I10: a job never ends" in ran.stdout
    assert "a blocking move gives job" in ran.stdout


def test_a_name_that_there_is_not_is_said() -> None:
    ran = check("NO_SUCH")
    assert ran.returncode == 2
    assert "no such name: NO_SUCH; there are: leases" in ran.stderr
