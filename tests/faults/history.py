"""What happened, written down outside Redis, so that nothing that Redis does can change it.

Each process appends to a file of its own, one ``os.write`` a record: a process that is killed loses
nothing that it has written, and at most the last record of a file is torn. Instants are nanoseconds
of CLOCK_MONOTONIC, which all processes of a machine share.

A job is known by its *number*, which its producer chose and which stands in its arguments: ids are
the product's, and the checker does not have to believe in them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from headrace import wire

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Outcome = Literal["acked", "refused", "unsure"]

BUSY: Final = "busy loop"
"""A fault: something else holds the event loop of the process that leads while it does a duty."""
BURY: Final = "bury"
"""A leader's duty: to find a lost consumer, and to end its leases."""


class Enqueue(NamedTuple):
    """One job that a producer tried to enqueue.

    Attributes:
        number: which job.
        job_id: its id; "" for a plain LPUSH.
        task: the task's name.
        sent_at: when it was sent, s.
        delay_s: how long it has to wait, s; 0 not at all.
        outcome: ``acked``; ``refused``: it did not happen, said the store; ``unsure``: nobody knows.
        acked_at: when it was acknowledged, s: Redis had it at some instant between; 0.0 if it was not.
    """

    number: int
    job_id: str
    task: str
    sent_at: float
    delay_s: float = 0.0
    outcome: Outcome = "acked"
    acked_at: float = 0.0


class Run(NamedTuple):
    """One run of a task; ``ended_at`` and ``how`` are None when it never ended: its process died."""

    number: int
    job_id: str
    delivery: int
    attempt: int
    consumer: str
    pid: int
    started_at: float
    ended_at: float | None = None
    how: str | None = None


class Held(NamedTuple):
    """A job that came into a process: by a claim, or by a blocking move."""

    job_id: str
    delivery: int
    pid: int
    at: float


class Settled(NamedTuple):
    """One outcome that a consumer sent, and whether Redis said that it took effect.

    ``delivery`` is -1 when the sender gave back what it never knew that it had, as after a lost answer.
    ``effective`` is None when no answer came. ``repeat`` marks a request that the laboratory sent a
    second time, although its answer had come: it must change nothing.
    """

    job_id: str
    delivery: int
    pid: int
    verb: str
    delay_s: float
    sent_at: float
    answered_at: float
    effective: bool | None
    repeat: bool = False


class Fault(NamedTuple):
    """One fault that was injected: what, and into which transition ("" none in particular)."""

    fault: str
    transition: str
    at: float
    target: str = ""


class Sample(NamedTuple):
    """A queue at one instant: how many jobs each place holds, and what the sampler saw in them.

    Attributes:
        at: when, s.
        places: jobs by place.
        counters: the queue's counters.
        doubled: ids that stand in several places.
        expired_s: how long the longest expired lease has been standing there, s.
        bare_s: how long the sampler has seen the oldest bare item, s.
        overdue_s: how long the first delayed job has been due, s.
    """

    at: float
    places: dict[str, int]
    counters: dict[str, int]
    doubled: list[str] = []
    expired_s: float = 0.0
    bare_s: float = 0.0
    overdue_s: float = 0.0

    @property
    def residual(self) -> int:
        """What is in Redis or has ended, less what was enqueued: I3."""
        ended = sum(self.counters.get(name, 0) for name in ("done", "cancel", "drop", "purged"))
        return sum(self.places.values()) + ended - self.counters.get("enqueued", 0)


@dataclass(slots=True)
class History:
    """Everything that was written down in one run of one class."""

    enqueues: list[Enqueue] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    deaths: dict[int, float] = field(default_factory=dict)  # pid -> when
    died_at: dict[str, float] = field(default_factory=dict)  # name -> when
    attended: set[str] = field(default_factory=set)  # consumers that a leader has seen connected
    found_at: dict[str, float] = field(default_factory=dict)  # lost consumers, by name -> when
    collapses: list[str] = field(default_factory=list)  # who died by itself: a bug, not a fault
    removals: set[str] = field(default_factory=set)  # ids that an operator cancelled or purged
    heals: list[float] = field(default_factory=list)  # when what was broken worked again
    rollbacks: list[float] = field(default_factory=list)  # when Redis forgot what it had promised


class Journal:
    """One process' file of records."""

    def __init__(self, folder: Path, role: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._fd = os.open(folder / f"{role}-{os.getpid()}.jsonl", flags, 0o600)

    def write(self, kind: str, *fields: Any) -> None:
        """Append one record; it is in the file when this returns, whatever happens to us."""
        os.write(self._fd, _encode([kind, time.monotonic_ns(), os.getpid(), *fields]) + b"\n")


# — what a number becomes in a job, so that its bytes can be checked wherever they turn up —


def canary(number: int) -> int:
    """Give an integer that only survives as bytes: a float would lose its last digits."""
    return (1 << 60) + number


def call_bytes(number: int) -> bytes:
    """Give what the job of a number has to contain, byte for byte, as long as it exists."""
    return b'"args":[%d,%d' % (number, canary(number))


def number_of(job: bytes) -> int | None:
    """Read the number of a job's bytes."""
    parts = wire.split(job)
    start = job.find(b'"args":[', 0 if parts is None else len(job) - len(parts[1]))
    digits = job[start + 8 : start + 40].split(b",")[0] if start >= 0 else b""
    return int(digits) if digits.isdigit() else None


# — reading —


def read(folder: Path) -> History:
    """Read everything that all processes wrote."""
    reading = _Reading()
    for kind, at, pid, rest in sorted(_records(folder), key=lambda record: record[1]):
        getattr(reading, f"on_{kind}")(at, pid, *rest)
    return reading.result()


def _records(folder: Path) -> Iterator[tuple[str, float, int, list[Any]]]:
    for path in folder.glob("*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:  # the last one is empty, or torn
            kind, at_ns, pid, *rest = _decode(line)
            yield kind, at_ns / 1e9, pid, rest


class _Reading:
    """Puts records together, in the order of their instants; one method for each kind."""

    def __init__(self) -> None:
        self._history = History()
        self._enqueues: dict[int, Enqueue] = {}
        self._open: dict[tuple[int, str, int], list[Run]] = {}  # runs that have not ended
        self._busy: set[int] = set()  # processes whose event loop is held

    def result(self) -> History:
        history = self._history
        history.enqueues = list(self._enqueues.values())
        for runs in self._open.values():
            history.runs += runs
        history.runs.sort(key=lambda run: run.started_at)
        return history

    def on_enqueue(self, at: float, _pid: int, jobs: list[Any]) -> None:
        for number, job_id, task, delay_s in jobs:
            self._enqueues[number] = Enqueue(number, job_id, task, at, delay_s, "unsure")

    def on_acked(self, at: float, _pid: int, numbers: list[int]) -> None:
        for number in numbers:
            one = self._enqueues[number]
            self._enqueues[number] = one._replace(outcome="acked", acked_at=at)

    def on_refused(self, _at: float, _pid: int, numbers: list[int]) -> None:
        for number in numbers:
            self._enqueues[number] = self._enqueues[number]._replace(outcome="refused")

    def on_start(self, at: float, pid: int, number: int, job_id: str, *rest: Any) -> None:
        delivery, attempt, consumer = rest
        run = Run(number, job_id, delivery, attempt, consumer, pid, at)
        self._open.setdefault((pid, job_id, delivery), []).append(run)

    def on_end(self, at: float, pid: int, job_id: str, delivery: int, how: str) -> None:
        run = self._open[pid, job_id, delivery].pop(0)
        self._history.runs.append(run._replace(ended_at=at, how=how))

    def on_held(self, at: float, pid: int, jobs: list[Any]) -> None:
        self._history.held += [Held(job_id, delivery, pid, at) for job_id, delivery in jobs]

    def on_settled(
        self, at: float, pid: int, sent_ns: int, outcomes: list[Any], repeat: bool
    ) -> None:
        for job_id, delivery, verb, delay_s, effective in outcomes:
            self._history.settled.append(
                Settled(job_id, delivery, pid, verb, delay_s, sent_ns / 1e9, at, effective, repeat)
            )

    def on_fault(
        self, at: float, _pid: int, fault: str, transition: str = "", target: str = ""
    ) -> None:
        self._history.faults.append(Fault(fault, transition, at, target))

    def on_sample(self, at: float, _pid: int, *fields: Any) -> None:
        self._history.samples.append(Sample(at, *fields))

    def on_death(self, at: float, _pid: int, of: int, name: str, code: int) -> None:
        self._history.deaths[of] = self._history.died_at[name] = at
        self._busy.discard(of)
        if code not in (0, -signal.SIGKILL, -signal.SIGTERM):
            self._history.collapses.append(f"{name} (exit code {code})")

    def on_busy(self, _at: float, pid: int, held: bool) -> None:
        (self._busy.add if held else self._busy.discard)(pid)

    def on_duty(self, at: float, pid: int, duty: str, target: str) -> None:
        if duty == BURY:
            self._history.found_at[target] = at
        if pid in self._busy:
            self._history.faults.append(Fault(BUSY, duty, at, target))

    def on_attended(self, _at: float, _pid: int, names: list[str]) -> None:
        self._history.attended.update(names)

    def on_removal(self, _at: float, _pid: int, job_ids: list[str]) -> None:
        self._history.removals.update(job_ids)

    def on_healed(self, at: float, _pid: int) -> None:
        self._history.heals.append(at)

    def on_rollback(self, at: float, _pid: int) -> None:
        self._history.rollbacks.append(at)
