"""How long to wait before the next attempt. Pure: the random number comes in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter.

    The delay before attempt n + 1 is a random part of ``base_s * factor ** (n - 1)``, at most
    ``max_s``. Full jitter spreads jobs that failed together best, at the least work for the service
    that they wait for: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Attributes:
        base_s: the bound of the first delay, seconds.
        factor: by how much each further bound grows.
        max_s: no bound is larger, seconds.
        jitter: False takes the whole bound each time.
    """

    base_s: float = 2.0
    factor: float = 2.0
    max_s: float = 600.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.base_s < 0 or self.factor < 1 or self.max_s < 0:
            raise InvalidSetting("a backoff needs base_s >= 0, factor >= 1 and max_s >= 0")

    def delay_s(self, failures: int, uniform: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after so many failures (from 1); ``uniform`` gives [0, 1)."""
        # 2.0 ** 1024 overflows; long before that the bound is max_s.
        bound = min(self.max_s, self.base_s * self.factor ** min(failures - 1, 100))
        return bound * uniform() if self.jitter else bound
