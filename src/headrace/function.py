"""What a task's function is: async or not, none that runs nothing, and which parameter takes the context."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from types import MethodType
from typing import Any, Final, get_args, get_type_hints

from headrace.context import Context
from headrace.errors import InvalidSetting
from headrace.wire import MAX_TASK_NAME

# Annotations that stay text because a name in them cannot be resolved, ``if TYPE_CHECKING``, say.
_CONTEXT: Final = re.compile(r"(headrace\.)?Context")
_OPTIONAL: Final = re.compile(r"(typing\.)?(Optional|Union)|None|[\s|,\[\]]*")


def innermost(function: Any) -> Any:
    """Return the function that a call runs first: inside partials, methods and callable objects."""
    while not inspect.isfunction(function):
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, staticmethod | MethodType):
            function = function.__func__
        elif inspect.isfunction(call := getattr(type(function), "__call__", None)):  # noqa: B004
            function = call
        else:
            break  # a class, or a function written in C
    return function


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives a coroutine. A decorator may hide that: then its first run shows it."""
    inner = innermost(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inner)


def is_generator(function: Any) -> bool:
    """Whether a call gives a generator, async or not."""
    inner = innermost(function)
    flags = inner.__code__.co_flags if inspect.isfunction(inner) else 0
    generator = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
    return bool(flags & generator) and not flags & inspect.CO_ITERABLE_COROUTINE


def name_of_task(function: Any, name: str | None, *, streams: bool = False) -> str:
    """Return the name under which a function's jobs travel: its own, unless one is given.

    Args:
        function: the function.
        name: the name that was given.
        streams: what a generator yields is kept.

    Raises:
        InvalidSetting: it has none of its own, or it can be no task: a call of it would run nothing.
    """
    own: str | None = name or getattr(function, "__name__", None)
    if not callable(function):
        raise InvalidSetting(f"a task must be callable, and {type(function).__name__} is not")
    if not own:
        raise InvalidSetting(f"a {type(function).__name__} has no name of its own: give it name=")
    if len(own) > MAX_TASK_NAME:
        raise InvalidSetting(f"a task's name has at most {MAX_TASK_NAME} characters: {own[:40]!r}…")
    if is_generator(function) and not streams:
        raise InvalidSetting(
            f"task {own!r} is a generator, and calling one runs nothing of it: give it result_ttl= "
            "seconds, and what it yields is kept for so long, for job.stream(); or return a list"
        )
    return own


def context_parameter(function: Callable[..., Any]) -> str | None:
    """Return the parameter that is annotated as ``Context``, or as ``Context | None``, or None.

    Raises:
        InvalidSetting: it has no name by which it could be given.
    """
    inner = innermost(function)
    try:
        hints = get_type_hints(inner)
    except Exception:  # an annotation that cannot be resolved is the user's business
        hints = getattr(inner, "__annotations__", {})
    parameters = inspect.signature(function).parameters
    for name, hint in hints.items():
        if name in parameters and _is_context(hint):
            if parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY:
                raise InvalidSetting(
                    f"parameter {name!r} takes the context, so it must have a name"
                )
            return name
    return None


def _is_context(hint: Any) -> bool:
    if isinstance(hint, str):
        return bool(_CONTEXT.search(hint)) and all(
            _CONTEXT.fullmatch(part) or _OPTIONAL.fullmatch(part)
            for part in re.split(r"([\w.]+)", hint)
        )
    return hint is Context or Context in get_args(hint)
