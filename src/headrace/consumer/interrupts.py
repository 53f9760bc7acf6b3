"""Interrupts: how a sync job is ended from outside, while its thread runs it.

Python can raise an exception in another thread (``PyThreadState_SetAsyncExc``). It comes between two
instructions, perhaps when the job has just ended and the thread is in the pool's own code, or in the
next job. What keeps it inside the job it is meant for:

- Whoever takes the job out of ``_armed`` first, decides: one step in Python, so there is one winner.
  Is it the thread, nothing is raised any more. Is it the loop, exactly one exception comes.
- The thread leaves ``attempt`` only when that one has come.

A thread that does not react, for it is in a call of C code, is given up: likewise, whoever takes the
job out of ``_struck`` first decides whether its end still counts.
"""

from __future__ import annotations

import ctypes
import faulthandler
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from headrace.consumer.claimed import ClaimedJob
from headrace.errors import JobInterrupted

_LOOK_S: Final = 0.001
_NOTHING: Final = object()

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int


class Interrupts:
    """Which jobs run in which threads, and may be interrupted there."""

    def __init__(self) -> None:
        self._armed: dict[ClaimedJob, int] = {}
        self._struck: dict[ClaimedJob, int] = {}

    # — in the thread —

    def attempt(
        self, claimed: ClaimedJob, thread: int, run: Callable[[ClaimedJob], Any]
    ) -> tuple[Any, BaseException | None]:
        """Run a job; give what it returned, and what it raised. Nothing is raised in here later on."""
        value: Any = _NOTHING
        error: BaseException | None = None
        try:
            try:
                self._armed[claimed] = thread
                value = run(claimed)
            except BaseException as raised:
                error = raised
            if self._armed.pop(claimed, None) is None:
                while not claimed.was_interrupted:  # it is being raised: a matter of microseconds
                    threading.Event().wait(_LOOK_S)
                # Nobody knows whether it has come. One that is taken back leaves Python's mark that
                # there is one, which slows down all threads, and a profiled one hangs (seen with
                # 3.11). So it is raised here once more, in place of the first, and awaited.
                _set_async_exc(thread, ctypes.py_object(JobInterrupted))
                while True:
                    threading.Event().wait(_LOOK_S)
        except JobInterrupted as late:  # the only one: it came when the run itself was over
            if value is _NOTHING and error is None:
                error = late
        return (None if value is _NOTHING else value), error

    def counts(self, claimed: ClaimedJob) -> bool:
        """Whether the end of a job counts: its thread has not been given up."""
        return not claimed.interrupted or self._struck.pop(claimed, None) is not None

    # — on the loop —

    def interrupt(self, claimed: ClaimedJob) -> None:
        """Raise ``JobInterrupted`` in the thread of a job, once, if it runs."""
        thread = self._armed.pop(claimed, None)
        if thread is not None:
            claimed.interrupted = True
            self._struck[claimed] = thread
            _set_async_exc(thread, ctypes.py_object(JobInterrupted))
            claimed.was_interrupted = True

    def give_up(self, claimed: ClaimedJob) -> int | None:
        """Let the end of an interrupted job count no more; return its thread, None if it has ended."""
        return self._struck.pop(claimed, None)


def interrupted_at(thread: int) -> JobInterrupted:
    """Make the exception that a thread does not let happen, with a note of where the thread is.

    One call of C code writes all stacks down. To walk through the frames of a thread that goes on
    ends the process now and then (a segmentation fault in ``frame.f_back``, seen with Python 3.11).
    """
    error = JobInterrupted()
    with suppress(OSError), tempfile.TemporaryFile() as file:  # no descriptor or no disk is left
        faulthandler.dump_traceback(file)
        file.seek(0)
        for stack in file.read().decode(errors="replace").split("\n\n"):
            if f"0x{thread:016x}" in stack.partition("\n")[0]:
                error.add_note(stack)
    return error
