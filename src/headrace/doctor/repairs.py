"""Repairs what the doctor found and understands. No job is deleted, and none is rewritten.

Each step is one that the leader takes as well, the script ``repair``, or a command that does nothing
the second time; so it can run beside live consumers, and be run again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.doctor import fit
from headrace.doctor.checkup import Checkup
from headrace.doctor.words import counted, verb
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.maintenance import steps
from headrace.policy import LeasePolicy
from headrace.store import Store

_NUDGE_TTL_MS: Final = 60_000  # as the scripts give it
_KEPT_MS: Final = 86_400_000  # a day: longer than anybody waits for a result
_LOOK_EVERY_S: Final = 0.2
_SPARE_S: Final = 5.0  # beyond the grace

_MISFITS: Final = frozenset({"claim_without_lease", "lease_without_claim", "claim_without_item"})
_LEFT_UNDONE: Final = frozenset({"bare", "delayed_overdue", "lease_expired", "unregistered"})


@dataclass(frozen=True, slots=True)
class Repaired:
    """One thing that was done: to which queue, and what, in words."""

    queue: str
    done: str


def make_repairs(store: Store, found: Checkup, policy: LeasePolicy) -> Iterator[Repaired]:
    """Repaired what can be repaired, and say so as it is done.

    Args:
        store: the Redis.
        found: what was found there.
        policy: how long claims last.

    Raises:
        StoreError: Redis did not do what was asked; what was said is done.
    """
    for look in found.queues:
        k = keys_of(look.queue)
        codes = {one.code for one in found.findings if one.queue == look.queue and one.mends}
        done: list[Iterator[str]] = []
        if "unregistered" in codes:
            done.append(_register(store, k))
        if look.facts is not None and "endless" in codes:
            done.append(_give_expiry(store, k, look.facts.endless))
        if codes & _MISFITS:
            done.append(_make_fit(store, k, policy))
        if codes & _LEFT_UNDONE:
            expired = 0 if look.facts is None else look.facts.expired
            done.append(_catch_up(store, k, policy, expired))
        for one in done:
            yield from (Repaired(look.queue, what) for what in one)


def _register(store: Store, k: Keys) -> Iterator[str]:
    store.run(op.register(k.queue))
    yield "registered it: consumers and servers sweep it from now on"


def _give_expiry(store: Store, k: Keys, names: tuple[str, ...]) -> Iterator[str]:
    short = {k.nudge: _NUDGE_TTL_MS, k.cancelled: op.CANCEL_REQUEST_TTL_MS}
    asked = [
        op.command("PEXPIRE", name, short.get(name, _KEPT_MS), "NX", parse=int) for name in names
    ]
    if given := sum(op.unfailed(store.run_all(asked))):
        yield f"gave {counted(given, 'key')} an expiry, of a day at most"


def _make_fit(store: Store, k: Keys, policy: LeasePolicy) -> Iterator[str]:
    found = store.follow(fit.compare(k, policy.lease_ms, mend=True))
    if kept := max(0, found.unleased - found.gone):
        yield f"gave a lease to {counted(kept, 'claim')} without one"
    if found.unclaimed:
        yield f"dropped {counted(found.unclaimed, 'lease')} without a claim"
    if found.gone:
        yield f"dropped {counted(found.gone, 'claim')} whose job is gone"


def _catch_up(store: Store, k: Keys, policy: LeasePolicy, expired: int) -> Iterator[str]:
    """Do what the leader left undone; after a pause of the sweep it waits, as the leader would."""
    deadline = monotonic() + policy.grace_s + _SPARE_S
    pause, waits = threading.Event(), False
    while monotonic() < deadline:
        done = store.follow(_turn(k, policy))
        yield from done.said()
        if not (done.quiet_ms and expired):
            break
        if not waits:
            waits = True
            yield (
                f"waits {policy.grace_s:g} s before it takes {counted(expired, 'lease')} that ran out: "
                "a consumer that lives extends it"
            )
        pause.wait(min(_LOOK_EVERY_S, done.quiet_ms / 1000))


@dataclass(slots=True)
class _Turn:
    """What was done for a queue, and how much longer nothing is reclaimed."""

    leased: int = 0
    promoted: int = 0
    back: int = 0
    died: int = 0
    quiet_ms: int = 0

    def said(self) -> Iterator[str]:
        """Say what was done."""
        if self.leased:
            yield f"gave a lease to {counted(self.leased, 'job')} in processing without one"
        if n := self.promoted:
            due = f"{counted(n, 'delayed job')} that {verb(n)} due"
            yield f"{due} {verb(n, 'waits its turn', 'wait their turn')} now"
        if n := self.back:
            yield f"{counted(n, 'job')} of lost consumers {verb(n)} runnable again"
        if self.died:
            yield f"{counted(self.died, 'job')} crashed too often, now in the dead letters"


def _turn(k: Keys, policy: LeasePolicy) -> Flow[_Turn]:
    """Take the leader's steps for a queue, until there is nothing more to do at once."""
    done, offset = _Turn(), 0
    while True:
        requests = steps(k, policy, offset=offset, whole=True, gap_s=3 * _LOOK_EVERY_S)
        promoted, swept, reclaimed = op.unfailed((yield [*requests]))
        done.promoted += promoted.moved
        done.leased += swept.given
        done.back += reclaimed.back
        done.died += reclaimed.died
        done.quiet_ms, offset = reclaimed.quiet_ms, swept.next_offset
        if not (promoted.due_ms == 0 or offset or reclaimed.back or reclaimed.died):
            return done
