"""What the demo sees of its queue while it works: counts, results, who holds what."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final

from headrace import operations as op
from headrace import results
from headrace.clock import monotonic
from headrace.errors import JobFailed
from headrace.keys import Keys
from headrace.operations import Operation, Snapshot
from headrace.store import Store

_PAGE: Final = 500  # results asked for in one look
_SPEED_S: Final = 2.0  # the speed is an average over so much


@dataclass(frozen=True, slots=True)
class Moment:
    """Where every job is, at one instant.

    Attributes:
        snapshot: the queue's own counts.
        accepted: how many jobs there are.
        in_hand: how many jobs each consumer has claimed, by its name.
        done: how many jobs each process has done, by its pid, as far as their results were read.
        speed: jobs that ended per second.
    """

    snapshot: Snapshot
    accepted: int
    in_hand: Counter[str]
    done: Counter[int]
    speed: float

    @property
    def ended(self) -> int:
        """Jobs that are done or dead."""
        return _ended(self.snapshot)

    @property
    def progress(self) -> int:
        """A number that changes whenever a job goes anywhere."""
        return sum(self.snapshot.counters.values()) + self.snapshot.dead


class Watch:
    """Looks at the queue.

    Args:
        store: the Redis.
        k: the queue's keys.
        jobs: the ids of all jobs, in their order.

    Attributes:
        ends: how each job ended, encoded, by id, as far as that was read.
    """

    def __init__(self, store: Store, k: Keys, jobs: list[str]) -> None:
        self._store = store
        self._k = k
        self._open = dict.fromkeys(jobs)
        self._accepted = len(jobs)
        self._done: Counter[int] = Counter()
        self._ended: deque[tuple[float, int]] = deque()
        self.ends: dict[str, bytes] = {}

    @property
    def over(self) -> bool:
        """Whether the end of every job has been seen."""
        return not self._open

    def ended(self) -> int:
        """Count the jobs that are done or dead, without reading how they ended."""
        return _ended(self._store.run(op.snapshot(self._k)))

    def look(self) -> Moment:
        """Read what has ended since the last look, and where everything is now."""
        asked = [job_id for job_id, _ in zip(self._open, range(_PAGE), strict=False)]
        requests: list[Operation[Any]] = [
            *(op.peek(self._k.result(job_id), 0, 0) for job_id in asked),
            op.command("HVALS", self._k.claims, parse=_owners),
            op.snapshot(self._k),
        ]
        *ends, in_hand, snapshot = self._store.run_all(requests)
        for job_id, end in zip(asked, ends, strict=True):
            if end:
                self._note(job_id, end[0])
        return Moment(snapshot, self._accepted, in_hand, self._done, self._speed(_ended(snapshot)))

    def _note(self, job_id: str, end: bytes) -> None:
        self.ends[job_id] = end
        del self._open[job_id]
        try:
            self._done[results.value_of(job_id, end)["pid"]] += 1
        except JobFailed:  # the dead letters are counted by the queue itself
            return

    def _speed(self, count: int) -> float:
        now = monotonic()
        self._ended.append((now, count))
        while now - self._ended[0][0] > _SPEED_S:
            self._ended.popleft()
        then, before = self._ended[0]
        return (count - before) / (now - then) if now > then else 0.0


def _ended(snapshot: Snapshot) -> int:
    return snapshot.counters.get("done", 0) + snapshot.dead


def _owners(values: list[bytes]) -> Counter[str]:
    """Count claims by who holds them; a value is the claim token, a space, and the job."""
    return Counter(value.partition(b" ")[0].rpartition(b":")[0].decode() for value in values)
