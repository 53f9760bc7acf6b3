"""Who is gone: consumers that were connected to Redis and have had no connection for a while. Pure.

Redis knows that a process is dead long before its leases run out, for its connections close at
once. Only who has been seen connected can be missed: behind some proxies no name is ever seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Changes(NamedTuple):
    """What a look shows that the one before did not.

    Attributes:
        came: who is connected, and was missing or never seen.
        left: who is missing, and was connected.
        gone: who has been missing for the whole grace; until it is forgotten.
    """

    came: set[str]
    left: set[str]
    gone: list[str]


class Presence:
    """Remembers since when consumers are missing. All instants are monotonic, in seconds.

    Args:
        grace_s: how long one may be away, seconds; a live consumer is back sooner.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._known: set[str] = set()
        self._missing: dict[str, float] = {}  # since when
        self._blind_until = -math.inf

    @property
    def due_at(self) -> float | None:
        """When the next one is gone, unless it comes back; None if nobody is missing."""
        since = min(self._missing.values(), default=None)
        return None if since is None else since + self._grace_s

    def learn(self, known: Iterable[str], missing: Mapping[str, float]) -> None:
        """Begin with what others know: who has been seen connected, and since when some are missing."""
        self._known = set(known)
        self._missing = {name: max(at, self._blind_until) for name, at in missing.items()}

    def blind(self, until: float) -> None:
        """Count nobody as missing before an instant: Redis was away, and all have to come back."""
        self._missing.clear()
        self._blind_until = until

    def look(self, connected: set[str], now: float) -> Changes:
        """Compare with who is connected now."""
        away = self._known - connected
        came = connected - (self._known - self._missing.keys())
        left = away - self._missing.keys()
        since = max(now, self._blind_until)
        self._known |= connected
        self._missing = {name: self._missing.get(name, since) for name in sorted(away)}
        gone = [name for name, at in self._missing.items() if now - at >= self._grace_s]
        return Changes(came, left, gone)

    def forget(self, name: str) -> None:
        """Forget one that is gone for good."""
        self._known.discard(name)
        self._missing.pop(name, None)
