"""Mends what the doctor found and understands. No job is deleted, and none is rewritten.

Each step is a transition that the leader does as well, the script ``repair``, or a command that does
nothing the second time; so it can run beside live consumers, and be run again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.doctor import queue as queues
from headrace.doctor.finding import Finding
from headrace.doctor.words import be, counted
from headrace.keys import Keys, keys_of
from headrace.maintenance import reclaiming
from headrace.operations import Reclaimed, Swept
from headrace.policy import LeasePolicy
from headrace.store import Store

_NUDGE_TTL_MS: Final = 60_000  # as the scripts give it
_KEPT_MS: Final = 86_400_000  # a day: longer than anybody waits for a result
_LOOK_EVERY_S: Final = 0.2
_SPARE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Mended:
    """One thing that was done: to which queue, and what, in words."""

    queue: str
    done: str


def mend(
    store: Store,
    findings: Sequence[Finding],
    endless: dict[str, tuple[str, ...]],
    policy: LeasePolicy,
) -> Iterator[Mended]:
    """Mend what can be mended, and say so as it is done.

    Args:
        store: the Redis.
        findings: what was found there.
        endless: keys without an expiry, by queue.
        policy: how long claims last.

    Raises:
        StoreError: Redis did not do what was asked; what was said is done.
    """
    found: dict[str, set[str]] = {}
    for finding in findings:
        if finding.mends:
            found.setdefault(finding.queue, set()).add(finding.code)
    for queue, codes in found.items():
        k = keys_of(queue)
        if "unregistered" in codes:
            store.run(op.register(queue))
            yield Mended(queue, "registered it: consumers and servers sweep it from now on")
        if "endless" in codes:
            yield from _give_expiry(store, k, endless.get(queue, ()))
        if codes & {"claim_without_lease", "lease_without_claim", "claim_without_item"}:
            yield from _make_fit(store, k, policy)
        if codes & {"bare", "unregistered"}:
            yield from _sweep(store, k, policy)
        if codes & {"delayed_overdue", "unregistered"}:
            yield from _promote(store, k)
        if codes & {"lease_expired", "unregistered"}:
            yield from _reclaim(store, k, policy)


def _give_expiry(store: Store, k: Keys, names: Sequence[str]) -> Iterator[Mended]:
    short = {k.nudge: _NUDGE_TTL_MS, k.cancelled: op.CANCEL_REQUEST_TTL_MS}
    given = 0
    for name in names:
        ttl_ms = short.get(name, _KEPT_MS)
        given += store.run(op.command("PEXPIRE", name, ttl_ms, "NX", parse=int))
    if given:
        yield Mended(k.queue, f"gave {counted(given, 'key')} an expiry, of a day at most")


def _make_fit(store: Store, k: Keys, policy: LeasePolicy) -> Iterator[Mended]:
    fit, _ = store.follow(queues.fits(k, policy, mend=True))
    kept = max(0, fit.unleased - fit.gone)
    if kept:
        yield Mended(k.queue, f"gave a lease to {counted(kept, 'claim')} without one")
    if fit.unclaimed:
        yield Mended(k.queue, f"dropped {counted(fit.unclaimed, 'lease')} without a claim")
    if fit.gone:
        yield Mended(k.queue, f"dropped {counted(fit.gone, 'claim')} whose job is gone")


def _sweep(store: Store, k: Keys, policy: LeasePolicy) -> Iterator[Mended]:
    given = offset = 0
    while True:
        bare_lease_ms = round(policy.bare_lease_s * 1000)
        step = op.sweep(k, bare_lease_ms=bare_lease_ms, offset=offset, only_if_unequal=False)
        swept: Swept = store.run(step)
        given, offset = given + swept.given, swept.next_offset
        if not offset:
            break
    if given:
        yield Mended(k.queue, f"gave a lease to {counted(given, 'job')} in processing without one")


def _promote(store: Store, k: Keys) -> Iterator[Mended]:
    moved = 0
    while (some := store.run(op.promote(k))).moved:
        moved += some.moved
        if some.due_ms:
            break
    if moved:
        verb = "waits its turn" if moved == 1 else "wait their turn"
        yield Mended(k.queue, f"{counted(moved, 'delayed job')} that {be(moved)} due {verb} now")


def _reclaim(store: Store, k: Keys, policy: LeasePolicy) -> Iterator[Mended]:
    """Reclaim what has run out; after a pause of the sweep it waits, as the leader would."""
    deadline = monotonic() + policy.grace_s + _SPARE_S
    request = reclaiming(k, policy, gap_s=3 * _LOOK_EVERY_S)
    pause, back, died, waits = threading.Event(), 0, 0, False
    while monotonic() < deadline:
        answer: Reclaimed = store.run(request)
        back, died = back + answer.back, died + answer.died
        if answer.quiet_ms:
            if not waits and (left := _expired(store, k)):
                waits = True
                yield Mended(
                    k.queue,
                    f"waits {policy.grace_s:g} s before it takes {counted(left, 'lease')} that ran out: "
                    "a consumer that lives extends it",
                )
            elif not waits:
                break
            pause.wait(min(_LOOK_EVERY_S, answer.quiet_ms / 1000))
        elif not answer.back + answer.died:
            break
    if back:
        verb = "is" if back == 1 else "are"
        yield Mended(k.queue, f"{counted(back, 'job')} of lost consumers {verb} runnable again")
    if died:
        yield Mended(k.queue, f"{counted(died, 'job')} crashed too often, now in the dead letters")


def _expired(store: Store, k: Keys) -> int:
    now_ms = store.run(op.snapshot(k)).now_ms
    return store.run(op.command("ZCOUNT", k.leases, "-inf", now_ms, parse=int))
