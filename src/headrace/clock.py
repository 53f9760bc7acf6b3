"""The clocks of a process: the only module that calls ``time``.

No deadline that Redis decides comes from here: scripts read Redis' own clock. These serve what is
local to one process (how long a job has run, when to try a connection again) and what is only shown
to people (the instant in a new job's id).
"""

from __future__ import annotations

import time

monotonic = time.monotonic
"""Seconds since an arbitrary point; never goes back."""


def now_ms() -> int:
    """Milliseconds since 1970 by this machine's clock, which may be wrong: for people only."""
    return time.time_ns() // 1_000_000
