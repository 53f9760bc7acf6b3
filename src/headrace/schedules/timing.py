"""When the ticks of a schedule are: every so many seconds, or by a cron expression. Pure.

Instants are whole milliseconds since 1970. The library reads expressions and matches them to the
clock on the wall; what becomes of an hour that does not exist, or exists twice, is decided here, as
Debian's cron decides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from headrace.errors import InvalidSetting
from headrace.options import Seconds, seconds

LEAST_PERIOD_S: Final = 0.1
"""Ticks that come faster are no work for a queue: a task had better loop."""

_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Every:
    """Ticks at all multiples of a period since 1970, so that nobody has to remember the last one.

    Attributes:
        period_ms: the period.
    """

    period_ms: int

    def after(self, at_ms: int) -> int:
        """Return the first tick after an instant."""
        return (at_ms // self.period_ms + 1) * self.period_ms

    def __str__(self) -> str:
        return f"every {self.period_ms / 1000:g} s"


@dataclass(frozen=True, slots=True)
class Cron:
    """Ticks by a cron expression, by the clock on the wall of a time zone.

    Attributes:
        expression: minute, hour, day of the month, month, day of the week; or ``@daily``, ….
        timezone: a name of the IANA database.
    """

    expression: str
    timezone: str = "UTC"

    def after(self, at_ms: int) -> int:
        """Return the first tick after an instant.

        Raises:
            InvalidSetting: there is none within 50 years, or the zone is not known on this machine.
        """
        zone, fields = _zone(self.timezone), _fields(self.expression)
        at = _EPOCH + timedelta(seconds=at_ms // 1000)
        minute, hour = fields.split()[:2]
        try:
            # Who names no certain time of the day wants something regular: it goes by time as it
            # passes. What has a time of the day runs once each day, whatever the clocks do.
            by_the_clock = not minute.startswith("*") and not hour.startswith("*")
            tick = _once(fields, zone, at) if by_the_clock else _real(fields, zone, at)
        except (StopIteration, OverflowError):
            raise InvalidSetting(f"cron {self.expression!r} has no tick within 50 years") from None
        return (tick - _EPOCH) // _SECOND * 1000

    def __str__(self) -> str:
        return f"cron {self.expression} in {self.timezone}"


Timing: TypeAlias = Every | Cron


def every(period: Seconds) -> Every:
    """Read a period.

    Raises:
        InvalidSetting: it is no number of seconds, or too short.
    """
    period_s = seconds("every", period, zero=False)
    if period_s < LEAST_PERIOD_S:
        raise InvalidSetting(f"every={period!r} must be {LEAST_PERIOD_S} seconds or more")
    return Every(round(period_s * 1000))


def cron(expression: str, timezone: str = "UTC") -> Cron:
    """Read a cron expression.

    Raises:
        InvalidSetting: it is none, it never matches, or the time zone is not known.
    """
    found = Cron(expression, timezone)
    found.after(0)
    return found


@lru_cache(maxsize=256)
def _fields(expression: object) -> str:
    """Return the five fields of an expression, once it is known to be one."""
    fields = _ALIASES.get(str(expression).strip().lower(), str(expression))
    count = len(fields.split())
    wrong = "" if count == 5 else f"{count} fields"
    if not wrong:
        try:
            CronSim(fields, datetime(1970, 1, 1))  # noqa: DTZ001 - of no zone: it is only read
        except CronSimError as error:
            wrong = str(error).lower()
    if wrong:
        # Six fields begin with the seconds for some programs, and end with them for others.
        raise InvalidSetting(
            f"{expression!r} is no cron expression ({wrong}): give minute, hour, day of the month, "
            "month and day of the week, as in '*/5 * * * *' or '30 2 * * MON-FRI'; or @daily. For "
            "seconds there is every"
        )
    return fields


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, TypeError, KeyError):  # not found; no path; no string
        raise InvalidSetting(
            f"timezone={name!r} is not known here: use a name as Europe/Berlin or UTC"
        ) from None


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clocks of a zone show at an instant."""
    return at.astimezone(zone).replace(tzinfo=None)


def _once(fields: str, zone: ZoneInfo, at: datetime) -> datetime:
    """Find the next tick of what has a time of the day: each such time comes once.

    One that the clocks skip comes when they have been put forward; of one that they show twice the
    first counts.
    """
    for shown in CronSim(fields, _wall(at, zone)):
        moment = shown
        while _wall(tick := moment.replace(tzinfo=zone).astimezone(UTC), zone) != moment:
            moment += _MINUTE
        if tick > at:
            return tick
    raise StopIteration


def _real(fields: str, zone: ZoneInfo, at: datetime) -> datetime:
    """Find the next tick of what is regular: any minute that shows a match, when it really comes."""
    offset = _offset(at, zone)
    while True:
        tick = next(CronSim(fields, at.replace(tzinfo=None) + offset)).replace(tzinfo=UTC) - offset
        if _offset(tick, zone) == offset:
            return tick
        # The clocks are changed before that: look on from the last second before the change.
        low, high = at, tick
        while high - low > _SECOND:
            middle = low + (high - low) // _SECOND // 2 * _SECOND
            low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
        at, offset = low, _offset(high, zone)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()
