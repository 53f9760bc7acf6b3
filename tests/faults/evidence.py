"""What the checker works on: the terms of a class, the final state, the history indexed, the verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tests.faults.history import Enqueue, History, Run, Settled, number_of
from tests.faults.sampler import EVERY_S
from tests.faults.yielded import Entry
from tests.support.invariants import State


@dataclass(frozen=True, slots=True)
class Terms:
    """What one class of faults promises.

    Attributes:
        loss_window_s: jobs may be lost that were acknowledged so long before Redis forgot, s.
        rollback: Redis may forget its last moments, so a job may be delivered under a number that
            it had before, and a settle that had taken effect may have to be repeated.
        runs_once: nobody died or stood still, so no job may run twice.
        max_crashes: crash deliveries after which a job is dead.
        stranded_s: how long an expired lease or a bare item may stand there, s.
        recovery_s: within which a dead consumer's job runs again, p99, s; None: that is not measured.
        overdue_s: how long a delayed job may be due before it is promoted, s; None: not measured.
        found_s: within which the leader finds a lost consumer, s; None: that is not measured.
        foreign: jobs that plain clients brought, less those that they took; None is not known.
        consumers: names of the consumers that have to be awake at the end.
        uncharged: nobody died, so no lease may have been ended by anybody but its holder.
        capped: how many ``capped`` jobs may run at once; None: there is no such limit.
        must_hit: faults and transitions without which the class has shown nothing.
    """

    loss_window_s: float = 0.0
    rollback: bool = False
    runs_once: bool = False
    max_crashes: int = 5
    stranded_s: float = 20.0
    recovery_s: float | None = None
    overdue_s: float | None = None
    found_s: float | None = None
    foreign: int | None = 0
    consumers: tuple[str, ...] = ()
    uncharged: bool = False
    capped: int | None = None
    must_hit: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Final:
    """What Redis holds at the end.

    Attributes:
        state: everything in the queue's keys, at one instant.
        keys: every key of the database, and how long it still lives, ms; -1 for ever.
        probed_at: when jobs were enqueued that only all consumers together can run, s.
        streams: what jobs have yielded, by their ids.
    """

    state: State
    keys: dict[str, int] = field(default_factory=dict)
    probed_at: float = 0.0
    streams: dict[str, list[Entry]] = field(default_factory=dict)


class Violation(NamedTuple):
    """One broken promise: which invariant, and what broke it."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """What the checker found.

    Attributes:
        violations: everything that must not be.
        jobs: acknowledged enqueues.
        lost: how many of them are nowhere.
        doubled: jobs that ran more than once, whatever for, failed attempts not counted.
        stuck: jobs that are still in Redis and should have ended.
        late: settles that were answered ``lost``: somebody else had the job, or it had ended.
        stale: settles of earlier deliveries that took effect all the same.
        recoveries_s: how long each job of a dead consumer waited, or Redis' clients after a fault.
    """

    violations: list[Violation] = field(default_factory=list)
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    stuck: int = 0
    late: int = 0
    stale: int = 0
    recoveries_s: list[float] = field(default_factory=list)


class Evidence:
    """The history and the final state, indexed once for all invariants."""

    def __init__(self, history: History, final: Final, terms: Terms) -> None:
        self.history, self.final, self.terms = history, final, terms
        self.enqueues = {enqueue.number: enqueue for enqueue in history.enqueues}
        self.runs: dict[int, list[Run]] = defaultdict(list)
        for run in history.runs:
            self.runs[run.number].append(run)
        self.settled: dict[str, list[Settled]] = defaultdict(list)
        for settled in history.settled:
            self.settled[settled.job_id].append(settled)
        self.places: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        self.unknown_bytes: list[tuple[str, bytes]] = []
        for place, jobs in final.state.places.items():
            for job in jobs:
                number = number_of(job)
                if number is None:
                    self.unknown_bytes.append((place, job))
                else:
                    self.places[number].append((place, job))

    @property
    def delay_s(self) -> float:
        """How much the machine has delayed the sampler at most, s: as long it may delay anybody."""
        at = [sample.at for sample in self.history.samples]
        return max([0.0, *(after - before - EVERY_S for before, after in pairwise(at))])

    def finished(self, number: int) -> bool:
        """Whether a run of it returned."""
        return any(run.how == "ok" for run in self.runs[number])

    def acked(self) -> Iterator[Enqueue]:
        return (enqueue for enqueue in self.enqueues.values() if enqueue.outcome == "acked")
