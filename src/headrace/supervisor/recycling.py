"""When a consumer's process asks to be replaced: it has run many jobs, grown, or lost threads."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from headrace.consumer import Consumer
from headrace.errors import InvalidSetting

log: logging.Logger = logging.getLogger("headrace.consumer")

READY: Final = "ready"
"""What a consumer says when it claims jobs; everything else it says is why it is to be replaced."""

_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """After what a process is replaced.

    Attributes:
        jobs: so many jobs; None for never.
        memory_mib: more resident memory than this, MiB; None for never.
    """

    jobs: int | None = None
    memory_mib: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_jobs", self.jobs), ("max_memory", self.memory_mib)):
            if value is not None and value < 1:
                raise InvalidSetting(f"{name}={value} must be 1 or more")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self.jobs is not None or self.memory_mib is not None


async def watch(consumer: Consumer, line: Connection, limits: Limits) -> None:
    """Tell the supervisor when this consumer claims jobs, and when it is to be replaced, and why."""
    at_first_mib = resident_mib()  # before it has run a job
    while not consumer.ready:  # noqa: ASYNC110 - a look is plainer than an event
        await asyncio.sleep(_LOOK_S)
    _say(line, READY)
    if limits.memory_mib is not None and at_first_mib >= limits.memory_mib:
        log.warning(
            "max_memory is %d MiB, and a new process takes %d MiB: it is not replaced for its memory",
            limits.memory_mib,
            at_first_mib,
        )
        limits = replace(limits, memory_mib=None)
    while not (why := outgrown(consumer, limits)):  # noqa: ASYNC110 - memory has no event
        await asyncio.sleep(_LOOK_S)
    _say(line, why)


def _say(line: Connection, word: str) -> None:
    with suppress(OSError):  # the supervisor is gone; then this process ends, too
        line.send_bytes(word.encode())


def outgrown(consumer: Consumer, limits: Limits) -> str:
    """Say why a consumer is to be replaced, or ""."""
    if limits.jobs is not None and consumer.finished >= limits.jobs:
        return f"it has run {consumer.finished} jobs"
    if limits.memory_mib is not None and (mib := resident_mib()) > limits.memory_mib:
        return f"it takes {mib} MiB"
    return consumer.worn


def resident_mib() -> int:
    """Return the memory that this process holds, MiB: now on Linux, at most so far elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)
