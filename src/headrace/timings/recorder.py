"""The recorder: counts in a consumer what became of jobs, how long they waited and how long they ran.

Each job that ends passes here, so it is only noted; many at a time are then added up, which is half the work.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias

from headrace.clock import monotonic
from headrace.ids import LENGTH, time_ms_of
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

_INSTANT: Final = 10
"""How many of an id's letters tell when it was made."""

_AT_ONCE: Final = 512
"""How many jobs are added up together, in less than a millisecond."""

_Row: TypeAlias = tuple[float, float, Head, bytes]
"""When a job began and ended (monotonic), its head, when it was due. Nothing that holds its arguments."""


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
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._ends: Counter[Verb] = Counter()
        self._rows: defaultdict[tuple[str, str, Verb], list[_Row]] = defaultdict(list)
        self._noted = 0  # rows, of all together
        self._tallies: defaultdict[str, defaultdict[str, Tally]] = _nothing()

    def note(self, job: EndedJob, verb: Verb) -> None:
        """Count what became of a job."""
        task, body = job.task, job.decoded
        name = task.name if task is not None else OTHERS
        due = bytes(body.due) if body is not None and body.due else b""
        self._rows[job.k.queue, name, verb].append((job.started, monotonic(), job.head, due))
        self._noted += 1
        if self._noted >= _AT_ONCE:
            self._add_up()

    @property
    def ends(self) -> Counter[Verb]:
        """How often what has become of a job since it began."""
        self._add_up()
        return self._ends.copy()

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
        ahead_s = self._now_ms() / 1000 - monotonic()  # Redis' clock against this process'
        for (queue, task, verb), rows in self._rows.items():
            self._ends[verb] += len(rows)
            place = _PLACES.get(verb)
            if place is None:
                continue
            counts = self._tallies[queue][task]
            counts[place] += len(rows)
            tally.add_runs(counts, [end - start for start, end, _, _ in rows if start])
            tally.add_waits(counts, _waited_s(rows, ahead_s))
        self._rows.clear()
        self._noted = 0


def _waited_s(rows: Iterable[_Row], ahead_s: float) -> list[float]:
    """Return how long jobs of their first run have waited for it, as far as their ids say."""
    return [
        start + ahead_s - ready_ms / 1000
        for start, _, head, due in rows
        # Since when it waits after a run that failed, nothing says.
        if start and not (head.attempt or head.crashes)
        if (ready_ms := ready_at_ms(head.id, due) if due else _made_ms(head.id)) is not None
    ]


def _made_ms(job_id: str) -> int | None:
    """Return when an id was made, ms since 1970; None if it does not say."""
    # Ids of one millisecond begin alike, and to read one is a third of all that is done here for a job.
    return _began_ms(job_id[:_INSTANT]) if len(job_id) == LENGTH else time_ms_of(job_id)


@lru_cache(1024)
def _began_ms(letters: str) -> int | None:
    return time_ms_of(letters.ljust(LENGTH, "0"))


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
