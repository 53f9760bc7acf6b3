"""How a task that takes batches is declared: ``@app.batch_task(size=100, within=0.5)``."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from headrace.batches.batch import Batch
from headrace.batches.gathering import Gathering
from headrace.errors import InvalidSetting
from headrace.function import innermost, is_async
from headrace.options import Seconds, seconds
from headrace.task import Task

T = TypeVar("T")

MOST = 1_000
"""The largest batch: all its jobs are held, and extended, by one consumer."""


class BatchFunction(Generic[T]):
    """What one job of a batch runs: it joins the others.

    Args:
        function: takes a ``Batch``; sync or async.
        size: how many jobs it takes at most in one call.
        within_s: how long the first of them waits for others, seconds.

    Raises:
        InvalidSetting: the function has another signature.
    """

    def __init__(self, function: Callable[[Batch[T]], Any], size: int, within_s: float) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function: Callable[[Batch[T]], Any] = function
        self.__signature__: inspect.Signature = _signature(function)
        self._gather = functools.partial(
            Gathering[T], function, asynchronous=is_async(function), size=size, within_s=within_s
        )
        self._here: WeakKeyDictionary[asyncio.AbstractEventLoop, Gathering[T]] = WeakKeyDictionary()

    async def __call__(self, value: T) -> Any:
        """Run one job."""
        loop = asyncio.get_running_loop()
        gathering = self._here.get(loop)
        if gathering is None:
            gathering = self._here[loop] = self._gather()
        return await gathering.join(value)


class BatchTask(Task[[T], Any], Generic[T]):
    """A task whose jobs have one argument each, and are run many in one call."""

    def __call__(self, batch: Any) -> Any:
        """Call the function, here and now, with a ``Batch``."""
        function: Any = self.function
        return function.function(batch)


class Batching:
    """Something that tasks are declared with."""

    _declare: Callable[..., Any]

    def batch_task(
        self, *, size: int = 100, within: Seconds = 0.1, name: str | None = None, **options: Any
    ) -> Callable[[Callable[[Batch[T]], Any]], BatchTask[T]]:
        """Make a task of a function that takes up to ``size`` jobs in one call: a ``Batch[T]``.

        Args:
            size: how many at most, up to 1,000.
            within: how long the first waits for others, seconds; a job's ``timeout`` includes that.
            name: the name under which its jobs travel; by default the function's.
            options: as ``task`` takes them.

        Raises:
            InvalidSetting: an option has no meaning, the name is taken, or the function's one parameter is not
                annotated as ``Batch[…]``.
        """
        if isinstance(size, bool) or not 1 <= size <= MOST:
            raise InvalidSetting(f"size={size!r} must be from 1 to {MOST:,}")
        within_s = seconds("within", within)

        def decorate(function: Callable[[Batch[T]], Any]) -> BatchTask[T]:
            joined = BatchFunction(function, size, within_s)
            task: BatchTask[T] = self._declare(BatchTask, joined, name, options)
            return task

        return decorate


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of one job's call: what ``Batch`` and the list that is returned have in them."""
    own = inspect.signature(function)
    parameters = list(own.parameters.values())
    try:
        hints = get_type_hints(innermost(function), include_extras=True)
    except Exception as error:  # whatever an annotation raises
        raise InvalidSetting(
            f"the annotations of batch task {_name(function)} cannot be resolved ({error})"
        ) from error
    hint = hints.get(parameters[0].name) if len(parameters) == 1 else None
    if hint is not Batch and get_origin(hint) is not Batch:
        raise InvalidSetting(
            f"batch task {_name(function)} takes one parameter, annotated as Batch[T]: T is what each job has"
        )
    returned = hints.get("return")
    each = get_args(returned)[:1] if get_origin(returned) is list else ()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    value = inspect.Parameter("value", kind, annotation=(*get_args(hint), Any)[0])
    return inspect.Signature([value], return_annotation=(*each, own.empty)[0])


def _name(function: object) -> str:
    return repr(getattr(function, "__name__", type(function).__name__))
