"""What a consumer is told: which queues, how many jobs at once, how long claims last."""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import Final

from headrace.app import Headrace
from headrace.errors import InvalidSetting
from headrace.policy import LeasePolicy

DEFAULT_THREADS: Final = 10
DEFAULT_ASYNC: Final = 100

_NAME = re.compile(r"[!-9;-~]{1,100}")  # it stands in claim tokens and in CLIENT LIST


@dataclass(frozen=True, slots=True)
class QueueWeight:
    """One queue to consume; 0: in the order given, else its share of the turns."""

    name: str
    weight: float = 0


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a consumer works.

    Attributes:
        queues: what it consumes, in order or by weight.
        concurrency: jobs at once; None: 100 when all tasks are async, else 10 threads.
        lease: how long claims last.
        grace_s: how long running jobs may take to finish after a stop signal, seconds.
        burst: stop when there is nothing left to claim.
        max_jobs: stop after so many jobs; None for never.
        name: the consumer's name, unique; None makes one up.
        unknown_task_ttl_s: how long a job waits for a consumer that knows its task, seconds.
    """

    queues: tuple[QueueWeight, ...]
    concurrency: int | None = None
    lease: LeasePolicy = field(default_factory=LeasePolicy)
    grace_s: float = 30.0
    burst: bool = False
    max_jobs: int | None = None
    name: str | None = None
    unknown_task_ttl_s: float = 86_400.0

    def __post_init__(self) -> None:
        if not self.queues:
            raise InvalidSetting("a consumer needs at least one queue")
        if self.concurrency is not None and not 1 <= self.concurrency <= 10_000:
            raise InvalidSetting(f"concurrency={self.concurrency} must be from 1 to 10000")
        if self.max_jobs is not None and self.max_jobs < 1:
            raise InvalidSetting(f"max_jobs={self.max_jobs} must be 1 or more")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise InvalidSetting(
                f"{self.name!r} cannot be a consumer's name: use 1 to 100 letters, digits and signs "
                "of ASCII, no white space, and no colon"
            )
        if self.grace_s < 0 or self.unknown_task_ttl_s < 0:
            raise InvalidSetting("periods must be 0 seconds or more")


def default_concurrency(app: Headrace) -> int:
    """Return the number of slots when nobody says: async tasks cost little, threads more."""
    tasks = app.tasks.values()
    cheap = tasks and all(task.is_async and not task.config.limits.isolated for task in tasks)
    return DEFAULT_ASYNC if cheap else DEFAULT_THREADS


def new_name() -> str:
    """Make up a name: the host and the process for people, the rest to be unique."""
    host = "".join(c for c in socket.gethostname() if c.isascii() and (c.isalnum() or c in ".-"))
    return f"{host[:40] or 'consumer'}-{os.getpid()}-{secrets.token_hex(3)}"
