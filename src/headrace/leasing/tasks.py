"""The tasks of jobs that run elsewhere: every name is one, for whoever claims the job knows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from headrace.app import Headrace
from headrace.options import task_options
from headrace.task import Task


class AnyTasks(Mapping[str, Task[Any, Any]]):
    """The tasks of an application; any other name is one with the application's defaults.

    Args:
        app: the application.
    """

    def __init__(self, app: Headrace) -> None:
        self._app = app
        self._made = lru_cache(maxsize=1024)(self._make)

    def __getitem__(self, name: str) -> Task[Any, Any]:
        return self._app.tasks.get(name) or self._made(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._app.tasks)

    def __len__(self) -> int:
        return len(self._app.tasks)

    def _make(self, name: str) -> Task[Any, Any]:
        app = self._app
        config = task_options(app._defaults)  # noqa: SLF001  they are of no use to others
        task = Task(_elsewhere, name=name, config=config, producer=app.producer)
        task.queue_limits = app.queue_limits
        return task


def _elsewhere(*_: Any, **__: Any) -> None:
    """Stand for a function that is not here."""
    raise NotImplementedError("it runs elsewhere")
