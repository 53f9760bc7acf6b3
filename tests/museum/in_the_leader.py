"""Bugs of whoever leads: found by a count of what it asks Redis for, turn by turn, on a real server."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest

from headrace.maintenance import lost_consumers
from headrace.maintenance.lost_consumers import LostConsumers

NAME = "the looks for lost consumers become rare when Redis' answers are late"
TURNS = 5


def paced_by_elapsed_time(patch: pytest.MonkeyPatch) -> None:
    """To take 1/300 of Redis' time, the next look waits 300 times as long as the last one took."""
    expire_leases = LostConsumers.expire_leases

    @wraps(expire_leases)
    async def paced(self: LostConsumers, queues: list[str]) -> Any:
        clock = vars(lost_consumers)["monotonic"]
        began, before = clock(), self._look_at
        refused = await expire_leases(self, queues)
        if self._look_at != before:
            self._look_at = clock() + 300 * (clock() - began)
        return refused

    patch.setattr(LostConsumers, "expire_leases", paced)
