"""Wait for a condition in a program that has no loop yet."""

from __future__ import annotations

import threading
from collections.abc import Callable

from headrace.clock import monotonic


def within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds; False when it does not within ``timeout_s`` seconds."""
    deadline = monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        if monotonic() > deadline:
            return False
        pause.wait(0.01)
    return True
