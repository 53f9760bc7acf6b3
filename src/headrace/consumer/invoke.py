"""Invokes the function of a claimed job's task with the job's arguments, here and now."""

from __future__ import annotations

from typing import Any

from headrace.consumer.claimed import ClaimedJob
from headrace.errors import InvalidArguments


def invoke(claimed: ClaimedJob) -> Any:
    """Call the function; an async one gives a coroutine.

    Raises:
        InvalidArguments: the job's arguments do not fit it.
        JobStopped: the job was told to end before it began.
    """
    task, body, context = claimed.task, claimed.decoded, claimed.context
    assert task is not None
    assert body is not None
    assert context is not None
    context.check()  # it may have been told to end before it began
    args, kwargs = task.with_context(body.args, body.kwargs, context)
    try:
        return task.function(*args, **kwargs)
    except TypeError as error:
        # Raised by the call itself, one frame deep, and not inside the task; never a class of its own.
        own = error.__traceback__ if type(error) is TypeError else None
        if own is not None and own.tb_next is None:
            raise InvalidArguments(str(error)) from error
        raise
