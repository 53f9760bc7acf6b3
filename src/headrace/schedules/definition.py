"""What a schedule says: when its ticks are, and the job that each of them enqueues. Pure."""

from __future__ import annotations

import hashlib
import re
from base64 import b32hexencode
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from headrace import wire
from headrace.errors import InvalidSetting
from headrace.ids import LENGTH
from headrace.keys import keys_of
from headrace.options import Seconds
from headrace.partitions.declared import UNDIVIDED, Partitions
from headrace.producer import Call
from headrace.schedules import timing
from headrace.schedules.timing import Every, Timing

Missed: TypeAlias = Literal["latest", "skip", "all"]
"""What becomes of ticks that could not fire in time: the last one fires, none does, or each does."""

MOST_BYTES: Final = 1 << 16
"""Of a definition: a leader reads many at once."""

_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}")


class Definition(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A schedule as it stands in Redis.

    Attributes:
        queue: where its jobs go.
        job: what they are, without id: ``{"task":…,"args":…}``.
        cron: its cron expression, or "".
        timezone: the time zone of that.
        every_ms: its period, or 0.
        missed: what becomes of missed ticks.
        priority: of its jobs.
        declared: it stands in the code of an application.
    """

    queue: str
    job: msgspec.Raw
    cron: str = ""
    timezone: str = "UTC"
    every_ms: int = 0
    missed: Missed = "latest"
    priority: int = 0
    declared: bool = False

    @property
    def timing(self) -> Timing:
        """When its ticks are."""
        return timing.Cron(self.cron, self.timezone) if self.cron else Every(self.every_ms)

    @property
    def task(self) -> str:
        """The task of its jobs."""
        return wire.read_body(bytes(self.job)).task

    def encoded(self) -> bytes:
        """Write it as it stands in Redis.

        Raises:
            InvalidSetting: it is too large.
        """
        raw = _encode(self)
        if len(raw) > MOST_BYTES:
            raise InvalidSetting(
                f"a schedule of {len(raw):,} bytes is over the limit of {MOST_BYTES:,}: "
                "store the data elsewhere, and give its jobs the address"
            )
        return raw

    def job_of(self, name: str, tick_ms: int) -> bytes:
        """Return the job of a tick: always the same one, so that it can be told from another's."""
        body = bytes(self.job).strip()
        said = b',"schedule":%b,"scheduled_at":%d}' % (_encode(name), tick_ms)
        return wire.assemble(id_of(name, tick_ms), b"," + body[1:-1] + said, self.priority)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Definition).decode


@lru_cache(maxsize=1024)
def read(raw: bytes) -> Definition:
    """Read a definition, which anybody may have written.

    Raises:
        InvalidSetting: it is none, or means nothing on this machine: a time zone is not known, say.
    """
    try:
        found = _decode(raw)
        wire.read_body(bytes(found.job))
    except Exception as error:
        raise InvalidSetting(f"its definition cannot be read: {error}") from None
    if (not found.cron) == (found.every_ms < 1):
        raise InvalidSetting("its definition needs either cron or every_ms")
    keys_of(found.queue)
    found.timing.after(0)
    return found


def define(
    call: Call[Any],
    when: Timing,
    *,
    missed: Missed = "latest",
    declared: bool = False,
    partitions: Partitions = UNDIVIDED,
) -> Definition:
    """Make a definition of a call. Where its queue is divided, its jobs go to the first partition.

    That one is always there, and the same for whoever declares the schedule: so a tick that is fired
    anew, because a leader has died, goes where it is known that it has fired.

    Raises:
        InvalidSetting: the call has options that a schedule cannot have.
    """
    if call.due or call.key is not None or call.expires_ms:
        raise InvalidSetting(
            "a schedule says when its jobs run: leave out delay, at, key and expires"
        )
    if missed not in get_args(Missed):
        raise InvalidSetting(f"missed={missed!r} must be one of {', '.join(get_args(Missed))}")
    parts = wire.split(call.job)
    assert parts is not None
    cron = when if isinstance(when, timing.Cron) else timing.Cron("")
    return Definition(
        queue=partitions.whole(call.queue),
        job=msgspec.Raw(b"{" + parts[1].lstrip(b",")),
        cron=cron.expression,
        timezone=cron.timezone,
        every_ms=when.period_ms if isinstance(when, Every) else 0,
        missed=missed,
        priority=call.priority,
        declared=declared,
    )


def timing_of(
    cron: str | None = None, every: Seconds | None = None, timezone: str = "UTC"
) -> Timing:
    """Read when a schedule's ticks are.

    Raises:
        InvalidSetting: not exactly one of the two is given, or it has no meaning.
    """
    if cron is not None and every is None:
        return timing.cron(cron, timezone)
    if every is None or cron is not None:
        raise InvalidSetting("give either cron= or every=")
    return timing.every(every)


def checked_name(name: str) -> str:
    """Return a schedule's name.

    Raises:
        InvalidSetting: it can be none.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidSetting(
            f"{name!r} cannot be a schedule's name: use 1 to 255 characters, no white space"
        )
    return name


def id_of(name: str, tick_ms: int) -> str:
    """Return the id of a tick's job: a UUIDv7 of its instant, with the schedule's name for chance.

    So a tick that fires once more, because Redis has forgotten that it had, has the same id.
    """
    digest = hashlib.sha256(b"%d %b" % (tick_ms, name.encode(errors="surrogatepass"))).digest()
    value = int.from_bytes(digest[:10]) & ~(0xF << 76) & ~(0x3 << 62)
    value |= tick_ms << 80 | 0x7 << 76 | 0x2 << 62
    return b32hexencode(value.to_bytes(16)).decode().lower()[:LENGTH]
