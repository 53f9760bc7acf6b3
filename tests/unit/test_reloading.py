"""Which files are the application's code, and who is told to end how often."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.supervisor.reloading import _Reloader, is_code


@pytest.mark.parametrize("path", ["shop.py", "shop/tasks/mail.py", "a.b/c.py", ".hidden.py"])
def test_python_files_are(path: str) -> None:
    assert is_code(Path(path))


@pytest.mark.parametrize(
    "path",
    [
        "shop.pyc",
        "README.md",
        ".venv/lib/python3.13/site-packages/redis/client.py",
        "venv/bin/x.py",
        ".git/hooks/x.py",
        "shop/__pycache__/x.py",
        "web/node_modules/gyp/x.py",
        ".headrace/x.py",
        "../elsewhere/x.py",
    ],
)
def test_what_belongs_to_others_is_not(path: str) -> None:
    assert not is_code(Path(path))


class _Process:
    told = 0

    def terminate(self) -> None:
        self.told += 1


@pytest.fixture
def reloader() -> Iterator[Any]:
    reloader: Any = _Reloader(lambda: 0, Path(), iter(()))
    reloader._process = _Process()
    yield reloader
    reloader.close()


def test_each_signal_is_handed_on(reloader: Any) -> None:
    for count in (1, 2):
        reloader._stop(signal.SIGINT, None)
        assert reloader._process.told == count


def test_what_ends_for_a_change_has_its_grace_though_a_first_signal_comes(reloader: Any) -> None:
    reloader._retiring = True
    reloader._stop(signal.SIGINT, None)
    assert reloader._process.told == 0  # it was told: a second one would end it at once
    reloader._stop(signal.SIGINT, None)
    assert reloader._process.told == 1
