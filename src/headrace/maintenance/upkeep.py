"""Upkeep: what is done for each queue. Each step is a script that decides by Redis' clock and may run twice.

Three steps: due jobs are promoted, bare items in processing get a lease, expired leases are reclaimed.
"""

from __future__ import annotations

import logging
from typing import Final, TypeAlias

from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import StoreError
from headrace.keys import Keys, keys_of
from headrace.maintenance.promoter import Promoter
from headrace.maintenance.registry import Registry
from headrace.operations import Operation, Promoted, Reclaimed, Swept
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore

log: logging.Logger = logging.getLogger(__name__)

_QUEUES_A_TRIP: Final = 50
_PROMOTED_A_TURN: Final = 4  # in each queue; the promoter does the rest

Steps: TypeAlias = tuple[Operation[Promoted], Operation[Swept], Operation[Reclaimed]]


class Upkeep:
    """The upkeep of queues.

    Args:
        store: the Redis.
        policy: how long claims last.
        registry: knows when queues were at rest.
        promoter: is told when the next delayed job of each queue is due.
    """

    def __init__(
        self, store: AsyncStore, policy: LeasePolicy, registry: Registry, promoter: Promoter
    ) -> None:
        self._store = store
        self._policy = policy
        self._registry = registry
        self._promoter = promoter
        self._offsets: dict[str, int] = {}  # where the walk over the whole of processing is
        self._walked_at = 0.0
        self._skipped: set[str] = set()

    async def visit(self, queues: list[str], gap_s: float) -> bool:
        """Do the three steps for each queue; whether there is more to do at once.

        Args:
            queues: all that have anything to maintain.
            gap_s: a time between two visits that is usual here.
        """
        self._offsets = {queue: self._offsets.get(queue, 0) for queue in queues}
        walk = monotonic() - self._walked_at >= self._policy.lease_s
        if walk and not any(self._offsets.values()):
            self._walked_at = monotonic()
        busy = False
        for start in range(0, len(queues), _QUEUES_A_TRIP):
            busy |= await self._visit(queues[start : start + _QUEUES_A_TRIP], gap_s, walk=walk)
        return busy

    def skip(self, queue: str, error: StoreError) -> None:
        """Leave out a queue that Redis refuses, a key of it being broken, for the others' sake."""
        if queue not in self._skipped:
            log.error("queue %s is not maintained: %s", queue, error)
            self._skipped.add(queue)

    async def _visit(self, queues: list[str], gap_s: float, *, walk: bool) -> bool:
        requests = [one for queue in queues for one in self._requests(queue, gap_s, walk=walk)]
        answers = iter(await self._store.run_all(requests))
        busy = False
        for queue, *three in zip(queues, answers, answers, answers, strict=True):
            refusal = next((answer for answer in three if isinstance(answer, StoreError)), None)
            if refusal is not None:
                self.skip(queue, refusal)
                continue
            self._skipped.discard(queue)
            busy |= self._take(queue, *three)
        return busy

    def _take(self, queue: str, promoted: Promoted, swept: Swept, reclaimed: Reclaimed) -> bool:
        """Note what was done for a queue; whether there is more to do at once."""
        if promoted.due_ms is not None:
            self._promoter.note(queue, promoted.due_ms)
        self._offsets[queue] = swept.next_offset
        if swept.given:
            log.info("queue %s: %d bare items got a lease", queue, swept.given)
        if reclaimed.back or reclaimed.died:
            counts = reclaimed.back, reclaimed.died
            log.warning(
                "queue %s: %d jobs of lost consumers run again, %d are dead", queue, *counts
            )
        return bool(swept.next_offset) or reclaimed.back + reclaimed.died >= op.RECLAIM_LIMIT

    def _requests(self, queue: str, gap_s: float, *, walk: bool) -> Steps:
        offset, rested_ms = self._offsets[queue], self._registry.rested_ms(queue)
        k, policy = keys_of(queue), self._policy
        return steps(k, policy, offset=offset, whole=walk, gap_s=gap_s, rested_ms=rested_ms)


def steps(
    k: Keys, policy: LeasePolicy, *, offset: int, whole: bool, gap_s: float, rested_ms: int = 0
) -> Steps:
    """Describe the three steps for a queue.

    Args:
        k: the queue's keys.
        policy: how long claims last.
        offset: where in processing to look for bare items.
        whole: look for them also if there are as many claims as items.
        gap_s: a time without sweeps that is usual here, if it is longer than the policy's.
        rested_ms: when nothing was leased here, by Redis' clock; 0 if unknown.
    """
    bare_lease_ms, only_unequal = round(policy.bare_lease_s * 1000), not whole and not offset
    sweep = op.sweep(k, bare_lease_ms=bare_lease_ms, offset=offset, only_if_unequal=only_unequal)
    promote = op.promote(k, _PROMOTED_A_TURN)
    return promote, sweep, reclaiming(k, policy, gap_s=gap_s, rested_ms=rested_ms)


def reclaiming(
    k: Keys, policy: LeasePolicy, *, gap_s: float = 0.0, rested_ms: int = 0
) -> Operation[Reclaimed]:
    """Describe a look at expired leases under a policy.

    Args:
        k: the queue's keys.
        policy: how long claims last.
        gap_s: a time without sweeps that is usual here, if it is longer than the policy's.
        rested_ms: when nothing was leased here, by Redis' clock; 0 if unknown.
    """
    return op.reclaim(
        k,
        grace_ms=round(policy.grace_s * 1000),
        gap_ms=round(max(policy.gap_s, gap_s) * 1000),
        max_crashes=policy.max_crashes,
        rested_ms=rested_ms,
    )
