"""The caps of a run in a process of its own: its memory and its processor time, held by the kernel.

Memory is RLIMIT_DATA: what the process has reserved for writing, and not RLIMIT_AS, which counts whatever
is mapped: libraries, files, and the address space that allocators and threads reserve and never touch.
An allocation beyond it fails, which Python tells as ``MemoryError``; it is Linux' meaning of that limit.
Processor time is RLIMIT_CPU: a signal at the cap, and a moment later the end.
"""

from __future__ import annotations

import math
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Final, NoReturn

from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import ProcessDied
from headrace.consumer.run import Failure, failure
from headrace.errors import LimitExceeded
from headrace.plain import is_a
from headrace.run_limits import RunLimits

_CPU_GRACE_S: Final = 2  # from the signal to the end: for a handler that runs only in Python code


class _OutOfCpu(BaseException):
    """Raised in the task by the signal. No ``Exception``: the task must not take it for its own."""


@contextmanager
def held_to(limits: RunLimits) -> Iterator[None]:
    """Hold this process to its caps during the block."""
    if limits.memory_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = (
            limits.memory_bytes
            if hard == resource.RLIM_INFINITY
            else min(limits.memory_bytes, hard)
        )
        # The soft one alone, so that there is memory to tell of it.
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    if limits.cpu_s:
        usage, (_, hard) = _usage(), resource.getrlimit(resource.RLIMIT_CPU)
        soft = math.ceil(usage.ru_utime + usage.ru_stime + limits.cpu_s)
        if hard == resource.RLIM_INFINITY or soft + _CPU_GRACE_S < hard:
            signal.signal(signal.SIGXCPU, _out_of_cpu)
            resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + _CPU_GRACE_S))
    try:
        yield
    finally:
        lift()


def lift() -> None:
    """Hold this process to its caps no more: what is left to do is to tell how the run ended."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def failed(claimed: ClaimedJob, error: BaseException) -> Failure:
    """Describe what a run raised in this process, as ``failure`` does; or that it was over a cap."""
    lift()
    assert claimed.task is not None
    limits, what = claimed.task.config.limits, ""
    if limits.memory_bytes and is_a(error, MemoryError):
        what = _memory(limits)
    elif is_a(error, _OutOfCpu):
        what = _cpu(limits)
    if not what:
        return failure(claimed, error)
    peak_mib = _usage().ru_maxrss // (1 << 20 if sys.platform == "darwin" else 1 << 10)
    exceeded = LimitExceeded(what, peak_mib=peak_mib).with_traceback(error.__traceback__)
    as_raised = failure(claimed, error)  # a task may name MemoryError in its options
    return _over(claimed, exceeded, given_up=as_raised.given_up)


def of_death(claimed: ClaimedJob, death: ProcessDied) -> Failure | None:
    """Describe that the kernel has ended a process for what it took; None when it died of something else."""
    assert claimed.task is not None
    limits = claimed.task.config.limits
    if not limits.cpu_s or death.signal not in ("SIGKILL", "SIGXCPU"):
        return None
    if death.signal == "SIGKILL" and death.cpu_s < limits.cpu_s + _CPU_GRACE_S / 2:
        return None
    exceeded = LimitExceeded(_cpu(limits), peak_mib=death.peak_mib, stack=death.stack)
    return _over(claimed, exceeded, given_up=False)


def _over(claimed: ClaimedJob, exceeded: LimitExceeded, *, given_up: bool) -> Failure:
    judged = failure(claimed, exceeded)
    return replace(
        judged, error=exceeded, given_up=given_up or judged.given_up, final="limit_exceeded"
    )


def _memory(limits: RunLimits) -> str:
    return f"memory: more than {limits.memory_text}"


def _cpu(limits: RunLimits) -> str:
    return f"cpu: more than {limits.cpu_s} s"


def _out_of_cpu(_: int, __: FrameType | None) -> NoReturn:
    raise _OutOfCpu


def _usage() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_SELF)
