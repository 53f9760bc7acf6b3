"""The bridge: from the thread of a sync task to the event loop, for hooks and dependencies that are async.

An async context manager is held open by one asyncio task, which opens it and closes it: ``asyncio.timeout``,
task groups and anyio's scopes demand that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final

Await = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on the event loop, and waits for what it returns or raises."""

_LOOK_S: Final = 0.1  # a thread that only waits would not hear that its job is interrupted

awaiting: ContextVar[Await | None] = ContextVar("awaiting", default=None)
"""How a sync job awaits something: set by the consumer. None: where nothing runs, each job has a loop."""


def wait_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine on the event loop of another thread; it is cancelled when this one is interrupted."""
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        while not future.done():
            futures.wait([future], _LOOK_S)
    except BaseException:
        future.cancel()
        raise
    return future.result()


@contextmanager
def held_open(manager: AbstractAsyncContextManager[Any], await_: Await) -> Iterator[Any]:
    """Open an async context manager from where nothing can be awaited, and close it."""
    held, error = _Held(manager), None
    try:
        yield await_(held.enter())
    except BaseException as raised:
        error = raised
        raise
    finally:
        try:
            await_(held.leave(error))
        finally:
            error = None  # else it and this frame keep each other alive


class _Held:
    """An async context manager that one asyncio task opens, and closes."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._holding: asyncio.Task[None] | None = None

    async def enter(self) -> Any:
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[Any] = loop.create_future()
        self._left: asyncio.Future[BaseException | None] = loop.create_future()
        self._holding = loop.create_task(self._hold())
        await asyncio.wait([self._holding, self._entered], return_when=asyncio.FIRST_COMPLETED)
        return await (self._entered if self._entered.done() else self._holding)

    async def leave(self, error: BaseException | None) -> None:
        if self._holding is None or self._holding.done():
            return  # it could not be opened
        if not self._entered.done():
            self._holding.cancel()
        elif not self._left.done():
            self._left.set_result(error)
        await asyncio.wait([self._holding])
        if not self._holding.cancelled():
            self._holding.result()  # raises what the closing has raised

    async def _hold(self) -> None:
        self._entered.set_result(await self._manager.__aenter__())
        try:
            error = await self._left
        except (
            asyncio.CancelledError
        ) as cancelled:  # the consumer ends, and leaves the thread behind
            error = cancelled
        # Not raised here, but handed over: asyncio lets some exceptions out of the loop.
        about = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        await self._manager.__aexit__(*about)
