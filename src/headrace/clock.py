"""The clocks of a process: the only module that calls ``time``.

No deadline that Redis decides comes from here: scripts read Redis' own clock. These serve what is
local to one process (how long a job has run, when to try a connection again) and what is only shown
to people (the instant in a new job's id).
"""

from __future__ import annotations

from time import monotonic, time_ns

# ``monotonic`` is Python's own: seconds since an arbitrary point; never goes back.
__all__ = ["monotonic", "now_ms"]


def now_ms() -> int:
    """Milliseconds since 1970 by this machine's clock, which may be wrong: for people only."""
    return time_ns() // 1_000_000
