"""The leader's part in limits: slots of jobs that are nowhere are freed, and tokens let jobs out in time."""

from __future__ import annotations

import logging
import math
from typing import Final

from headrace.clock import monotonic
from headrace.errors import StoreRefused
from headrace.keys import is_name, keys_of
from headrace.lanes import operations as lanes
from headrace.lanes.operations import Checked
from headrace.operations import Operation
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_EVERY_S: Final = 0.9  # less than a second, in which each turn comes


class LanesDuty:
    """Looks after all queues that have limits.

    Args:
        store: the Redis.

    Attributes:
        due_at: when the next token comes of which nobody else keeps the time (monotonic).
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self.due_at: float = math.inf
        self.begin()

    def begin(self) -> None:
        """Forget what was known of queues: another one may have led meanwhile."""
        self._at: dict[str, tuple[int, str]] = {}  # where the look into slots and buckets is
        self._alarms: dict[str, tuple[str, float]] = {}
        self._look_at = 0.0

    def look(self) -> Operation[list[str]]:
        """Ask which queues have limits."""
        return lanes.queues()

    async def turn(self, seen: list[str]) -> bool:
        """Look after them, each about once a second, and when an alarm is due."""
        now, busy = monotonic(), False
        everyone = now >= self._look_at
        if everyone:
            self._look_at = now + _EVERY_S
            self._alarms = {queue: one for queue, one in self._alarms.items() if queue in seen}
        due = [queue for queue, (_, at) in self._alarms.items() if at <= now]
        for queue in seen if everyone else due:
            busy |= await self._check(queue)
        self.due_at = min((at for _, at in self._alarms.values()), default=math.inf)
        return busy

    async def _check(self, queue: str) -> bool:
        if not is_name(queue):
            return False
        k = keys_of(queue)
        name, _ = self._alarms.pop(queue, ("0", 0.0))
        offset, cursor = self._at.get(queue, (0, "0"))
        try:
            checked = await self._store.run(
                lanes.check(k, alarm=name, offset=offset, cursor=cursor)
            )
        except StoreRefused as error:  # a key of it is broken: the others go on
            log.error("the limits of queue %s are not looked after: %s", queue, error)
            return False
        self._note(queue, checked)
        if not checked.busy and not await self._store.run(lanes.is_registered(k)):
            await self._store.run_all(lanes.forget(k))
        return checked.offset > 0

    def _note(self, queue: str, checked: Checked) -> None:
        self._at[queue] = (checked.offset, checked.cursor)
        if checked.freed:
            log.info("queue %s: %d slots of jobs that are nowhere are free", queue, checked.freed)
        if checked.alarm.at:
            self._alarms[queue] = (checked.alarm.at, monotonic() + checked.alarm.left_s)
