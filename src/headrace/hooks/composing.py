"""Composing: a task's function, with its hooks and dependencies around it, as one function to be run.

The first hook is the outermost; the dependencies stand inside all hooks. Each that is opened is one ``with`` in
a frame of its own, and no list of exits: an exception that comes from outside (a job that is interrupted or
cancelled) may arrive between any two instructions, and still closes all that is open, in order.

None of them can swallow an exception: a job that has failed would count as done.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing
from types import TracebackType
from typing import Any

from headrace.context import Context, current_job
from headrace.errors import InvalidArguments
from headrace.hooks.bridge import Await, awaiting, held_open
from headrace.hooks.dependencies import Injected
from headrace.hooks.events import Listeners
from headrace.hooks.steps import Step
from headrace.hooks.telling import tell_started

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def compose(
    function: Callable[..., Any],
    hooks: Sequence[Step],
    injected: Injected,
    listeners: Listeners,
    *,
    asynchronous: bool,
) -> Callable[..., Any]:
    """Return what a run calls: the function itself, when there is nothing around it."""
    if not (hooks or injected.steps or "started" in listeners):
        return function
    composed = _Composed(function, [*hooks, *injected.steps], injected, listeners)
    return composed.run_async if asynchronous else composed.run


class _Run:
    """One run: its context, its call, and the values of the steps so far."""

    __slots__ = ("args", "context", "kwargs", "values")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        context = current_job.get()
        assert context is not None  # whoever runs a job sets it
        self.context: Context = context
        self.args, self.kwargs = args, kwargs
        self.values: dict[Step, Any] = {}


class _Composed:
    """A function and what stands around it."""

    def __init__(
        self,
        function: Callable[..., Any],
        steps: Sequence[Step],
        injected: Injected,
        listeners: Listeners,
    ) -> None:
        self._function = function
        self._steps = steps
        self._injected = injected
        self._listeners = listeners

    # — of a function that is not async: in a thread —

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run a job of a sync function."""
        run = _Run(args, kwargs)
        tell_started(run.context, self._listeners)
        await_ = awaiting.get()
        if await_ is not None:
            return self._go_on(run, 0, await_)
        with closing(asyncio.Runner()) as runner:  # which makes a loop when it is needed
            return self._go_on(run, 0, runner.run)

    def _go_on(self, run: _Run, first: int, await_: Await) -> Any:
        for at in range(first, len(self._steps)):
            step = self._steps[at]
            made = step.start(run.context, run.values)
            if step.kind == "awaited":
                made = await_(made)
            elif step.kind != "value":
                manager: Any = made if step.kind == "opened" else held_open(made, await_)
                return self._within(manager, run, at, await_)
            run.values[step] = made
        value = self._call(run)
        while inspect.isawaitable(value):  # a decorator has hidden that it is async

            async def await_it(value: Any = value) -> Any:
                return await value

            value = await_(await_it())
        return value

    def _within(
        self, manager: AbstractContextManager[Any, bool], run: _Run, at: int, await_: Await
    ) -> Any:
        raised: BaseException | None = None
        try:
            with manager as value:
                try:
                    run.values[self._steps[at]] = value
                    return self._go_on(run, at + 1, await_)
                except BaseException as error:
                    raised = error
                    raise
            assert raised is not None
            raise raised  # it was swallowed
        finally:
            raised = None  # else it and this frame keep each other alive

    # — of an async function: on the event loop —

    async def run_async(self, *args: Any, **kwargs: Any) -> Any:
        """Run a job of an async function."""
        run = _Run(args, kwargs)
        tell_started(run.context, self._listeners)
        return await self._go_on_async(run, 0)

    async def _go_on_async(self, run: _Run, first: int) -> Any:
        for at in range(first, len(self._steps)):
            step = self._steps[at]
            made = step.start(run.context, run.values)
            if step.kind == "awaited":
                made = await made
            elif step.kind != "value":
                manager = made if step.kind == "opened_async" else _AsAsync(made)
                return await self._within_async(manager, run, at)
            run.values[step] = made
        value = self._call(run)
        while inspect.isawaitable(value):
            value = await value
        return value

    async def _within_async(
        self, manager: AbstractAsyncContextManager[Any, bool], run: _Run, at: int
    ) -> Any:
        raised: BaseException | None = None
        try:
            async with manager as value:
                try:
                    run.values[self._steps[at]] = value
                    return await self._go_on_async(run, at + 1)
                except BaseException as error:
                    raised = error
                    raise
            assert raised is not None
            raise raised
        finally:
            raised = None

    # — both —

    def _call(self, run: _Run) -> Any:
        args, kwargs = self._filled(run)
        try:
            return self._function(*args, **kwargs)
        except TypeError as error:
            # As in ``consumer.run.invoke``: raised by the call itself, and not inside the task.
            own = error.__traceback__ if type(error) is TypeError else None
            if own is not None and own.tb_next is None:
                raise InvalidArguments(str(error)) from error
            raise

    def _filled(self, run: _Run) -> Arguments:
        """Return the arguments of the function, those that callers do not pass among them."""
        args, kwargs = [*run.args], {**run.kwargs}
        for place, name, step in self._injected.parameters:
            if place is not None and place < len(args):
                args.insert(place, run.values[step])
                kwargs.pop(name, None)
            else:
                kwargs[name] = run.values[step]
        return tuple(args), kwargs


class _AsAsync(AbstractAsyncContextManager[Any, bool]):
    """A context manager for ``async with``; its code runs on the event loop."""

    def __init__(self, manager: AbstractContextManager[Any, bool]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        return self._manager.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._manager.__exit__(kind, error, traceback)
