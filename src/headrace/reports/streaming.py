"""Streaming: a generator as a task. What it yields goes to Redis, in order, while it runs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

from headrace.clock import monotonic
from headrace.context import current_job, reporters
from headrace.errors import InvalidArguments, JobStopped
from headrace.reports.outgoing import Outgoing
from headrace.reports.reporter import Reporter

Encode = Callable[[Any], bytes]

_LOOK_S: Final = 0.1  # how late a sync task that waits sees that it should end
_FAILED_S: Final = 1.0  # how long one that has failed waits until its last items are stored


def streamed(function: Callable[..., Any], encode: Encode, *, is_async: bool) -> Callable[..., Any]:
    """Return a function that runs a generator function and stores what it yields.

    What it returns in the end is the generator's return value.

    Args:
        function: gives a generator.
        encode: makes JSON of an item, or raises.
        is_async: it gives an async generator; then the function is async, too.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            generator = function(*args, **kwargs)
        except TypeError as error:
            # As for any other task: raised by the call itself, and not inside the function.
            own = error.__traceback__
            if own is not None and own.tb_next is None:
                raise InvalidArguments(str(error)) from error
            raise
        return _drain_async(generator, encode) if is_async else _drain(generator, encode)

    return functools.update_wrapper(call, function, updated=())


def _drain(generator: Generator[Any, None, Any], encode: Encode) -> Any:
    with _SyncStream() as stream, closing(generator):
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                return end.value
            stream.put(encode(item))


async def _drain_async(generator: AsyncGenerator[Any, None], encode: Encode) -> None:
    async with _AsyncStream() as stream, aclosing(generator):
        async for item in generator:
            await stream.put(encode(item))


class _Stream:
    """The stream of the job that runs here; nothing is kept if nobody wants its result."""

    def __init__(self) -> None:
        self._context = current_job.get()
        self._outgoing: Outgoing | None = None

    def _open(self, room: Callable[[], None]) -> None:
        if self._context is None:
            return
        ours = (one for one in reporters if isinstance(one, Reporter))
        found = (one.open(self._context, room) for one in ours)
        self._outgoing = next(filter(None, found), None)

    def _check(self) -> None:
        """Raise why nothing more can be stored.

        Raises:
            JobStopped: the job should end; or another has it.
            StoreError: Redis refuses it.
        """
        assert self._context is not None
        assert self._outgoing is not None
        if self._outgoing.lost and self._context.stop_reason is None:
            self._context.stop_reason = "lost"
        self._context.check()
        if self._outgoing.error is not None:
            raise self._outgoing.error


class _SyncStream(_Stream):
    """The stream of a sync task."""

    def __enter__(self) -> Self:
        # No event: a task that is interrupted in its ``wait`` could keep the event's lock.
        self._room: SimpleQueue[None] = SimpleQueue()
        self._open(self._make_room)
        return self

    def put(self, item: bytes) -> None:
        if self._outgoing is None:
            return
        self._outgoing.put(item)
        while self._outgoing.full:
            self._wait()
        self._check()

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if self._outgoing is None:
            return
        self._outgoing.close()
        if error is None:
            while not self._outgoing.over:
                self._wait()
            self._check()
        elif _may_wait(error):
            until = monotonic() + _FAILED_S
            while not self._outgoing.over and monotonic() < until:
                self._look()

    def _wait(self) -> None:
        self._look()
        self._check()

    def _look(self) -> None:
        with suppress(Empty):
            self._room.get(timeout=_LOOK_S)

    def _make_room(self) -> None:
        if self._room.empty():
            self._room.put(None)


class _AsyncStream(_Stream):
    """The stream of an async task."""

    async def __aenter__(self) -> Self:
        self._room = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._open(lambda: _unless_closed(loop, self._room.set))
        return self

    async def put(self, item: bytes) -> None:
        if self._outgoing is None:
            return
        self._outgoing.put(item)
        while self._outgoing.full:
            await self._wait()
        self._check()

    async def __aexit__(
        self, _: object, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._outgoing is None:
            return
        self._outgoing.close()
        if error is None:
            while not self._outgoing.over:
                await self._wait()
            self._check()
        elif _may_wait(error):
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAILED_S):
                    while not self._outgoing.over:
                        await self._room.wait()
                        self._room.clear()

    async def _wait(self) -> None:
        await self._room.wait()
        self._room.clear()
        self._check()


def _unless_closed(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _may_wait(error: BaseException) -> bool:
    """Whether a task that has failed so may take a moment: it was not told to end."""
    return isinstance(error, Exception) and not isinstance(error, JobStopped)
