"""The command line as tests run it: as a program of its own, without a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, clean_environment
from tests.support.wait import WAIT_S

NOBODY = "redis://127.0.0.1:1/0"  # nothing listens there


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that says what went wrong."""
        (line,) = self.err.splitlines()
        assert line.startswith("headrace: ")
        return line.removeprefix("headrace: ")


def environment(url: str | None, **more: str) -> dict[str, str]:
    where = {} if url is None else {"HEADRACE_URL": url}
    return clean_environment(PYTHONPATH=str(ROOT / "src"), COLUMNS="80", **where) | more


def run(*args: str, url: str | None, stdin: str = "", cwd: Path | None = None, **env: str) -> Ran:
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", *args],
        env=environment(url, **env),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # so that it ends its own children
            pytest.fail(f"headrace {' '.join(args)} does not end: {process.communicate()}")
    return Ran(process.returncode, out, err)
