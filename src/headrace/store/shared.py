"""Group commit: whoever asks while a round trip is under way shares the next one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from headrace.errors import StoreError
from headrace.operations import Operation
from headrace.store.aio import AsyncStore

A = TypeVar("A")
R = TypeVar("R")

_REQUESTS_A_TRIP: Final = 500  # short ones: some milliseconds of Redis' time


class Together(Generic[A, R]):
    """Collects requests of one event loop while a round trip is under way.

    Args:
        trip: makes one round trip for many; gives an answer to each, or the exception to raise.
        most: how many requests one trip carries.
    """

    def __init__(
        self, trip: Callable[[list[A]], Awaitable[Sequence[R | Exception]]], most: int
    ) -> None:
        self._trip = trip
        self._most = most
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def ask(self, request: A) -> R:
        """Return the answer to one request. Who is cancelled meanwhile may have been served."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                try:
                    answers = await self._trip([request for request, _ in batch])
                except BaseException:  # the loop ends, or a fault of ours: leave nobody waiting
                    for _, future in (*batch, *self._waiting):
                        future.cancel()
                    raise
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():  # its caller was cancelled
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._flushing = None


class SharedStore(AsyncStore):
    """An awaited store for many callers: what they ask at the same time travels together."""

    def __init__(self, url: str, *, name: str | None = None) -> None:
        super().__init__(url, name=name)
        self._together: Together[Sequence[Operation[Any]], list[Any]] = Together(
            self._for_all, _REQUESTS_A_TRIP
        )

    async def run_all(
        self, operations: Sequence[Operation[Any]], _: Callable[[], None] | None = None
    ) -> list[Any]:
        """Run operations as ``AsyncStore.run_all`` does."""
        return await self._together.ask(operations) if operations else []

    async def _for_all(
        self, requests: list[Sequence[Operation[Any]]]
    ) -> list[list[Any] | StoreError]:
        try:
            answers = iter(await super().run_all([op for asked in requests for op in asked]))
        except StoreError as error:
            return [_own(error) for _ in requests]
        return [[next(answers) for _ in asked] for asked in requests]


def _own(error: StoreError) -> StoreError:
    """Give a caller an exception of its own: it is raised, and gets a traceback."""
    own = copy.copy(error)
    own.__cause__ = error
    return own
