"""What one process measures of itself: jobs, seconds, and seconds of processor time. Standard library only."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One run of one contestant.

    Attributes:
        jobs: how many jobs it says it did.
        seconds: how long they took.
        cpu_s: the processor time of its process in that time, all threads.
    """

    jobs: int
    seconds: float
    cpu_s: float


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self, jobs: int) -> Measured:
        seconds, cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        return Measured(jobs, seconds, cpu_s)
