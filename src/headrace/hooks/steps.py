"""A step: something that is called or opened before a task's function, and closed after it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headrace.context import Context
from headrace.function import innermost, is_async

Kind = Literal["value", "awaited", "opened", "opened_async"]
"""How a step gets its value: from a call, from an ``await``, from ``with`` or from ``async with``."""


@dataclass(frozen=True, eq=False)
class Step:
    """One hook, or one dependency.

    Attributes:
        make: is called: it gives the value, or what is awaited or opened for it.
        kind: which.
        needs: its keyword arguments: each another step's value, or, where None stands, the context.
            None for a hook, which takes the context alone.
    """

    make: Callable[..., Any]
    kind: Kind
    needs: Mapping[str, Step | None] | None = None

    def start(self, context: Context, values: Mapping[Step, Any]) -> Any:
        """Call it."""
        if self.needs is None:
            return self.make(context)
        given = self.needs.items()
        return self.make(**{name: values[one] if one else context for name, one in given})


def step_of(function: Callable[..., Any], needs: Mapping[str, Step | None] | None = None) -> Step:
    """Return the step of a function: of a generator function, what stands after ``yield`` closes it."""
    inner = innermost(function)
    if inspect.isgeneratorfunction(inner):
        return Step(contextlib.contextmanager(function), "opened", needs)
    if inspect.isasyncgenfunction(inner):
        return Step(contextlib.asynccontextmanager(function), "opened_async", needs)
    return Step(function, _kind(function, inner), needs)


def _kind(function: Any, inner: Any) -> Kind:
    if inspect.isclass(function):
        if hasattr(function, "__aenter__"):
            return "opened_async"
        return "opened" if hasattr(function, "__enter__") else "value"
    if getattr(inner, "__globals__", None) is vars(contextlib):  # its decorators
        asynchronous = inspect.isasyncgenfunction(inspect.unwrap(inner))
        return "opened_async" if asynchronous else "opened"
    return "awaited" if is_async(function) else "value"


def name_of(function: Any) -> str:
    """Return what to call a function in a message."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__qualname__", None) or type(function).__name__)
