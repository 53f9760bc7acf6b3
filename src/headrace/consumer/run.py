"""A run of a task: its function is called, and what that returned or raised becomes plain data.

This is the one place where a task's objects are looked at, and it is called where the task runs, so
that what hangs there holds no more than the task itself could. Everything after it (the outcome, the
log, the letter) handles the consumer's own data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, TypeGuard

from headrace import plain
from headrace.consumer.claimed import ClaimedJob
from headrace.errors import InvalidArguments, JobInterrupted, JobStopped, Reject, Retry
from headrace.wire import Reason

_GENERATORS: Final = (GeneratorType, AsyncGeneratorType)
_ITERABLE_COROUTINE: Final = 0x100  # inspect.CO_ITERABLE_COROUTINE: of ``types.coroutine``


@dataclass(frozen=True, slots=True)
class Failure:
    """How a run failed.

    Attributes:
        error: a plain copy of what was raised.
        stopped: it is what a task raises that was told to end.
        unfit: why the call did not fit the function, or None: it did.
        given_up: the task's options, or ``Reject``, forbid another attempt …
        wanted: … or, else, they or ``Retry`` ask for one.
        again_s: seconds until then, when the task says so; else None.
        final: why the job is dead, if this was its last attempt.
    """

    error: BaseException
    stopped: bool
    unfit: Reason | None
    given_up: bool
    wanted: bool
    again_s: float | None = None
    final: Reason = "max_attempts"


End = bytes | Failure
"""The encoded result of a run (b"" when nobody wants it), or how it failed."""


@dataclass(frozen=True, slots=True)
class Later:
    """A run that is not over: a function that is not async returned this."""

    awaitable: Awaitable[Any]

    def begin(self, claimed: ClaimedJob) -> Awaitable[Any]:
        """Return it, to be awaited on the event loop.

        Raises:
            JobStopped: the job was told to end before.
        """
        assert claimed.context is not None
        if claimed.context.stopping and isinstance(self.awaitable, CoroutineType):
            self.awaitable.close()  # else Python complains that it was never awaited
        claimed.context.check()
        return self.awaitable


def invoke(claimed: ClaimedJob) -> Any:
    """Call the function; an async one gives a coroutine.

    Raises:
        InvalidArguments: the job's arguments do not fit it, or its annotations.
        JobStopped: the job was told to end before it began.
    """
    task, body, context = claimed.task, claimed.decoded, claimed.context
    assert task is not None
    assert body is not None
    assert context is not None
    context.check()  # it may have been told to end before it began
    args, kwargs = task.arguments(body.args, body.kwargs, context)
    try:
        return task.run(*args, **kwargs)
    except TypeError as error:
        # Raised by the call itself, one frame deep, and not inside the task; never a class of its own.
        own = error.__traceback__ if type(error) is TypeError else None
        if own is not None and own.tb_next is None:
            raise InvalidArguments(str(error)) from error
        raise


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Whether ``await`` takes a value; asks its class alone."""
    kind = type(value)
    if kind is CoroutineType:
        return True
    if kind is GeneratorType:
        assert isinstance(value, GeneratorType)
        return bool(value.gi_code.co_flags & _ITERABLE_COROUTINE)
    return any("__await__" in vars(base) for base in type.mro(kind)) if value is not None else False


def success(claimed: ClaimedJob, value: Any) -> bytes:
    """Encode what the function returned, if its result is to be kept.

    Raises:
        TypeError: it is a generator, whose function has not run.
    """
    if type(value) in _GENERATORS:
        raise TypeError(
            f"task {claimed.task and claimed.task.name!r} returned a generator, so that it has not run: "
            "let it do its work, and return a list"
        )
    wanted = claimed.result_ttl_ms or claimed.wanted
    return claimed.task.encode_result(value) if wanted and claimed.task else b""


def failure(claimed: ClaimedJob, error: BaseException, *, untold: str = "") -> Failure:
    """Describe what the function raised. Raises nothing; may take long, unless it is ``untold``.

    Args:
        claimed: the job.
        error: what was raised.
        untold: why its text cannot be made; nothing of its own code is run then.
    """
    assert claimed.task is not None
    again_s: float | None = None
    if plain.is_a(error, Retry) and not untold:
        try:
            again_s = float(error.in_s)  # type: ignore[attr-defined]
        except BaseException:  # None, or an attribute with a mind of its own
            again_s = None
    copy = plain.make(plain.name_of(type(error)), untold) if untold else plain.plain_copy(error)
    return Failure(
        claimed.task.told(copy, claimed.job),
        stopped=plain.is_a(error, asyncio.CancelledError, JobInterrupted, JobStopped),
        unfit=claimed.task.misfit(error),
        given_up=plain.is_a(error, Reject, *claimed.task.config.give_up_on),
        wanted=plain.is_a(error, Retry, *claimed.task.config.retry_on),
        again_s=again_s,
    )
