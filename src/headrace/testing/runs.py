"""Runs the jobs of a test one by one: where the test runs, by the consumer's own steps (``consumer.run``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

from headrace.app import Headrace
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.run import End, Later, failure, invoke, is_awaitable, success
from headrace.context import StopReason, current_job, lifespan_state
from headrace.hooks.bridge import awaiting, wait_on
from headrace.lifespan import Lifetime, held_open

R = TypeVar("R")


class Crash(BaseException):
    """Raised by a test's stand-in, deep inside a task: here the consumer is lost.

    Unlike a real loss it passes the task's ``finally`` blocks, and an ``except BaseException``.
    """


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        end: what the outcome is made of.
        value: what the function returned.
        error: what it raised itself.
    """

    end: End
    value: Any = None
    error: BaseException | None = None


class Runner:
    """Calls the functions of claimed jobs.

    Args:
        app: the application; its lifespan is opened before the first run.
        state: what the lifespan would have yielded; then it is not opened.
    """

    def __init__(self, app: Headrace, state: Mapping[str, Any] | None) -> None:
        self._app = app
        self._state = state
        # As in a consumer, jobs see the variables of none who enqueued them.
        self._variables = copy_context()
        self._here: _Here | None = None
        self._on_loop: _OnLoop | None = None

    def run(self, claimed: ClaimedJob) -> Run:
        """Run a job in this thread; async ones in an event loop of the test's own.

        Raises:
            LifespanFailed: the lifespan cannot be opened.
        """
        if self._here is None:
            self._here = _Here(self._app, self._state, self._variables.copy())
        variables = self._here.variables.copy()
        run = variables.run(_begun, claimed)
        if isinstance(run, Later):
            return self._here.complete(_ended(claimed, run), variables)
        return run

    async def arun(self, claimed: ClaimedJob) -> Run:
        """Run a job in this event loop; one that is not async in a thread, as a consumer does.

        Raises:
            LifespanFailed: the lifespan cannot be opened.
        """
        loop = asyncio.get_running_loop()
        if self._on_loop is None or self._on_loop.loop is not loop:
            on_loop = _OnLoop(self._app, self._state, self._variables.copy())
            await on_loop.open()
            self._on_loop = on_loop
        variables = self._on_loop.variables.copy()
        assert claimed.task is not None
        if claimed.task.is_async:
            run = variables.run(_begun, claimed)
        else:
            run = await loop.run_in_executor(None, variables.run, _begun, claimed)
        if not isinstance(run, Later):
            return run
        task = loop.create_task(_ended(claimed, run), context=variables)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()

    def check_no_loop_runs(self) -> None:
        """Refuse to run jobs where an event loop runs.

        Raises:
            RuntimeError: one does.
        """
        if _loop_runs():
            raise RuntimeError(
                "an event loop runs here, in which jobs cannot be run without awaiting them: "
                "await arun(), or await job.aresult()"
            )

    def close(self) -> None:
        """Close the lifespan, where that can be done without awaiting it."""
        if self._here is not None:
            self._here.close()
        if self._on_loop is not None:
            self._on_loop.close()
        self._here = self._on_loop = None

    async def aclose(self) -> None:
        """Close the lifespan."""
        if self._on_loop is not None:
            await self._on_loop.aclose()
        self._on_loop = None


class _Here:
    """What runs in threads without an event loop share: the lifespan, and a loop for async tasks."""

    def __init__(
        self, app: Headrace, state: Mapping[str, Any] | None, variables: Variables
    ) -> None:
        self.variables = variables
        self._stack = ExitStack()
        self._run: Callable[..., Any]
        if app.lifespan is None or state is not None:
            variables.run(lifespan_state.set, SimpleNamespace(**(state or {})))
            # A loop factory keeps it from becoming the thread's, which may be the test's own.
            runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._stack.callback(runner.close)
            self._run = lambda coroutine, context: runner.run(coroutine, context=context)
        else:
            run = variables.run(self._stack.enter_context, held_open(app))
            self._run = lambda coroutine, context: context.run(run, coroutine)
        # For what a sync job's hooks and dependencies await.
        variables.run(awaiting.set, lambda coroutine: self._run(coroutine, copy_context()))

    def complete(self, coroutine: Coroutine[Any, Any, R], variables: Variables) -> R:
        result: R = self._run(coroutine, variables)
        return result

    def close(self) -> None:
        self.variables.run(self._stack.close)


class _OnLoop:
    """The lifespan in an event loop of the test's: closed by ``aclose``, or when the loop ends."""

    def __init__(
        self, app: Headrace, state: Mapping[str, Any] | None, variables: Variables
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.variables = variables
        self._app = app
        self._state = state
        self._holding: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def open(self) -> None:
        self.variables.run(awaiting.set, partial(wait_on, self.loop))
        if self._app.lifespan is None or self._state is not None:
            self.variables.run(lifespan_state.set, SimpleNamespace(**(self._state or {})))
            return
        opened = asyncio.Event()
        # Opened and closed by one task, as anyio wants it. It is cancelled when the loop ends.
        self._holding = self.loop.create_task(self._hold(opened), context=self.variables)
        waiting = self.loop.create_task(opened.wait())
        await asyncio.wait([self._holding, waiting], return_when=asyncio.FIRST_COMPLETED)
        if self._holding.done():
            waiting.cancel()
            self._holding.result()

    async def _hold(self, opened: asyncio.Event) -> None:
        lifetime = Lifetime(self._app)
        await lifetime.open()
        try:
            opened.set()
            await self._over.wait()
        finally:
            await lifetime.close()

    def close(self) -> None:
        self._over.set()
        if self._holding is None or self._holding.done() or self.loop.is_closed():
            return
        if not self.loop.is_running() and not _loop_runs():
            self.loop.run_until_complete(self._holding)

    async def aclose(self) -> None:
        self._over.set()
        if self._holding is not None:
            await asyncio.wait([self._holding])


def _begun(claimed: ClaimedJob) -> Run | Later:
    __tracebackhide__ = True
    current_job.set(claimed.context)
    try:
        value = invoke(claimed)
        return Later(value) if is_awaitable(value) else Run(success(claimed, value), value)
    except (KeyboardInterrupt, Crash):
        raise
    except BaseException as error:  # as in a consumer: SystemExit, too
        return Run(failure(claimed, error), error=error)


async def _ended(claimed: ClaimedJob, later: Later) -> Run:
    __tracebackhide__ = True
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    assert claimed.context is not None
    claimed.async_run = task
    body, config = claimed.decoded, claimed.task and claimed.task.config
    timeout_s = (body and body.timeout) or (config and config.timeout_s)
    timer = loop.call_later(timeout_s, stop, claimed, "timeout") if timeout_s else None
    try:
        value: Any = later.begin(claimed)
        while is_awaitable(value):
            value = await value
        return Run(success(claimed, value), value)
    except (KeyboardInterrupt, Crash):
        raise
    except BaseException as error:
        cancelled = (
            isinstance(error, asyncio.CancelledError) and claimed.context.stop_reason is None
        )
        if cancelled and task.cancelling():  # the test itself ends
            raise
        return Run(failure(claimed, error), error=error)
    finally:
        claimed.async_run = None
        if timer is not None:
            timer.cancel()


def stop(claimed: ClaimedJob, reason: StopReason) -> None:
    """Tell a running job to end: its context says so, and an async one is cancelled."""
    if claimed.context is not None:
        claimed.context.stop_reason = reason
    if claimed.async_run is not None:
        run = claimed.async_run
        run.get_loop().call_soon_threadsafe(run.cancel)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
