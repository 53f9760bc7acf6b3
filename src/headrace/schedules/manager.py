"""``app.schedules``: schedules that are created, changed and removed while the application runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from headrace.hooks import apassed, passed
from headrace.options import Seconds
from headrace.partitions.declared import Partitions
from headrace.producer import Call, Producer
from headrace.schedules import changes
from headrace.schedules.definition import Missed, define, timing_of
from headrace.schedules.schedule import Schedule

Found: TypeAlias = list[Schedule]


class Manager:
    """The schedules in Redis. Each method has an awaited twin with an ``a`` in front.

    A change counts within a second. All raise StoreError when Redis does not do what is asked.

    Args:
        producer: gives that of the application.
        partitions: which of its queues are divided.
    """

    def __init__(self, producer: Callable[[], Producer], partitions: Partitions) -> None:
        self._producer = producer
        self._partitions = partitions

    def list(self) -> Found:
        """Return all schedules, by name."""
        return self._producer().store.follow(changes.all_schedules())

    async def alist(self) -> Found:
        """Return all schedules, as ``list`` does."""
        return await self._producer().astore().follow(changes.all_schedules())

    def add(
        self,
        name: str,
        call: Call[Any],
        *,
        cron: str | None = None,
        every: Seconds | None = None,
        timezone: str = "UTC",
        missed: Missed = "latest",
        replace: bool = False,
    ) -> bool:
        """Add a schedule, or change one: ``add("beat", ping.call(1), every=30)``.

        Args:
            name: its name, up to 255 characters without white space.
            call: the job of each tick, with its options; not ``delay``, ``at`` and ``key``.
            cron: when: minute, hour, day of the month, month, day of the week …
            every: … or the period, s (or a timedelta), at least 0.1.
            timezone: of the cron expression.
            missed: what becomes of ticks that could not fire in time: ``latest``, ``skip``, ``all``.
            replace: change the one that is there; it stays paused if it is.

        Returns:
            Whether there was one of that name.

        Raises:
            InvalidSetting: an argument has no meaning, or there is one of that name.
        """
        when = timing_of(cron, every, timezone)
        call = passed(call, name)
        definition = define(call, when, missed=missed, partitions=self._partitions)
        return self._producer().store.follow(changes.add(name, definition, replace=replace))

    async def aadd(
        self,
        name: str,
        call: Call[Any],
        *,
        cron: str | None = None,
        every: Seconds | None = None,
        timezone: str = "UTC",
        missed: Missed = "latest",
        replace: bool = False,
    ) -> bool:
        """Add a schedule, or change one, as ``add`` does."""
        when = timing_of(cron, every, timezone)
        call = await apassed(call, name)
        definition = define(call, when, missed=missed, partitions=self._partitions)
        flow = changes.add(name, definition, replace=replace)
        return await self._producer().astore().follow(flow)

    def pause(self, name: str) -> bool:
        """Let a schedule have no ticks until it is resumed; return whether that changed anything.

        Raises:
            InvalidSetting: there is no such schedule.
        """
        return self._producer().store.follow(changes.pause(name))

    async def apause(self, name: str) -> bool:
        """Pause a schedule, as ``pause`` does."""
        return await self._producer().astore().follow(changes.pause(name))

    def resume(self, name: str) -> bool:
        """Let a paused schedule go on with its next tick; return whether that changed anything.

        Raises:
            InvalidSetting: there is no such schedule.
        """
        return self._producer().store.follow(changes.resume(name))

    async def aresume(self, name: str) -> bool:
        """Let a paused schedule go on, as ``resume`` does."""
        return await self._producer().astore().follow(changes.resume(name))

    def remove(self, name: str) -> bool:
        """Remove a schedule; return whether it was there.

        One that a running application declares is back within half a minute: pause it instead.
        """
        return self._producer().store.follow(changes.remove(name))

    async def aremove(self, name: str) -> bool:
        """Remove a schedule, as ``remove`` does."""
        return await self._producer().astore().follow(changes.remove(name))
