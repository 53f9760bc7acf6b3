"""What an exhibit is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.simulation.queue import Queue


def _nothing(_: pytest.MonkeyPatch) -> None:
    return


@dataclass(frozen=True)
class Exhibit:
    """A bug.

    Attributes:
        name: what it does.
        whose: who had it.
        how: how it is put in.
        queue: the queue that has it, when it lies in the model of Redis.
        patch: puts it into the product, when it lies there.
        seed: where it was found before, on each Python; tried first.
    """

    name: str
    whose: str
    how: str
    queue: type[Queue] | None = None
    patch: Callable[[pytest.MonkeyPatch], None] = _nothing
    seed: int = 0
