"""A command line against the session's server, and an application to name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.store import Store
from tests.support.commands import Headrace, Ran, run

SHOP = """\
from headrace import Headrace

app = Headrace()

@app.task(queue="mail")
def send(to: str, *, subject: str = "") -> str:
    return f"{to}: {subject}"

@app.task
def tidy() -> None: ...
"""


@pytest.fixture
def headrace(url: str) -> Headrace:
    """Run a command against the test's server."""

    def headrace(*args: str, **options: Any) -> Ran:
        return run(*args, **{"url": url} | options)

    return headrace


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Give a directory with an application in shop.py."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path
