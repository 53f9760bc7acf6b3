"""Maintenance: promotes due jobs, sweeps for bare items, reclaims what lost consumers held.

Every consumer and every server runs this; one of them leads at a time and does the work, so a queue
recovers with any of them alive. Each step is a script that decides by Redis' clock and may run twice.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final

from headrace import flows
from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import StoreError, StoreRefused
from headrace.keys import Keys, keys_of
from headrace.operations import Operation, Promoted, Reclaimed, Swept
from headrace.policy import FORGET_AFTER_S, LEADER_LEASE_S, LeasePolicy, ReconnectBackoff
from headrace.presence import Presence
from headrace.resting import Resting
from headrace.store import AsyncStore

log = logging.getLogger(__name__)

_QUEUES_A_TRIP: Final = 50
_LOOKS_A_TRIP: Final = 500  # one command each
# The registry is read when its size has changed, and so often for what that does not show.
_READ_EVERY_S: Final = 10.0
# Each queue at rest is asked so often whether it can be forgotten, and so many at a turn.
_FORGET_EVERY_S: Final = 60.0
_FORGET_AT_ONCE: Final = 50
_LEAST_PAUSE_S: Final = 0.001

# A list of who is connected costs Redis 2 us for each connection, and is to take 1/300 of its time:
# with 1,000 connections it is asked for every second, with 8,000 and more every 5 s. What counts is
# that number, not how long the answer takes: a busy machine must not make the looks rare.
_PAUSE_PER_CONNECTION_S: Final = 300 * 2e-6
# Also while all queues are at rest: to know who is there before it works.
_LOOK_EVERY_S: Final = 5.0


class Maintenance:
    """Keeps all queues that are registered in one Redis, while it leads.

    Args:
        store: the Redis.
        name: who this is, unique among consumers and servers.
        policy: how long claims last.
    """

    def __init__(self, store: AsyncStore, name: str, policy: LeasePolicy) -> None:
        self._store = store
        self._name = name
        self._policy = policy
        self._cycle_s = policy.sweep_every_s
        self._offsets: dict[str, int] = {}  # where the walk over the whole of processing is
        self._walked_at = 0.0
        self._hurry = asyncio.Event()
        self._due_at: float | None = None
        self._resting = Resting()
        self._size = -1  # of the registry, when it was read
        self._read_at = 0.0
        self._unused: list[str] = []  # queues to be asked whether they can be forgotten
        self._forget_at = 0.0
        self._presence = Presence(policy.gone_after_s)
        self._look_at = 0.0  # not before; infinite where CLIENT LIST is not allowed
        self._idle_look_at = 0.0  # even if all queues are at rest
        self._leader = ""  # who led at the last look
        self._asks = False  # for the lead, and does not know yet whether it has it
        self._ask_at = 0.0  # when the lead of another runs out
        self._skipped: set[str] = set()

    @property
    def leads(self) -> bool:
        """Whether this one led at its last look."""
        return self._leader == self._name

    async def run(self) -> None:
        """Maintain until cancelled; gives the lead up then."""
        reconnect = ReconnectBackoff("maintenance")
        try:
            while True:
                started = monotonic()
                try:
                    busy = await self._turn()
                    reconnect.over()
                except StoreError as error:
                    # Whoever was connected has to come back first, and some look only when they
                    # extend what they hold.
                    self._presence.blind(monotonic() + self._policy.extend_every_s)
                    self._leader = ""  # nobody knows; nor is it his fault if his lead runs out
                    self._asks = False
                    await reconnect.wait(error)
                    continue
                self._cycle_s = max(self._policy.sweep_every_s, monotonic() - started)
                await self._pause(started, busy=busy)
        finally:
            await self._resign()

    def sleeps_beyond(self, ms: int) -> bool:
        """Whether it leads and would, as things are, sleep on when that time has passed."""
        due_at = self._due_at
        return self.leads and (due_at is None or monotonic() + ms / 1000 < due_at)

    def due_in(self, ms: int) -> None:
        """Note that a delayed job is due in so many ms, so as not to sleep beyond that."""
        due_at = monotonic() + ms / 1000
        if self._due_at is None or due_at < self._due_at:
            self._due_at = due_at
            self._hurry.set()

    async def _pause(self, started: float, *, busy: bool) -> None:
        """Sleep until the next turn: a second after the last began, or sooner, when a job falls due.

        Who does not lead sleeps until the lead may have run out.
        """
        while not busy:
            until = started + self._policy.sweep_every_s
            if not self.leads:
                until = max(until, self._ask_at)
            elif self._due_at is not None:
                until = min(until, self._due_at)
            if self.leads and self._presence.due_at is not None:
                until = min(until, max(self._presence.due_at, self._look_at))
            left_s = until - monotonic()
            if left_s <= 0:
                break
            self._hurry.clear()
            try:
                # Not wait_for, which can swallow a cancellation on Python 3.11.
                async with asyncio.timeout(max(_LEAST_PAUSE_S, left_s)):
                    await self._hurry.wait()
            except TimeoutError:
                break
        self._due_at = None

    async def _turn(self) -> bool:
        """Do one round if this one leads; answers whether there is more to do at once."""
        before, self._leader = self._leader, await self._find_leader()
        if not self.leads:
            return False
        if before != self._name:
            await self._take_over(before)
        time_ms, size = op.unfailed(await self._store.run_all([op.time_ms(), op.queue_count()]))
        if size != self._size or monotonic() - self._read_at >= _READ_EVERY_S:
            names = await self._store.run(op.queues())
            self._resting.keep(names)
            self._size, self._read_at = int(size), monotonic()
        queues = await self._astir(int(time_ms))
        if self._must_look(anything=bool(queues)):
            await self._look_for_the_gone(queues)
        walk = monotonic() - self._walked_at >= self._policy.lease_s
        if walk and not any(self._offsets.values()):
            self._walked_at = monotonic()
            self._offsets = dict.fromkeys(queues, 0)
        busy = False
        for start in range(0, len(queues), _QUEUES_A_TRIP):
            busy |= await self._visit(queues[start : start + _QUEUES_A_TRIP], walk=walk)
        await self._forget()
        return busy

    async def _astir(self, time_ms: int) -> list[str]:
        """Tell which queues have anything to maintain; one command asks about hundreds at rest.

        Args:
            time_ms: Redis' clock before that.
        """
        groups = self._resting.turn()
        counts = op.unfailed(await self._store.run_all([group.look() for group in groups]))
        doubtful = sorted(self._resting.astir)
        for group, count in zip(groups, counts, strict=True):
            doubtful += sorted(group.names) if count else ()
        for start in range(0, len(doubtful), _LOOKS_A_TRIP):
            some = doubtful[start : start + _LOOKS_A_TRIP]
            looks = [op.is_at_rest(keys_of(queue)) for queue in some]
            rests = op.unfailed(await self._store.run_all(looks))
            for queue, rest in zip(some, rests, strict=True):
                if rest:
                    self._resting.rest(queue, time_ms)
                    self._offsets.pop(queue, None)
                else:
                    self._resting.wake(queue)
        for group in groups:
            group.rested_ms = time_ms
        return sorted(self._resting.astir)

    async def _forget(self) -> None:
        """Ask some of the queues at rest whether they can be forgotten."""
        if not self._unused and monotonic() >= self._forget_at:
            self._unused, self._forget_at = self._resting.names, monotonic() + _FORGET_EVERY_S
        some, self._unused = self._unused[:_FORGET_AT_ONCE], self._unused[_FORGET_AT_ONCE:]
        requests = [op.forget(keys_of(queue), round(FORGET_AFTER_S * 1000)) for queue in some]
        for queue, answer in zip(some, await self._store.run_all(requests), strict=True):
            if answer == "forgotten":
                log.info("queue %s is forgotten: it has been empty and unused for long", queue)

    def _must_look(self, *, anything: bool) -> bool:
        """Tell whether it is time to look who is connected: if nobody holds anything, less often."""
        now, due_at = monotonic(), self._presence.due_at
        due = due_at is not None and now >= due_at
        return now >= self._look_at and (anything or due or now >= self._idle_look_at)

    async def _find_leader(self) -> str:
        """Keep the lead, or learn who has it, and for how long; take it when nobody has."""
        lease_ms = round(LEADER_LEASE_S * 1000)
        if self.leads:
            if await self._store.run(op.keep_lead(lease_ms)) == self._name:
                return self._name
        elif self._leader:
            asked = await self._store.run_all([op.leader(), op.lead_left_ms()])
            leader, left_ms = op.unfailed(asked)
            if leader and 0 < left_ms <= lease_ms:
                self._ask_at = monotonic() + left_ms / 1000
                return str(leader)
        self._asks = True
        leads = await self._store.run(op.lead(self._name, lease_ms))
        self._asks = False
        return leads

    async def _take_over(self, before: str) -> None:
        log.debug("%s leads the maintenance now", self._name)
        known, time_ms = op.unfailed(await self._store.run_all([op.consumers(), op.time_ms()]))
        missing: dict[str, float] = {}
        if before:
            # Whoever led a moment ago looked until then: its notes are fresh. And it has been silent
            # for as long as a lead lasts, or it would lead still.
            now = monotonic()
            missing = {name: now - (time_ms - at) / 1000 for name, at in known.items() if at}
            missing[before] = now - LEADER_LEASE_S
        self._presence.learn(known, missing)
        self._look_at = self._idle_look_at = 0.0
        self._forget_at = monotonic() + _FORGET_EVERY_S

    async def _look_for_the_gone(self, queues: list[str]) -> None:
        """End the leases of consumers without any connection: they need not run out."""
        try:
            connected, connections = await self._store.run(op.connected())
        except StoreRefused as error:
            log.info("lost consumers are found only when their leases run out: %s", error)
            self._look_at = math.inf
            return
        now = monotonic()
        self._look_at = now + min(_LOOK_EVERY_S, _PAUSE_PER_CONNECTION_S * connections)
        self._idle_look_at = now + _LOOK_EVERY_S
        changes = self._presence.look(connected, now)
        if changes.came or changes.left:
            await self._store.run(op.note_consumers(changes.came, changes.left))
        for name in changes.gone:
            for queue in queues:
                try:
                    count = await self._store.follow(flows.expire_leases(keys_of(queue), name))
                except StoreRefused as error:
                    self._skip(queue, error)
                    continue
                if count:
                    log.warning(
                        "consumer %s is gone: its %d jobs in %s are free", name, count, queue
                    )
            await self._store.run(op.forget_consumer(name))
            self._presence.forget(name)

    async def _visit(self, queues: list[str], *, walk: bool) -> bool:
        requests = [one for queue in queues for one in self._requests(queue, walk=walk)]
        answers = await self._store.run_all(requests)
        busy = False
        for i, queue in enumerate(queues):
            promoted, swept, reclaimed = answers[3 * i : 3 * i + 3]
            refusals = [a for a in (promoted, swept, reclaimed) if isinstance(a, StoreError)]
            if refusals:
                self._skip(queue, refusals[0])
                continue
            self._skipped.discard(queue)
            if promoted.due_ms is not None:
                self.due_in(promoted.due_ms)
            self._offsets[queue] = swept.next_offset
            if swept.given:
                log.info("queue %s: %d bare items got a lease", queue, swept.given)
            if reclaimed.back or reclaimed.died:
                log.warning(
                    "queue %s: %d jobs of lost consumers run again, %d are dead",
                    queue,
                    reclaimed.back,
                    reclaimed.died,
                )
            busy |= bool(swept.next_offset) or reclaimed.back + reclaimed.died >= op.RECLAIM_LIMIT
        return busy

    def _skip(self, queue: str, error: StoreError) -> None:
        """Leave out a queue that Redis refuses, a key of it being broken, for the others' sake."""
        if queue not in self._skipped:
            log.error("queue %s is not maintained: %s", queue, error)
            self._skipped.add(queue)

    def _requests(
        self, queue: str, *, walk: bool
    ) -> list[Operation[Promoted] | Operation[Swept] | Operation[Reclaimed]]:
        k, policy, offset = keys_of(queue), self._policy, self._offsets.get(queue, 0)
        return [
            op.promote(k),
            op.sweep(
                k,
                bare_lease_ms=round(policy.bare_lease_s * 1000),
                offset=offset,
                only_if_unequal=not walk and not offset,
            ),
            reclaiming(
                k, policy, gap_s=3 * self._cycle_s, rested_ms=self._resting.rested_ms.get(queue, 0)
            ),
        ]

    async def _resign(self) -> None:
        if self.leads or self._asks:
            try:
                await self._store.run(op.lead(self._name, 0))
            except StoreError as error:
                log.debug("the lead runs out by itself: %s", error)


def reclaiming(
    k: Keys, policy: LeasePolicy, *, gap_s: float = 0.0, rested_ms: int = 0
) -> Operation[Reclaimed]:
    """Describe a look at expired leases under a policy.

    Args:
        k: the queue's keys.
        policy: how long claims last.
        gap_s: a time without sweeps that is usual here, if it is longer than the policy's.
        rested_ms: when nothing was leased here, by Redis' clock; 0 unknown.
    """
    return op.reclaim(
        k,
        grace_ms=round(policy.grace_s * 1000),
        gap_ms=round(max(policy.gap_s, gap_s) * 1000),
        max_crashes=policy.max_crashes,
        rested_ms=rested_ms,
    )
