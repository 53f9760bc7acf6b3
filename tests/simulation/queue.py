"""A queue in the simulated Redis: the model of the property tests, and the nudges beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace import operations as op
from tests.property.model import Model

MAX_NUDGES = 1_000


@dataclass
class Queue(Model):
    """One queue, answering scripts in the words that Redis answers them in."""

    nudges: int = 0
    limited: list[bytes] = field(default_factory=list)  # in lanes: only real scripts have them

    def _nudge(self, count: int = 1) -> None:
        self.nudges = min(MAX_NUDGES, self.nudges + count)

    def _place(self, job: bytes, *, front: bool = False) -> None:
        before = len(self.priority)
        super()._place(job, front=front)
        if len(self.priority) > before:
            self._nudge()

    @property
    def first_due(self) -> float:
        return min(self.delayed.values(), default=float("inf"))

    def due_ms(self) -> Any:
        return max(0, min(self.delayed.values()) - self.now) if self.delayed else b""

    # Each takes a script's ARGV, and gives what the script returns.

    def run_enqueue(self, bound: int, due: str, key: str, ttl: int, *jobs: bytes) -> Any:
        delay = 0
        if due:
            delay = int(due[1:]) - (0 if due[0] == "+" else self.now)
        word = self.enqueue(jobs, delay, bound)
        waiting = len(self.pending) + len(self.priority) + len(self.delayed)
        return [word.encode(), waiting if word == "full" else 0]

    def run_push(self, *jobs: bytes) -> Any:
        self.enqueue(jobs, 0)
        return 1

    def run_claim(self, count: int, lease: int, consumer: str, first: int) -> Any:
        word, had = (b"paused" if self.paused else b"ok"), len(self.priority)
        jobs = self.claim(count, lease, consumer, first)
        if had and not self.priority:
            self.nudges = 0
        return [word, self.now, *jobs]

    def run_adopt(self, *args: Any) -> Any:
        return self.adopt(*args).encode()

    def run_settle(self, consumer: str, *args: Any) -> Any:
        return [job_id.encode() for job_id in self.settle(consumer, outcomes_of(args))]

    def run_extend(self, lease: int, consumer: str, *args: Any) -> Any:
        ids = args[::2]
        lost = self.extend(consumer, list(zip(ids, args[1::2], strict=True)), lease)
        stop = [job_id.encode() for job_id in ids if job_id in self.cancelled]
        return [[job_id.encode() for job_id in lost], stop]

    def run_promote(self, limit: int) -> Any:
        return [self.promote(limit), self.due_ms()]

    def run_sweep(self, offset: int, _limit: int, lease: int, which: str) -> Any:
        return [self.sweep(lease, offset, only_if_unequal=which == "if-unequal"), 0]

    def run_reclaim(self, limit: int, grace: int, gap: int, max_crashes: int, rested: int) -> Any:
        done = self.reclaim(limit, grace, gap, max_crashes, rested or None)
        return [done.quiet_ms, done.back, done.died]

    def run_forgetting_forget(self, unused_ms: int) -> Any:
        assert unused_ms > 3_600_000  # longer than any run: it is only asked, and never forgotten
        return [b"used"]

    def run_pause(self, pause: int) -> Any:
        changed = self.paused != bool(pause)
        self.paused = bool(pause)
        if changed and not pause:
            self._nudge(100)
        return int(changed)

    def run_cancel(
        self, job_id: str, job: bytes, _ttl: int, result_ttl: int, result: bytes, _channel: str
    ) -> Any:
        return self.cancel(job_id, job, result, result_ttl).encode()

    def run_redrive(self, *args: bytes) -> Any:
        return self.redrive(list(zip(args[::2], args[1::2], strict=True)))


def outcomes_of(args: Sequence[Any]) -> list[op.Outcome]:
    """Read the ARGV of ``settle`` behind the consumer's name."""
    return [op.Outcome(*args[i : i + 7]) for i in range(0, len(args), 7)]
