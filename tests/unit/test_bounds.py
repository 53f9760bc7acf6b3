"""What a test waits for has a bound from ``tests/support/wait.py``, not a number of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# What is never run, and where time is virtual.
OTHERS = (TESTS / "support/wait.py", TESTS / "typing", TESTS / "unit/testing")
FILES = sorted(path for path in TESTS.rglob("*.py") if not {path, *path.parents} & {*OTHERS})

# Calls that wait, and where their bound stands: its position, or its keyword.
WAITING = {
    "AsyncClient": (None, "timeout"),
    "Client": (None, "timeout"),
    "aresult": (0, "timeout"),
    "call_and_validate": (None, "timeout"),
    "communicate": (1, "timeout"),
    "get": (None, "timeout"),
    "join": (0, "timeout"),
    "post": (None, "timeout"),
    "result": (0, "timeout"),
    "run": (None, "timeout"),
    "stream": (None, "timeout"),
    "timeout": (0, "delay"),
    "wait": (0, "timeout"),
    "wait_for": (1, "timeout"),
    "wait_until": (None, "within_s"),
    "await_until": (None, "within_s"),
}

_A_MOMENT_S = 1.0  # so long a test may look whether something does not happen


def bounds_in(tree: ast.Module) -> Iterator[tuple[int, float]]:
    """Give the line and the seconds of each wait for something that is bounded by a number."""
    constants = {
        ast.unparse(target): node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = str(getattr(node.func, "attr", None) or getattr(node.func, "id", ""))
        place, keyword = WAITING.get(name, (None, ""))
        given = [each.value for each in node.keywords if each.arg == keyword]
        if place is not None and not (name == "timeout" and _is_a_marker(node)):
            given += node.args[place : place + 1]
        for value in given:
            meant = constants.get(ast.unparse(value), value)
            seconds = meant.value if isinstance(meant, ast.Constant) else None
            if isinstance(seconds, int | float) and seconds > _A_MOMENT_S:
                yield node.lineno, seconds


def _is_a_marker(node: ast.Call) -> bool:
    return "mark" in ast.unparse(node.func)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_wait_has_a_number_for_a_bound(path: Path) -> None:
    assert not list(bounds_in(ast.parse(path.read_text()))), "use WAIT_S or bound(seconds)"


@pytest.mark.parametrize(
    "line",
    [
        "thread.join(5)",
        "asyncio.timeout(2.0)",
        "wait_until(ready, within_s=3)",
        "p.wait(timeout=2)",
        "await job.aresult(timeout=30)",
        "SOON_S = 10\nhttpx.get(url, timeout=SOON_S)",
        "SOON_S: Final = 10\nhttpx.get(url, timeout=SOON_S)",
    ],
)
def test_a_number_is_seen(line: str) -> None:
    assert list(bounds_in(ast.parse(line)))
