"""The recorder: counts in a consumer what became of jobs, how long they waited and how long they ran.

Each job that ends passes here, so it is only noted; many at a time are then added up, which is half the work.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol, TypeAlias

from headrace.clock import monotonic
from headrace.ids import time_ms_of
from headrace.keys import Keys
from headrace.operations import Verb
from headrace.task import Task
from headrace.timings import tally
from headrace.timings.tally import Tally
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


_AT_ONCE: Final = 512
"""How many jobs are added up together, in less than a millisecond."""

_Row: TypeAlias = tuple[str, str, Verb, float, float, Head, bytes]
"""Queue, task, end, when it began and ended (monotonic), head, when it was due. Nothing that holds its arguments."""

_WHERE: Final = itemgetter(0, 1)
_VERB: Final = itemgetter(2)


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
        self.ends: Counter[Verb] = Counter()
        self._rows: list[_Row] = []
        self._tallies: defaultdict[str, defaultdict[str, Tally]] = _nothing()

    def note(self, job: EndedJob, verb: Verb) -> None:
        """Count what became of a job."""
        self.ends[verb] += 1
        if verb not in _PLACES:
            return
        task, body = job.task, job.decoded
        name = task.name if task is not None else OTHERS
        due = bytes(body.due) if body is not None and body.due else b""
        rows = self._rows
        rows.append((job.k.queue, name, verb, job.started, monotonic(), job.head, due))
        if len(rows) >= _AT_ONCE:
            self._add_up()

    def take(self) -> Mapping[str, Mapping[str, Tally]]:
        """Take out what was counted since, by queue and task."""
        self._add_up()
        taken, self._tallies = self._tallies, _nothing()
        return taken

    def put_back(self, queue: str, tallies: Mapping[str, Tally]) -> None:
        """Count what was taken out and not told after all."""
        own = self._tallies[queue]
        for task, counts in tallies.items():
            own[task] = tally.total([own[task], counts])

    def _add_up(self) -> None:
        rows, self._rows = self._rows, []
        rows.sort(key=_WHERE)
        ahead_s = self._now_ms() / 1000 - monotonic()  # Redis' clock against this process'
        for (queue, task), group in groupby(rows, _WHERE):
            counts, ended = self._tallies[queue][task], list(group)
            for verb, number in Counter(map(_VERB, ended)).items():
                counts[_PLACES[verb]] += number
            tally.add_runs(counts, [end - start for _, _, _, start, end, _, _ in ended if start])
            tally.add_waits(counts, _waited_s(ended, ahead_s))


def _waited_s(ended: Iterable[_Row], ahead_s: float) -> list[float]:
    """Return how long jobs of their first run have waited for it, as far as their ids say."""
    return [
        start + ahead_s - ready_ms / 1000
        for _, _, _, start, _, head, due in ended
        # Since when it waits after a run that failed, nothing says.
        if start and not (head.attempt or head.crashes)
        if (ready_ms := ready_at_ms(head.id, due) if due else time_ms_of(head.id)) is not None
    ]


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
