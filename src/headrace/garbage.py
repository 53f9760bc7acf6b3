"""Garbage collection, in a process that is a consumer's or a server's alone.

A job's objects live from its claim to its settle, and nothing in them goes round in a circle: they end
by their reference counts. Python's collector looks through the young ones after each 700 (2,000 since
Python 3.13), finds all of them alive, and then looks through those that got old; with 10,000 jobs in
flight that was half of a consumer's time (decision 0058).
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 10_000
"""So many objects more than have gone are made before it looks: what a task leaves in circles waits so long."""


def look_less_often() -> None:
    """Have garbage looked for after more objects, and no more in what is there now.

    An application that has it looked for later still, or has turned it off, keeps that.
    """
    gc.collect()
    gc.freeze()
    young, *old = gc.get_threshold()
    if 0 < young < YOUNG:
        gc.set_threshold(YOUNG, *old)
