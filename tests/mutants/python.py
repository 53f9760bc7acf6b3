"""Mutants of Python modules: made and judged by mutmut, in a copy of the tree that is thrown away.

The copy has only what the run needs: mutmut writes beside what it reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.survivors import ROOT

MODULES = (
    "wire.py",
    "fields.py",
    "retry.py",
    "consumer/claimed.py",
    "consumer/outcomes.py",
    "operations/consuming.py",
)
TESTS = ("wire", "retry", "claimed", "outcomes", "consuming")  # tests/unit/test_….py: all are pure

_NOT_KILLED = {0: "survived", 5: "no test", 33: "no test"}  # exit codes of the tests


@dataclass(frozen=True, slots=True)
class Judged:
    """One mutant of a module: the lines as they are, as the mutant has them, and how it ended."""

    file: str
    right: str
    wrong: str
    killed: bool


def judge(jobs: int) -> list[Judged]:
    """Run the unit tests against every mutant of the modules."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs)]
        log = Path(folder) / "log"
        with log.open("wb") as output:
            code = subprocess.run(
                command, cwd=tree, env=_environment(), stdout=output, stderr=output, check=False
            ).returncode
        if code:
            raise SystemExit(log.read_text(errors="replace")[-4_000:])
        with contextlib.chdir(tree):
            return list(results())


def results() -> Iterator[Judged]:
    """Read what mutmut found in the present directory."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # only where it is installed

    for module in MODULES:
        meta = json.loads(Path(f"mutants/src/headrace/{module}.meta").read_text("utf-8"))
        for name, code in meta["exit_code_by_key"].items():
            assert code is not None, f"{name} was not judged"
            right: list[str] = []
            wrong: list[str] = []
            for line in get_diff_for_mutant(name).splitlines()[2:]:
                if line.startswith(("-", "+")):
                    (right if line[0] == "-" else wrong).append(" ".join(line[1:].split()))
            yield Judged(module, " ".join(right), " ".join(wrong), code not in _NOT_KILLED)


def _copy(tree: Path) -> None:
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    paths = "".join(f"\n    src/headrace/{module}" for module in MODULES)
    tests = "".join(f"\n    tests/unit/test_{name}.py" for name in TESTS)
    options = "".join(
        f"\n    -p{name}" for name in ("no:cacheprovider", "no:xdist", "tests.mutants.profile")
    )
    (tree / "setup.cfg").write_text(
        f"[mutmut]\nsource_paths=src\nonly_mutate={paths}\n"
        f"pytest_add_cli_args_test_selection={tests}\npytest_add_cli_args={options}\n"
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
