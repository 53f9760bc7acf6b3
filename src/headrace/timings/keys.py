"""The keys of timings, in the slot of their queue, and the one in which consumers tell of their slots.

queue:timings   hash  task -> what its jobs came to, as numbers (see ``tally``)
queue:minutes   hash  minute of the day -> the same of all jobs that ended in it; "ten minutes, a space,
                      task" -> of one task's; expires
headrace:slots  hash  consumer -> how many slots it has, how many were busy, when it said so (ms); expires
"""

from __future__ import annotations

from headrace.keys import Keys

SLOTS = "headrace:slots"


def timings_of(k: Keys) -> str:
    """Where the jobs of a queue are summed up by task."""
    return f"{k.queue}:timings"


def minutes_of(k: Keys) -> str:
    """Where they are summed up by the minute in which they ended."""
    return f"{k.queue}:minutes"
