"""How consumers are: what probes and the service manager hear of them. Pure: time comes in.

A worker is healthy while its event loop turns and it asks Redis for work, as far as it can: all its
slots may have jobs, and Redis may be away, which to start the worker anew would not mend.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace.consumer.listener import BLOCK_S
from headrace.policy import LONGEST_PAUSE_S
from headrace.store.exchange import TIMEOUT_S

SILENT_S: Final[float] = BLOCK_S + 3 * TIMEOUT_S + LONGEST_PAUSE_S
"""So long a healthy worker may be silent, seconds: a blocking request, with a time limit each for its
connection, its sending and its answer; then the pause after it failed."""


@dataclass(frozen=True, slots=True)
class Signs:
    """The last signs of a worker, as instants (monotonic).

    Attributes:
        turned: its event loop turned.
        fetched: Redis answered whether there is work; or it had not to be asked, or was away.
        ready: it claims jobs, and Redis is there.
    """

    turned: float
    fetched: float
    ready: bool = False


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """How one worker is.

    Attributes:
        name: its consumer's name.
        why: why it is not healthy, or "".
        silent_s: how old the last sign is that it should give, seconds.
        ready: it claims jobs, and Redis is there.
    """

    name: str
    why: str
    silent_s: float
    ready: bool


@dataclass(frozen=True, slots=True)
class Health:
    """How all workers of a program are.

    Attributes:
        workers: each of them; those that end, or are to replace another, too.
        wanted: how many are to claim jobs.
        stopping: the program was told to end.
        queues: what they consume.
    """

    workers: tuple[WorkerHealth, ...]
    wanted: int
    stopping: bool
    queues: str

    @property
    def healthy(self) -> bool:
        """Whether each worker is."""
        return not any(worker.why for worker in self.workers)

    @property
    def ready(self) -> bool:
        """Whether as many as are wanted claim jobs, and go on with it."""
        return not self.stopping and self._ready >= self.wanted

    @property
    def line(self) -> str:
        """What the program does, in one line."""
        if ill := next((worker for worker in self.workers if worker.why), None):
            return f"{ill.name}: {ill.why}"
        if self.stopping:
            return f"Draining: {len(self.workers)} of {self.wanted} workers still run"
        if self.ready:
            return f"Consuming {self.queues}; workers: {self.wanted}"
        return f"Waiting for workers or for Redis: {self._ready} of {self.wanted} are ready"

    def as_json(self, at_ms: int) -> dict[str, Any]:
        """Return it for programs.

        Args:
            at_ms: what time it is, ms since 1970.
        """
        return {
            "healthy": self.healthy,
            "ready": self.ready,
            "draining": self.stopping,
            "workers": [_as_json(worker, at_ms) for worker in self.workers],
        }

    @property
    def _ready(self) -> int:
        return sum(worker.ready for worker in self.workers)


def judged(name: str, signs: Signs, now: float) -> WorkerHealth:
    """Return how a worker is that has given these signs."""
    turned_s, fetched_s = now - signs.turned, now - signs.fetched
    if turned_s > SILENT_S:
        return WorkerHealth(name, "its event loop does not turn", turned_s, ready=False)
    why = "it does not ask for work" if fetched_s > SILENT_S else ""
    return WorkerHealth(name, why, max(turned_s, fetched_s), signs.ready)


def _as_json(worker: WorkerHealth, at_ms: int) -> dict[str, Any]:
    since = datetime.fromtimestamp(at_ms / 1000 - worker.silent_s, UTC)
    return {
        "name": worker.name,
        "healthy": not worker.why,
        "ready": worker.ready,
        "why": worker.why or None,
        "last_sign": since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
