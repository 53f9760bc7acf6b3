"""A batch: the jobs that one call of a function takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from headrace.context import CURRENT, Context
from headrace.errors import Retry

T = TypeVar("T")

UNDECIDED: Final = object()


class BatchItem(Generic[T]):
    """One job of a batch.

    What becomes of it is said by one of its methods, once, or at the end of the call by what the function returns.

    Attributes:
        value: what it was enqueued with.
        ctx: its context: which job it is, and whether it should end.
    """

    def __init__(self, value: T, ctx: Context, heard: Callable[[], None] = lambda: None) -> None:
        self.value = value
        self.ctx = ctx
        self.result: Any = UNDECIDED
        self.error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._heard = heard

    @property
    def decided(self) -> bool:
        """Whether it was said what becomes of it."""
        return self.error is not None or self.result is not UNDECIDED

    def succeed(self, result: Any = None) -> None:
        """Say that the job is done; Redis is told at once."""
        if not self.decided:
            self.result = result
            self._heard()

    def fail(self, error: BaseException) -> None:
        """Say that the job has failed, as if it alone had raised this: ``Retry`` and ``Reject``, too."""
        if not self.decided:
            self.error, self._traceback = error, error.__traceback__
            self._heard()

    def retry(self, *, in_: float | None = None) -> None:
        """Say that the job is to be tried again, in so many seconds or after its backoff."""
        self.fail(Retry(in_=in_))

    def outcome(self) -> Any:
        """Return the job's result.

        Raises:
            BaseException: what it has failed with, which may be that of all jobs of a batch.
        """
        if self.error is not None:
            raise self.error.with_traceback(self._traceback)  # without what others have added to it
        return self.result


class Batch(Generic[T]):
    """The jobs of one call, in the order in which they came.

    Args:
        values: what they were enqueued with: for a call of the function without a consumer, in a test.
    """

    def __init__(self, values: Iterable[T] = ()) -> None:
        self.items: list[BatchItem[T]] = [BatchItem(value, CURRENT) for value in values]

    @property
    def values(self) -> list[T]:
        """What they were enqueued with."""
        return [item.value for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[BatchItem[T]]:
        return iter(self.items)

    def __getitem__(self, at: int) -> BatchItem[T]:
        return self.items[at]


def decide(items: list[BatchItem[T]], returned: object) -> None:
    """Decide what the function has not: its jobs are done with what it returned.

    Args:
        items: the jobs.
        returned: None; or a list with the result of each, or an exception for one that has failed.
    """
    if returned is None:
        returned = [None] * len(items)
    if not isinstance(returned, list | tuple) or len(returned) != len(items):
        what = f"{len(returned)}" if isinstance(returned, list | tuple) else type(returned).__name__
        problem = TypeError(
            f"a batch of {len(items)} returned {what}: return None, or a list of as many"
        )
        returned = [problem] * len(items)
    for item, one in zip(items, returned, strict=True):
        if isinstance(one, BaseException):
            item.fail(one)
        else:
            item.succeed(one)


def told_by(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    """Return what ends a future, from any thread; one whose job is gone stays as it is."""

    def end() -> None:
        if not future.done():
            future.set_result(None)

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed: the consumer has left without us
            loop.call_soon_threadsafe(end)

    return tell
