"""Tasks for tests of consumers: one body as a sync and as an async function, and bodies that wait."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Backoff, Headrace
from tests.support.wait import WAIT_S, await_until

BOTH = pytest.mark.parametrize("kind", ["async", "sync"])


def define(app: Headrace, kind: str, body: Callable[..., Any], **options: Any) -> Any:
    """Make a task of a sync function, as it is or as an async one."""
    if kind == "sync":
        return app.task(name="body", **options)(body)

    async def wrapped(*args: Any) -> Any:
        return body(*args)

    return app.task(name="body", **options)(wrapped)


def quick(config: Any) -> Any:
    """Give a task's options with no wait between attempts."""
    return dataclasses.replace(config, backoff=Backoff(base_s=0))


class Crowd:
    """Counts how many are inside at once, and holds them there until it is opened."""

    def __init__(self) -> None:
        self.inside = self.most = self.entered = 0
        self._lock = threading.Lock()
        self.open = threading.Event()

    def enter(self) -> None:
        with self._lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1

    def visit(self) -> None:
        self.enter()
        assert self.open.wait(WAIT_S)
        self.leave()

    async def avisit(self) -> None:
        self.enter()
        await await_until(self.open.is_set)
        self.leave()
