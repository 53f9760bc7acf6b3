"""How a queue's claims and leases fit to what is in processing: compared, or made to fit."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from headrace.flows import Flow
from headrace.keys import Keys
from headrace.operations import Operation, run, text
from headrace.scripts import MAX_ITEMS

_MANY: Final = 1_000
"""Items in processing beyond which a stretch is short: each claim costs a walk over them."""

_BEHIND_ALL: Final = 1 << 31


class Fit(NamedTuple):
    """What was found.

    Attributes:
        unleased: claims without a lease.
        gone: claims whose item is not in processing.
        unclaimed: leases without a claim.
        unreadable: claims that make no sense.
        items: how much is in processing.
        claims: how many claims there are in all.
        steps: in how many steps that was read; 1: at one instant.
    """

    unleased: int = 0
    gone: int = 0
    unclaimed: int = 0
    unreadable: int = 0
    items: int = 0
    claims: int = 0
    steps: int = 1

    @property
    def bare(self) -> int:
        """Items of processing without a lease, as claims and items add up."""
        return max(0, self.items - (self.claims - self.gone - self.unreadable))

    @property
    def wrong(self) -> int:
        """Claims and leases that do not fit."""
        return self.unleased + self.gone + self.unclaimed + self.unreadable


def compare(k: Keys, lease_ms: int, *, mend: bool = False) -> Flow[Fit]:
    """Compare all claims, leases and items, stretch by stretch.

    With ``mend`` they are made to fit: a claim without a lease gets one of ``lease_ms``.
    """
    found, cursor, offset, limit = Fit(steps=0), "0", 0, MAX_ITEMS
    while True:
        cursor, offset, *counts = yield stretch(
            k, mend=mend, cursor=cursor, offset=offset, limit=limit, lease_ms=lease_ms
        )
        sums = [one + more for one, more in zip(found, counts[:4], strict=False)]
        found = Fit._make([*sums, *counts[4:], found.steps + 1])
        if not cursor and not offset:
            return found
        offset = offset or _BEHIND_ALL  # leases that are through stay so
        limit = MAX_ITEMS // 10 if found.items > _MANY else MAX_ITEMS


def stretch(
    k: Keys, *, mend: bool, cursor: str = "0", offset: int = 0, limit: int, lease_ms: int
) -> Operation[list[Any]]:
    """Look at some claims and leases; return where the next ones begin, and what was found."""
    args = ("mend" if mend else "look", cursor, offset, limit, lease_ms)
    used = (k.processing, k.leases, k.claims)
    return run("repair", used, args, lambda raw: [text(raw[0]), *raw[1:]])
