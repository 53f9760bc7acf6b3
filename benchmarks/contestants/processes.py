"""Several processes of one worker, for libraries whose own command runs one. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def fork(processes: int) -> None:
    """Go on as so many processes, of which all end with the first."""
    for _ in range(processes - 1):
        if not os.fork():
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            break
