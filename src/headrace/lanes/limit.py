"""What a limit is, how it is written, and the names of lanes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from headrace.errors import InvalidSetting

WHOLE_QUEUE: Final = "*"
"""The name of a queue's own limit, and the lane of its jobs that no task's limit names."""

EACH_KEY: Final = "/*"
"""What follows the name of a limit that holds for each key by itself."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(\d*)\s*([smhd])[a-z]*\s*)?")
_LETTERS: Final = "".join(chr(code) for code in range(33, 127) if chr(code) not in '"%\\/*!')
_MOST: Final = 10**9


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on how jobs begin.

    Attributes:
        rate: how many begin in a second, on average, over all consumers; 0 without bound.
        burst: how many may begin at once after a rest; 0 without a rate.
        concurrency: how many run at once, over all consumers; 0 without bound.
    """

    rate: float = 0.0
    burst: int = 0
    concurrency: int = 0

    def __str__(self) -> str:
        return f"{self.rate:.12g} {self.burst} {self.concurrency}"

    def __bool__(self) -> bool:
        return bool(self.rate or self.concurrency)


def limit(
    rate: str | float | None, concurrency: int | None, burst: int | None = None
) -> Limit | None:
    """Read a limit; None if it bounds nothing.

    Args:
        rate: jobs a second, or text: "100/s", "10/m", "500/h", "1/10s".
        concurrency: jobs at once.
        burst: how many may begin at once after a rest; by default a tenth of a second's worth, at least 1.

    Raises:
        InvalidSetting: one of them has no meaning.
    """
    per_s = 0.0 if rate is None else rate_of(rate)
    for name, value in (("concurrency_limit", concurrency), ("burst", burst)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 1 <= value <= _MOST):
            raise InvalidSetting(f"{name}={value!r} must be a whole number, 1 or more")
    if burst is not None and not per_s:
        raise InvalidSetting(f"burst={burst} needs a rate_limit")
    found = Limit(per_s, (burst or max(1, round(per_s / 10))) if per_s else 0, concurrency or 0)
    return found or None


def rate_of(rate: str | float) -> float:
    """Read a rate, jobs a second: a number, or text as "100/s", "10/m", "500/h", "1/10s".

    Raises:
        InvalidSetting: it is neither.
    """
    number = 0.0
    if isinstance(rate, str) and (match := _RATE.fullmatch(rate)):
        number = float(match[1]) / (int(match[2] or 1) * _SECONDS[match[3] or "s"] or 1)
    elif isinstance(rate, int | float) and not isinstance(rate, bool):
        number = float(rate)
    if not 1e-6 <= number <= _MOST:
        raise InvalidSetting(
            f'rate_limit={rate!r} must be jobs a second, or text such as "100/s", "10/m", "1/10s"'
        )
    return number


def parse(text: str) -> Limit:
    """Read a limit as it stands in Redis.

    Raises:
        ValueError: it is none.
    """
    rate, burst, concurrency = text.split(" ")
    return Limit(float(rate), int(float(burst)), int(concurrency))


def name_of(task: str | None) -> str:
    """Return the name of a task's limit, or of the queue's own."""
    return WHOLE_QUEUE if task is None else quote(task, _LETTERS, errors="surrogatepass")


def lane_of(name: str, key: str = "") -> str:
    """Return the lane of a limit's jobs with a key; "": without one."""
    return f"{name}/{quote(key, _LETTERS, errors='surrogatepass')}"
