"""``task.every(…)`` and ``task.cron(…)``: what makes a task one that has schedules."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from headrace.options import Seconds
from headrace.producer import Call
from headrace.schedules.declared import Declared, declare
from headrace.schedules.definition import Missed, timing_of
from headrace.schedules.timing import Timing


class Schedulable:
    """A task, perhaps under job options, whose jobs can be enqueued by a schedule."""

    @abstractmethod
    def _scheduled(self) -> tuple[str, list[Declared]]:
        """Return the task's name, and its schedules."""

    @abstractmethod
    def _call_of(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        """Make a job under the same options: of this task (None), or of one that stands for it."""

    def every(
        self,
        period: Seconds,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        missed: Missed = "latest",
    ) -> None:
        """Declare a schedule: a job each so many seconds (or a timedelta), at least 0.1.

        Args:
            period: the ticks are its multiples since 1970.
            args: what the job calls the function with …
            kwargs: … and by keyword.
            name: the schedule's name; by default the task's.
            missed: what becomes of ticks that could not fire in time: ``latest`` fires the last of
                them, ``skip`` none, ``all`` each.

        Raises:
            InvalidSetting: an option has no meaning, or the task has a schedule of that name.
            InvalidJob: the call does not fit the function.
        """
        self._schedule(timing_of(every=period), args, kwargs, name, missed=missed)

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        missed: Missed = "latest",
    ) -> None:
        """Declare a schedule by a cron expression, by the clocks of a time zone; else as ``every``."""
        when = timing_of(expression, timezone=timezone)
        self._schedule(when, args, kwargs, name, missed=missed)

    def _schedule(
        self,
        when: Timing,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        name: str | None,
        *,
        missed: Missed,
    ) -> None:
        task, schedules = self._scheduled()

        def call(task: Any) -> Call[Any]:
            return self._call_of(task, args, kwargs or {})

        declare(schedules, name or task, when, missed=missed, call=call)
