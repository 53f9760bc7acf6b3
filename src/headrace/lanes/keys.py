"""The keys of a queue's lanes, spelled in one place. ``keys`` lists them with all others.

Only a queue that holds limited jobs, or has limits, has any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from headrace.keys import Keys

LIMITED_QUEUES: Final = "headrace:limited"
"""Where the names of the queues stand that have limits or lanes: whoever leads looks after them."""


@dataclass(frozen=True, slots=True)
class LaneKeys:
    """The keys of one queue's lanes, beside ``limited``, which holds the jobs.

    Attributes:
        lanes: the order in which they wait: lane, rank, id.
        slots: what counts as running under a limit on how many run at once: lane, number, id.
        admitted: what has a token and is not at a consumer yet: lane, number, id.
        limits: limits by name, as declared, or, with "!" in front, as an operator has set them.
        buckets: tokens by limit; the lane that had its turn last, and who keeps the time.
    """

    lanes: str
    slots: str
    admitted: str
    limits: str
    buckets: str


@lru_cache(maxsize=1 << 10)
def lane_keys(k: Keys) -> LaneKeys:
    """Return the keys of a queue's lanes."""
    return LaneKeys(
        lanes=f"{k.queue}:lanes",
        slots=f"{k.queue}:slots",
        admitted=f"{k.queue}:admitted",
        limits=f"{k.queue}:limits",
        buckets=f"{k.queue}:buckets",
    )
