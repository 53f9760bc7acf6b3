"""The options of tasks and of single jobs: frozen, checked where they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypedDict
from urllib.parse import quote

from headrace.errors import InvalidJob, InvalidSetting
from headrace.expiry import NEVER_MS, noted_due
from headrace.key_options import IfExists, KeyUntil, check_key_options
from headrace.keys import keys_of
from headrace.lanes.declared import TaskLimits, checked_key, task_limits
from headrace.retry import Backoff
from headrace.run_limits import NO_LIMITS, RunLimits, run_limits
from headrace.wire import MAX_PRIORITY, MIN_PRIORITY

Seconds = float | timedelta

# What a key keeps of itself in a job's head and in Redis; the rest is percent-encoded, so that the
# scripts find its end without reading JSON.
_KEY_LETTERS: Final = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"%\\')
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_LATEST_MS: Final = 1 << 52  # beyond it a zset's score loses milliseconds


def seconds(name: str, value: Seconds, *, zero: bool = True) -> float:
    """Read a duration.

    Raises:
        InvalidSetting: it is negative, or not a number.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e11:
        raise InvalidSetting(f"{name}={value!r} must be a number of seconds, 0 or more")
    if number == 0 and not zero:
        raise InvalidSetting(f"{name}={value!r} must be more than 0 seconds")
    return float(number)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How the jobs of a task are run.

    Attributes:
        queue: where its jobs go.
        max_attempts: failed runs after which a job is dead.
        backoff: how long to wait between attempts.
        timeout_s: how long a run may take, seconds; None without bound.
        retry_on: only these exceptions are tried again; all others end the job.
        give_up_on: these exceptions end the job at once.
        result_ttl_s: how long a result is kept, seconds; None for not at all.
        dead_letter: keep jobs that failed for good in the dead letters.
        limits: a process of its own, its memory and processor time, the soft timeout.
        flow_limits: how many of its jobs may begin, or run at once; None for any number.
    """

    queue: str
    max_attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    timeout_s: float | None = None
    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    give_up_on: tuple[type[BaseException], ...] = ()
    result_ttl_s: float | None = None
    dead_letter: bool = True
    limits: RunLimits = NO_LIMITS
    flow_limits: TaskLimits | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or self.max_attempts < 1:
            raise InvalidSetting(f"max_attempts={self.max_attempts!r} must be 1 or more")

    def keeps(self, reason: str) -> bool:
        """Whether a job that is dead for this reason leaves a dead letter."""
        if not self.dead_letter:  # what cannot be decrypted is whole, and runs where there is a key
            return reason == "undecryptable"
        return not (reason == "expired" and self.limits.drop_expired)


_TASK_DEFAULTS: Final = {
    "max_attempts": 3,
    "backoff": None,
    "timeout": None,
    "retry_on": BaseException,
    "give_up_on": (),
    "result_ttl": None,
    "dead_letter": True,
    "encrypted": None,
    "isolate": None,
    "memory": None,
    "cpu": None,
    "soft_timeout": None,
    "drop_expired": False,
    "rate_limit": None,
    "burst": None,
    "concurrency_limit": None,
    "limit_by": None,
}


def task_options(options: Mapping[str, Any]) -> TaskOptions:
    """Check and translate the options of a task; all but ``queue`` may be left out.

    Raises:
        InvalidSetting: an option is unknown, or its value has no meaning.
    """
    chosen = _TASK_DEFAULTS | {"queue": None} | dict(options)
    if unknown := set(chosen) - {*_TASK_DEFAULTS, "queue"}:
        raise InvalidSetting(f"unknown task option {', '.join(sorted(unknown))}")
    keys_of(chosen["queue"])

    def optional(name: str) -> float | None:
        return None if chosen[name] is None else seconds(name, chosen[name], zero=False)

    timeout_s = optional("timeout")
    return TaskOptions(
        queue=chosen["queue"],
        max_attempts=chosen["max_attempts"],
        backoff=chosen["backoff"] or Backoff(),
        timeout_s=timeout_s,
        retry_on=types("retry_on", chosen["retry_on"]),
        give_up_on=types("give_up_on", chosen["give_up_on"]),
        result_ttl_s=optional("result_ttl"),
        dead_letter=bool(chosen["dead_letter"]),
        limits=run_limits(
            isolate=chosen["isolate"],
            memory=chosen["memory"],
            cpu_s=optional("cpu"),
            soft_timeout_s=optional("soft_timeout"),
            timeout_s=timeout_s,
            drop_expired=chosen["drop_expired"],
        ),
        flow_limits=task_limits(
            chosen["rate_limit"], chosen["concurrency_limit"], chosen["burst"], chosen["limit_by"]
        ),
    )


class JobOptions(TypedDict, total=False):
    """What ``.options(…)`` takes.

    Attributes:
        queue: another queue than the task's.
        delay: run it so many seconds from now (or a timedelta), by Redis' clock.
        at: run it at this instant: an aware datetime, or seconds since 1970.
        priority: -100 … 100; higher first, FIFO within one.
        key: until the job ends, a second job with this key is not enqueued: the first is answered.
        key_ttl: hold the key for so many seconds instead, whatever becomes of the job.
        key_until: ``start`` for a key that is free when the job begins.
        if_exists: what becomes of a second job with a key, else: ``keep`` the first, ``reject`` this
            one with an error, ``replace`` the first unless it has begun, ``debounce`` it to when this
            one would be due, or ``throttle`` to one job in each ``key_ttl``.
        timeout: seconds this job may run.
        soft_timeout: seconds after which this job is told to end.
        expires: do not start it later than so many seconds from now (by Redis' clock), or than
            an instant (an aware datetime): then it becomes a dead letter.
        max_attempts: failed runs after which this job is dead.
        result_ttl: seconds this job's result is kept.
        headers: what travels beside the arguments, as text: the job's ``Context.headers``.
        lane: the key under which it is limited and has its turn, in place of what ``limit_by`` or
            ``fair_by`` gives; for tasks and queues that have limits.
    """

    queue: str
    delay: Seconds
    at: datetime | float
    priority: int
    key: str
    key_ttl: Seconds
    key_until: KeyUntil
    if_exists: IfExists
    timeout: Seconds
    soft_timeout: Seconds
    expires: Seconds | datetime
    max_attempts: int
    result_ttl: Seconds
    headers: dict[str, str]
    lane: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and when a job goes, and what its body says beside the call.

    Attributes:
        queue: the queue; None the task's own.
        due: "", "+ms" from now or "@ms" since 1970.
        priority: -100 … 100.
        key: its idempotency key, percent-encoded, or None.
        key_ttl_ms: how long the key lives; 0 until the job ends, or begins.
        key_until: ``end`` or ``start``.
        if_exists: what becomes of a second job with the key.
        fields: what is written into the job's body: timeout, max_attempts, result_ttl, expires_at.
        expires_ms: so long after its enqueue it expires, by Redis' clock; 0: ``fields`` has it, if it does.
        lane: its key in the limits that hold for it; None as they say.
    """

    queue: str | None = None
    due: str = ""
    priority: int = 0
    key: str | None = None
    key_ttl_ms: int = 0
    key_until: KeyUntil = "end"
    if_exists: IfExists = "keep"
    fields: dict[str, Any] = field(default_factory=dict)
    expires_ms: int = 0
    lane: str | None = None


ANYWHERE: Final = Placement()
"""Of a job without options."""


def placement(options: JobOptions) -> Placement:
    """Check and translate job options.

    Raises:
        InvalidJob: an option is unknown, or its value has no meaning.
    """
    if unknown := set(options) - set(JobOptions.__annotations__):
        known = ", ".join(sorted(JobOptions.__annotations__))
        raise InvalidJob(f"unknown option {', '.join(sorted(unknown))}: the options are {known}")
    try:
        fields: dict[str, Any] = {
            name: seconds(name, options[name], zero=False)
            for name in ("timeout", "soft_timeout", "result_ttl")
            if name in options
        }
        key_ttl_ms = 0
        if "key_ttl" in options:
            key_ttl_ms = max(1, round(seconds("key_ttl", options["key_ttl"], zero=False) * 1000))
        if "max_attempts" in options:
            fields["max_attempts"] = _whole("max_attempts", options["max_attempts"], 1, 1 << 31)
        if "headers" in options:
            fields["headers"] = _headers(options["headers"])
        check_key_options(options)
        return Placement(
            queue=options.get("queue"),
            due=noted_due(_due(options), fields),
            priority=_whole("priority", options.get("priority", 0), MIN_PRIORITY, MAX_PRIORITY),
            key=_key(options),
            key_ttl_ms=key_ttl_ms,
            key_until=options.get("key_until", "end"),
            if_exists=options.get("if_exists", "keep"),
            fields=fields,
            expires_ms=_expiry(options, fields),
            lane=checked_key(options["lane"]) if "lane" in options else None,
        )
    except InvalidSetting as error:
        raise InvalidJob(str(error)) from None


def _headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, dict) or not {*map(type, headers), *map(type, headers.values())} <= {
        str
    }:
        raise InvalidJob(f"headers={headers!r} must be a dict of strings")
    return {**headers}


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidJob(f"{name}={value!r} must be a whole number from {low} to {high}")
    return value


def _key(options: JobOptions) -> str | None:
    key = options.get("key")
    if key is None:
        return None
    if not (isinstance(key, str) and 0 < len(key) <= 512):
        raise InvalidJob(f"key={key!r} must be a string of 1 to 512 characters")
    return quote(key, _KEY_LETTERS, errors="surrogatepass")


def _due(options: JobOptions) -> str:
    if "delay" in options and "at" in options:
        raise InvalidJob("give either delay= or at=, not both")
    if "delay" in options:
        ms = _ms(seconds("delay", options["delay"]))
        return f"+{ms}" if ms else ""
    if "at" not in options:
        return ""
    at = options["at"]
    if isinstance(at, datetime):
        since = _since_epoch("at", at)
        if since >= timedelta(0):
            return f"@{-(-since // _MS)}"
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at * 1000 < _LATEST_MS:
        raise InvalidJob(f"at={at!r} must be an aware datetime or seconds since 1970")
    return f"@{_ms(at)}"


def _ms(instant_s: float) -> int:
    """Return milliseconds, rounded up, for no job is early; but not for what floats make of 0.1."""
    return -(-round(instant_s * 1e6) // 1000)


def _expiry(options: JobOptions, fields: dict[str, Any]) -> int:
    """Write when the job expires into its fields; return how long it lasts, ms, if that depends on Redis' clock."""
    expires = options.get("expires")
    if expires is None:
        return 0
    if isinstance(expires, datetime):
        fields["expires_at"] = round(_since_epoch("expires", expires) / _MS)
        return 0
    ms = max(1, round(seconds("expires", expires, zero=False) * 1000))
    fields["expires_at"] = NEVER_MS  # until Redis has been asked for the time
    return ms


def _since_epoch(name: str, instant: datetime) -> timedelta:
    if instant.tzinfo is None:
        raise InvalidJob(
            f"{name}={instant!r} has no time zone: use datetime.now(timezone.utc) or astimezone()"
        )
    return instant - _EPOCH


def types(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """Read one exception class or several.

    Raises:
        InvalidSetting: it is something else.
    """
    found = value if isinstance(value, tuple | list) else (value,)
    if not all(isinstance(item, type) and issubclass(item, BaseException) for item in found):
        raise InvalidSetting(f"{name}={value!r} must be exception classes")
    return tuple(found)
