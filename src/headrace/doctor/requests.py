"""What the doctor alone asks of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.keys import Keys
from headrace.operations.request import Argument, Operation, run, text


@dataclass(frozen=True, slots=True)
class Fit:
    """How a stretch of a queue's claims and leases fits to what is in processing.

    Attributes:
        cursor: where the next stretch of claims begins; "" they are through.
        offset: where the next stretch of leases begins; 0 they are through.
        unleased: claims without a lease.
        gone: claims whose item is not in processing.
        unclaimed: leases without a claim.
        unreadable: claims that make no sense.
        items: how much is in processing.
        claims: how many claims there are in all.
    """

    cursor: str
    offset: int
    unleased: int
    gone: int
    unclaimed: int
    unreadable: int
    items: int
    claims: int


def repair(
    k: Keys, *, mend: bool, cursor: str = "0", offset: int = 0, limit: int, lease_ms: int
) -> Operation[Fit]:
    """Look at claims and leases; ``mend`` also makes them fit to what is in processing."""
    args = ("mend" if mend else "look", cursor, offset, limit, lease_ms)
    used = (k.processing, k.leases, k.claims)
    return run("repair", used, args, lambda raw: Fit(text(raw[0]), *raw[1:]))


def permitted(commands: Sequence[Sequence[str]], used: Sequence[str]) -> Operation[list[int]]:
    """Return which commands this user may not give, by their places; ``used``: the keys in them."""
    args: list[Argument] = []
    for words in commands:
        args += (len(words), *words)
    return run("permitted", used, args, list)
