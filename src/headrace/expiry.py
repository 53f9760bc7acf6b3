"""When jobs expire: how that stands in their bytes. Pure.

``expires_at`` is one field of the body, ms since 1970 by Redis' clock. Of a job that expires so many
seconds from now only Redis knows when that is, and the producer asks it when the job is sent: until
then there stands ``NEVER_MS``, which has as many digits as the instant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from headrace.errors import InvalidJob

NEVER_MS: Final = 9_999_999_999_999
_SOONEST_MS: Final = 10**12  # as many digits; in 2001
_NEVER: Final = b',"expires_at":%d' % NEVER_MS


def expiring(job: bytes, expires_at_ms: int) -> bytes:
    """Write when a new job expires, which has ``NEVER_MS`` for that."""
    front, found, rest = job.rpartition(_NEVER)
    if not found:
        return job
    at = max(_SOONEST_MS, min(expires_at_ms, NEVER_MS))
    return b'%b,"expires_at":%d%b' % (front, at, rest)


def noted_due(due: str, fields: dict[str, Any]) -> str:
    """Note in a job's fields when it is to run, for those who ask how long it waited; return that."""
    if due:
        fields["due"] = due
    return due


def check_instant(expires_ms: int, who: str) -> None:
    """Check that a job which no producer sends does not need one to ask Redis for the time.

    Raises:
        InvalidJob: it expires so many seconds from when a producer sends it.
    """
    if expires_ms:
        raise InvalidJob(
            f"{who} has no expires= in seconds, which count from when it is sent: give it a datetime"
        )


def resolved(calls: Iterable[Any], now_ms: float) -> list[Any]:
    """Write into calls when they expire, as far as that depends on the time by Redis' clock."""
    now = round(now_ms)
    return [
        one._replace(job=expiring(one.job, now + one.expires_ms)) if one.expires_ms else one
        for one in calls
    ]
