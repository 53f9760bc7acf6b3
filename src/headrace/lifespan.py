"""The lifespan of an application: what each consumer opens before its first job, and closes after the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    contextmanager,
)
from contextvars import copy_context
from types import CoroutineType, SimpleNamespace
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from headrace.context import lifespan_state
from headrace.errors import InvalidSetting, LifespanFailed
from headrace.logs import one_line

A = TypeVar("A")
R = TypeVar("R")

State: TypeAlias = Mapping[str, Any] | None

Lifespan: TypeAlias = Callable[
    [A], AbstractAsyncContextManager[State] | AbstractContextManager[State]
]
"""Takes the application; the context manager that it gives yields a mapping, or None."""

log: logging.Logger = logging.getLogger("headrace.consumer")

CLOSE_S: Final = 10.0
"""How long a lifespan may take to close; then it is left as it is, for the process ends."""


class WithLifespan(Protocol):
    """An application."""

    lifespan: Lifespan[Any] | None


class Lifetime:
    """Opens and closes the lifespan of one application, in one event loop.

    Args:
        app: the application; without a lifespan nothing is done.
    """

    def __init__(self, app: WithLifespan) -> None:
        self._app = app
        self._stack = AsyncExitStack()
        self._busy: asyncio.Task[Any] | None = None

    def hurry(self) -> None:
        """Give up the opening or closing that is under way, if there is one."""
        if self._busy is not None:
            self._busy.cancel()

    async def open(self) -> None:
        """Open the lifespan: jobs that begin in this context, or a copy of it, have its state.

        Raises:
            LifespanFailed: it cannot be opened; the message says why.
        """
        if self._app.lifespan is None:
            return
        self._busy = asyncio.current_task()
        try:
            lifespan_state.set(await self._enter(self._app.lifespan(self._app)))
        except Exception as error:
            await self.close()
            raise LifespanFailed(
                f"the application's lifespan failed: {type(error).__name__}: {one_line(str(error))} "
                "(-l debug shows where)"
            ) from error
        finally:
            self._busy = None

    async def close(self) -> None:
        """Close what was opened; what goes wrong then is written into the log."""
        self._busy = asyncio.current_task()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._stack.aclose()
        except TimeoutError:
            log.error("the application's lifespan has not closed within %g s", CLOSE_S)
        except Exception:
            log.exception("the application's lifespan failed to close")
        finally:
            self._busy = None

    async def _enter(self, lifespan: object) -> SimpleNamespace:
        state: object
        if isinstance(lifespan, AbstractAsyncContextManager):
            state = await self._stack.enter_async_context(lifespan)
        elif isinstance(lifespan, AbstractContextManager):
            state = self._stack.enter_context(lifespan)
        else:
            if isinstance(lifespan, CoroutineType):
                lifespan.close()  # else Python complains that it was never awaited
            raise InvalidSetting(
                "lifespan= is a function that gives a context manager, and this one gave a "
                f"{type(lifespan).__name__}: put @contextlib.asynccontextmanager above it, and yield once"
            )
        if not isinstance(state, Mapping | None):
            raise InvalidSetting(f"it has to yield a mapping, and not {type(state).__name__}")
        return SimpleNamespace(**(state or {}))


@contextmanager
def held_open(app: WithLifespan | None) -> Iterator[Callable[[Coroutine[Any, Any, R]], R]]:
    """Open a lifespan where no event loop runs, and close it after the block.

    Gives:
        What ``asyncio.run`` is: it runs a coroutine, in the event loop of the lifespan.

    Raises:
        LifespanFailed: it cannot be opened.
    """
    if app is None or app.lifespan is None:
        with asyncio.Runner() as runner:
            yield lambda coroutine: runner.run(coroutine, context=copy_context())
        return
    lifetime, opened, over = Lifetime(app), asyncio.Event(), asyncio.Event()

    async def hold() -> None:  # opened and closed by one task, as anyio wants it
        await lifetime.open()
        opened.set()
        await over.wait()
        await lifetime.close()

    async def opening() -> None:
        waiting = asyncio.ensure_future(opened.wait())
        await asyncio.wait([holding, waiting], return_when=asyncio.FIRST_COMPLETED)
        if holding.done():
            waiting.cancel()
            holding.result()  # raises

    async def closing() -> None:
        over.set()
        await holding

    context = copy_context()
    with asyncio.Runner() as runner:
        holding = runner.get_loop().create_task(hold(), context=context)
        runner.run(opening())
        lifespan_state.set(context[lifespan_state])
        try:
            yield lambda coroutine: runner.run(coroutine, context=copy_context())
        finally:
            runner.run(closing())
