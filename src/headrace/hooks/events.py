"""Events: what an application is told of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

EventName = Literal["enqueued", "started", "succeeded", "failed", "retried", "dead"]
"""What may have become of a job.

- enqueued: Redis has accepted it. Told in the producer.
- started: it runs from now on. Told in the consumer, as are all that follow.
- succeeded: it is done, and Redis knows.
- failed: a run of it has failed, and Redis knows. After it comes either
- retried: it will be tried again; or
- dead: it has failed for good.
"""

NAMES: Final[tuple[EventName, ...]] = get_args(EventName)


@dataclass(frozen=True, slots=True)
class Event:
    """What has become of a job.

    Attributes:
        name: what.
        job_id: the job's id.
        queue: its queue.
        task: its task's name.
        attempt: which attempt it was, from 1; 0 for enqueued.
        error: a copy of what was raised, with its notes and its traceback; None for none.
        took_s: how long the run took, seconds; 0 for enqueued and started.
        again_in_s: for retried: when it is tried again, seconds from now.
    """

    name: EventName
    job_id: str
    queue: str
    task: str
    attempt: int = 0
    error: BaseException | None = None
    took_s: float = 0.0
    again_in_s: float = 0.0


Listener: TypeAlias = Callable[[Event], Any]
Listeners: TypeAlias = Mapping[EventName, Sequence[Listener]]
