"""The balance of invariant I3: every job that was accepted is in one place, or has ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from headrace.doctor.places import PLACES
from headrace.operations import Snapshot

Balance: TypeAlias = Mapping[str, int]
"""Where jobs are, at one instant: accepted + foreign is the sum of all others.

Accepted are jobs that Headrace's producers enqueued; foreign is what plain clients brought, less what
they took. The others are each place, and how jobs end: done, cancelled, dropped (failed for good, and
their task keeps no dead letters), purged (dead letters that an operator deleted), moved (to another
server).
"""

_ENDS: Final = {
    "done": "done",
    "cancelled": "cancel",
    "dropped": "drop",
    "purged": "purged",
    "moved": "moved",
}
"""How each end is called here, and in Redis' counters."""

_NAMES: Final = ("accepted", "foreign", *PLACES, *_ENDS)


def balance_of(s: Snapshot) -> Balance:
    """Return the balance of a queue."""
    accepted = {"accepted": s.counters.get("enqueued", 0), "foreign": s.foreign}
    ended = {name: s.counters.get(counter, 0) for name, counter in _ENDS.items()}
    return accepted | {place: getattr(s, place) for place in PLACES} | ended


def total(balances: Iterable[Balance]) -> Balance:
    """Add up queues."""
    all_ = [*balances]
    return {name: sum(one[name] for one in all_) for name in _NAMES}


def equation(one: Balance) -> str:
    """Write it: 1,204 accepted = 3 pending + 1,201 done. What is 0 is left out, but for ``done``."""
    left, foreign = f"{one['accepted']:,} accepted", one["foreign"]
    if foreign:
        left += f" {'+' if foreign > 0 else '−'} {abs(foreign):,} foreign"  # noqa: RUF001
    right = [f"{one[name]:,} {name}" for name in _NAMES[2:] if one[name] or name == "done"]
    return f"{left} = {' + '.join(right)}"
