"""The recorder: counts in a consumer what became of jobs, how long they waited and how long they ran.

Each job that ends passes here, so it is a few additions and asks nobody.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from headrace.clock import monotonic
from headrace.ids import time_ms_of
from headrace.keys import Keys
from headrace.operations import Verb
from headrace.task import Task
from headrace.timings import tally
from headrace.timings.tally import BOUNDS_S, RUN_TIMES, RUN_US, RUNS, WAIT_US, WAITS, Tally
from headrace.wire import Body, Head

OTHERS: Final = "all others"
"""What stands for tasks that have no counts of their own."""

_PLACES: Final[Mapping[Verb, int]] = {
    "done": tally.DONE, "retry": tally.RETRIED, "dead": tally.DEAD, "drop": tally.DEAD,
    "cancel": tally.CANCELLED,
}  # fmt: skip
"""Where each end is counted; what is given back or put off has not ended."""

_DUE: Final = re.compile(rb'"([+@])([0-9]{1,15})"')
"""When a job was to run, as we write it; 15 digits are 30,000 years."""


class EndedJob(Protocol):
    """A job that has ended, as the consumer has it."""

    k: Keys
    head: Head
    decoded: Body | None
    task: Task[Any, Any] | None
    started: float


class Recorder:
    """What one consumer has counted. Belongs to its event loop.

    Args:
        now_ms: tells the time by Redis' clock, about, ms since 1970.

    Attributes:
        ends: how often what became of a job.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._ahead_s = 0.0  # that time against this process' monotonic clock; 0: ask again
        self.ends: Counter[Verb] = Counter()
        self._tallies: defaultdict[str, defaultdict[str, Tally]] = _nothing()

    def note(self, job: EndedJob, verb: Verb) -> None:
        """Count what became of a job."""
        self.ends[verb] += 1
        place = _PLACES.get(verb)
        if place is None:
            return
        task = job.task
        counts = self._tallies[job.k.queue][task.name if task is not None else OTHERS]
        counts[place] += 1
        started = job.started
        if not started:
            return
        now = monotonic()
        ran_s = now - started
        counts[RUNS] += 1
        counts[RUN_US] += int(ran_s * 1e6)
        counts[RUN_TIMES + bisect_left(BOUNDS_S, ran_s)] += 1
        head, body = job.head, job.decoded
        if head.attempt or head.crashes:
            return  # since when it waits after a run that failed, nothing says
        if body is not None and body.due:
            ready_ms = ready_at_ms(head.id, bytes(body.due))
        else:
            ready_ms = time_ms_of(head.id)
        if ready_ms is not None:
            # Redis' clock is asked for once in a while, and not for each job.
            ahead_s = self._ahead_s = self._ahead_s or self._now_ms() / 1000 - now
            waited_s = started + ahead_s - ready_ms / 1000
            if waited_s > 0:  # else the clock of who enqueued it is ahead
                counts[WAIT_US] += int(waited_s * 1e6)
            counts[WAITS + bisect_left(BOUNDS_S, waited_s)] += 1

    def take(self) -> Mapping[str, Mapping[str, Tally]]:
        """Take out what was counted since, by queue and task."""
        self._ahead_s = 0.0
        taken, self._tallies = self._tallies, _nothing()
        return taken

    def put_back(self, queue: str, tallies: Mapping[str, Tally]) -> None:
        """Count what was taken out and not told after all."""
        own = self._tallies[queue]
        for task, counts in tallies.items():
            own[task] = tally.total([own[task], counts])


def ready_at_ms(job_id: str, due: bytes) -> int | None:
    """Return from when on a job could have run, ms since 1970; None if its id does not say.

    Args:
        job_id: its id, which tells when it was enqueued, by its producer's clock.
        due: when it was to run, as JSON: "+ms" from then, or "@ms" since 1970; all else counts as nothing.
    """
    made_ms = time_ms_of(job_id)
    match = _DUE.fullmatch(due)
    if made_ms is None or match is None:
        return made_ms
    ms = int(match[2])
    return max(made_ms, ms) if match[1] == b"@" else made_ms + ms


def _nothing() -> defaultdict[str, defaultdict[str, Tally]]:
    return defaultdict(lambda: defaultdict(tally.empty))
