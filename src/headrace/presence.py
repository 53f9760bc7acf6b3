"""Who is gone: consumers that were connected to Redis and have had no connection for a while. Pure.

Redis knows that a process is dead long before its leases run out, for its connections close at
once. Only who has been seen connected can be missed: behind some proxies no name is ever seen.
"""

from __future__ import annotations

from collections.abc import Iterable


class Presence:
    """Remembers since when consumers are missing.

    Args:
        grace_s: how long one may be away, seconds; a live consumer is back sooner.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._known: set[str] = set()
        self._missing: dict[str, float] = {}  # since when, monotonic
        self._blind_until = 0.0

    def learn(self, names: Iterable[str]) -> None:
        """Note who has been seen connected by somebody else."""
        self._known.update(names)

    def silent(self, name: str, since: float) -> None:
        """Note that a consumer has given no sign of life since an instant (monotonic)."""
        self._missing[name] = since

    def blind(self, until: float) -> None:
        """Count nobody as missing before an instant: Redis was away, and all have to come back."""
        self._missing.clear()
        self._blind_until = until

    def look(self, connected: set[str], now: float) -> tuple[set[str], list[str]]:
        """Compare with who is connected now; gives who is new, and who is gone."""
        new = connected - self._known
        self._known |= new
        since = max(now, self._blind_until)
        away = self._known - connected
        self._missing = {name: self._missing.get(name, since) for name in away}
        gone = [name for name, at in self._missing.items() if now - at >= self._grace_s]
        return new, gone

    def forget(self, name: str) -> None:
        """Forget one that is gone for good."""
        self._known.discard(name)
        self._missing.pop(name, None)
