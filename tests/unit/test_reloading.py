"""Which files are the application's code."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.supervisor.reloading import is_code


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
