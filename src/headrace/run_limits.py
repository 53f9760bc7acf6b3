"""The limits of a run: a process of its own, what it may use there, when it is told to end. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from headrace.errors import InvalidSetting

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_LEAST_BYTES: Final = 64 << 20  # Python and Headrace alone take some 30 MiB
_MOST_BYTES: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What a task's runs are bounded by, beside their time.

    Attributes:
        isolated: each runs in a process of its own.
        memory_bytes: the memory that this process may hold; 0 without bound.
        cpu_s: the processor time that the run may take there, whole seconds; 0 without bound.
        soft_timeout_s: when it is told to end, and nothing more; None never.
        drop_expired: a job that expires leaves no dead letter.
    """

    isolated: bool = False
    memory_bytes: int = 0
    cpu_s: int = 0
    soft_timeout_s: float | None = None
    drop_expired: bool = False

    @property
    def memory_text(self) -> str:
        """The bound of its memory, for people."""
        return f"{self.memory_bytes / (1 << 20):,.4g} MiB"


NO_LIMITS: Final = RunLimits()
"""Those of a task that asks for none: always this object."""


def run_limits(
    *,
    isolate: object,
    memory: Any,
    cpu_s: float | None,
    soft_timeout_s: float | None,
    timeout_s: float | None,
    drop_expired: object,
) -> RunLimits:
    """Check and translate the limits that a task asks for; those that are None it does not.

    Raises:
        InvalidSetting: one has no meaning, or not without another one.
    """
    if isolate not in (None, "process"):
        raise InvalidSetting(f'isolate={isolate!r} must be "process", or left out')
    for name, value in (("memory", memory), ("cpu", cpu_s)):
        if value is not None and isolate is None:
            raise InvalidSetting(
                f"{name}= needs a process of its own, for only a process can be held to it: "
                'add isolate="process"'
            )
    if soft_timeout_s is not None and timeout_s is not None and soft_timeout_s >= timeout_s:
        raise InvalidSetting(
            f"soft_timeout={soft_timeout_s:g} must be less than timeout={timeout_s:g}, so that "
            "the task has time to end in its own way"
        )
    limits = RunLimits(
        isolated=isolate is not None,
        memory_bytes=0 if memory is None else _bytes(memory),
        cpu_s=0 if cpu_s is None else -int(-cpu_s // 1),
        soft_timeout_s=soft_timeout_s,
        drop_expired=bool(drop_expired),
    )
    return NO_LIMITS if limits == NO_LIMITS else limits


def _bytes(memory: object) -> int:
    size = 0
    if isinstance(memory, int) and not isinstance(memory, bool):
        size = memory
    elif isinstance(memory, str) and (match := _SIZE.fullmatch(memory.strip())):
        size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise InvalidSetting(
            f'memory={memory!r} must be bytes, or text as "512M" or "2G", and at least 64M: '
            "Python and the application count, too"
        )
    return size
