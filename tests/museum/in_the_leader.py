"""Bugs of whoever leads: found by a count of what it asks Redis for, turn by turn, on a real server."""

from __future__ import annotations

from functools import wraps

import pytest

from headrace import maintenance
from headrace.maintenance import Maintenance

NAME = "the looks for lost consumers become rare when Redis' answers are late"
TURNS = 5


def paced_by_elapsed_time(patch: pytest.MonkeyPatch) -> None:
    """To take 1/300 of Redis' time, the next look waits 300 times as long as the last one took."""
    look = Maintenance._look_for_the_gone

    @wraps(look)
    async def paced(self: Maintenance, queues: list[str]) -> None:
        clock = vars(maintenance)["monotonic"]
        began = clock()
        await look(self, queues)
        now = clock()
        self._look_at = now + 300 * (now - began)

    patch.setattr(Maintenance, "_look_for_the_gone", paced)
