"""Repairs what the doctor found and understands. No job is deleted, and none is rewritten.

Each step is one that the leader takes as well, the script ``repair``, or a command that does nothing
the second time; so it can run beside live consumers, and be run again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from headrace import operations as op
from headrace.clock import monotonic
from headrace.doctor import fit
from headrace.doctor.checkup import Checkup
from headrace.doctor.humanize import counted, verb
from headrace.doctor.queue import CheckedQueue
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.maintenance import steps
from headrace.policy import LeasePolicy
from headrace.store import Store

_NUDGE_TTL_MS: Final = 60_000  # as the scripts give it
_KEPT_MS: Final = 86_400_000  # a day: longer than anybody waits for a result
_LOOK_EVERY_S: Final = 0.2
_SPARE_S: Final = 5.0  # beyond the grace

_Repair: TypeAlias = Callable[[Store, CheckedQueue, LeasePolicy], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Repaired:
    """One thing that was done: to which queue, and what, in words."""

    queue: str
    done: str


def make_repairs(store: Store, found: Checkup, policy: LeasePolicy) -> Iterator[Repaired]:
    """Repair what can be repaired, and say so as it is done.

    Args:
        store: the Redis.
        found: what was found there.
        policy: how long claims last.

    Raises:
        StoreError: Redis did not do what was asked; what was said is done.
    """
    for queue in found.queues:
        codes = {one.code for one in found.findings if one.queue == queue.name and one.mends}
        for repaired, repair in _REPAIRS:
            if codes & repaired:
                yield from (Repaired(queue.name, done) for done in repair(store, queue, policy))


def _register(store: Store, queue: CheckedQueue, _policy: LeasePolicy) -> Iterator[str]:
    store.run(op.register(queue.name))
    yield "registered it: consumers and servers sweep it from now on"


def _give_expiry(store: Store, queue: CheckedQueue, _policy: LeasePolicy) -> Iterator[str]:
    k, names = keys_of(queue.name), queue.facts.endless if queue.facts else ()
    short = {k.nudge: _NUDGE_TTL_MS, k.cancelled: op.CANCEL_REQUEST_TTL_MS}
    asked = [
        op.command("PEXPIRE", name, short.get(name, _KEPT_MS), "NX", parse=int) for name in names
    ]
    if given := sum(op.unfailed(store.run_all(asked))):
        yield f"gave {counted(given, 'key')} an expiry, of a day at most"


def _make_fit(store: Store, queue: CheckedQueue, policy: LeasePolicy) -> Iterator[str]:
    found = store.follow(fit.compare(keys_of(queue.name), policy.lease_ms, mend=True))
    if kept := max(0, found.unleased - found.gone):
        yield f"gave a lease to {counted(kept, 'claim')} without one"
    if found.unclaimed:
        yield f"dropped {counted(found.unclaimed, 'lease')} without a claim"
    if found.gone:
        yield f"dropped {counted(found.gone, 'claim')} whose job is gone"


def _catch_up(store: Store, queue: CheckedQueue, policy: LeasePolicy) -> Iterator[str]:
    """Do what the leader left undone; after a pause of the sweep it waits, as the leader would."""
    expired = queue.facts.expired if queue.facts else 0
    deadline = monotonic() + policy.grace_s + _SPARE_S
    pause, waits = threading.Event(), False
    while monotonic() < deadline:
        done: Counter[str] = store.follow(_turn(keys_of(queue.name), policy, whole=not waits))
        yield from (say(done[what]) for what, say in _DONE.items() if done[what])
        if not (done["quiet_ms"] and expired):
            break
        if not waits:
            waits = True
            yield (
                f"waits {policy.grace_s:g} s before it takes {counted(expired, 'lease')} that ran out: "
                "a consumer that lives extends it"
            )
        pause.wait(min(_LOOK_EVERY_S, done["quiet_ms"] / 1000))


def _turn(k: Keys, policy: LeasePolicy, *, whole: bool) -> Flow[Counter[str]]:
    """Take the leader's steps for a queue, until there is nothing more to do at once.

    With ``whole``, bare items are looked for also if there are as many claims as items.
    """
    done, offset = Counter[str](), 0
    while True:
        usual = steps(k, policy, offset=offset, whole=whole, gap_s=3 * _LOOK_EVERY_S)
        # The leader's own promotion is small, for its promoter does the rest.
        promoted, swept, reclaimed = op.unfailed((yield [op.promote(k), *usual[1:]]))
        done.update(
            leased=swept.given, promoted=promoted.moved, back=reclaimed.back, died=reclaimed.died
        )
        done["quiet_ms"], offset = reclaimed.quiet_ms, swept.next_offset
        if not (promoted.due_ms == 0 or offset or reclaimed.back or reclaimed.died):
            return done


_DONE: Final[dict[str, Callable[[int], str]]] = {
    "leased": lambda n: f"gave a lease to {counted(n, 'job')} in processing without one",
    "promoted": lambda n: (
        f"{counted(n, 'delayed job')} that {verb(n, 'is due waits its', 'are due wait their')} turn now"
    ),
    "back": lambda n: f"{counted(n, 'job')} of lost consumers {verb(n)} runnable again",
    "died": lambda n: f"{counted(n, 'job')} crashed too often, now in the dead letters",
}

_REPAIRS: Final[Sequence[tuple[set[str], _Repair]]] = (
    ({"unregistered"}, _register),
    ({"endless"}, _give_expiry),
    ({"claim_without_lease", "lease_without_claim", "claim_without_item"}, _make_fit),
    ({"bare", "delayed_overdue", "lease_expired", "unregistered"}, _catch_up),
)
"""What repairs the findings of these codes, in the order in which it is done."""
