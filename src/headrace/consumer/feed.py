"""The feed: the consumer's round trips. One at a time: settle, adopt and claim travel together.

What if the answer is lost? Settles and adoptions are sent again: repeating them changes nothing. A
claim is not: whatever it gave stands in Redis under our name, and is released before the next claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from headrace import flows
from headrace import operations as op
from headrace.clock import monotonic, now_ms
from headrace.consumer import report
from headrace.consumer.claimed import Claimed, adoption
from headrace.consumer.holdings import Holdings
from headrace.consumer.in_hand import JobsInHand
from headrace.consumer.options import QueueWeight
from headrace.consumer.outbox import Batch
from headrace.consumer.slots import Slots
from headrace.consumer.verdict import Bench
from headrace.errors import StoreError
from headrace.keys import Keys, keys_of
from headrace.operations import Claimed as Claim
from headrace.operations import Operation
from headrace.policy import LeasePolicy
from headrace.scripts import MAX_BYTES, MAX_ITEMS, script
from headrace.store import AsyncStore


class Feed:
    """Carries jobs from Redis into hand and outcomes back.

    Args:
        store: the Redis.
        queues: what to claim from, in order or by weight.
        consumer: the consumer's name.
        lease: how long claims last.
        holdings: its claims.
        jobs: the jobs in hand.
        slots: their slots.
        bench: gets to know how far Redis' clock is ahead.
        seen: told of each claim's answer: the queue, and what it said.
    """

    def __init__(
        self,
        store: AsyncStore,
        queues: tuple[QueueWeight, ...],
        consumer: str,
        *,
        lease: LeasePolicy,
        holdings: Holdings,
        jobs: JobsInHand,
        slots: Slots,
        bench: Bench,
        seen: Callable[[Keys, Claim], None],
    ) -> None:
        self._store = store
        self._weights = [queue.weight for queue in queues]
        self._queues = [keys_of(queue.name) for queue in queues]
        self._consumer = consumer
        self._lease = lease
        self._holdings = holdings
        self._jobs = jobs
        self._slots = slots
        self._bench = bench
        self._seen = seen
        self._doubtful: set[Keys] = set()  # queues of which a claim's answer was lost
        self._empty: set[Keys] = set()  # queues that had nothing when they were asked last
        self._claimed: list[tuple[Keys, int, list[bytes], float]] = []  # and not in hand yet

    @property
    def in_doubt(self) -> bool:
        """Whether Redis may hold jobs under our name that we do not know of."""
        return bool(self._doubtful)

    async def trip(self, wanted: int) -> bool:
        """Make one round trip; claim up to ``wanted`` jobs. Answers whether all queues came short.

        What it has claimed comes into hand during the next trip, or by ``unpack``.

        Raises:
            StoreError: something failed. What was to be told is kept for the next trip.
        """
        wanted = min(wanted, MAX_ITEMS)
        if self._doubtful or not wanted:
            self.unpack()  # what has to go back goes together, the oldest to the front
        await self._disown_the_doubtful()
        batches, adoptions = self._jobs.outbox.take(), list(self._jobs.adoptions)
        self._jobs.adoptions.clear()
        # An adoption must not fail because its script is unknown: when its task has begun, and keeps
        # the loop to itself, it cannot be sent again.
        loads = [op.load(script("adopt"))] if any(map(self._jobs.may_begin, adoptions)) else []
        requests = [*loads, *map(self._settle, batches), *map(self._adopt, adoptions)]
        order = self._order() if wanted else []
        asked = self._shares(order, wanted)
        requests += [self._claim(*share) for share in asked]
        if not requests:
            return True
        sent_at = monotonic()

        def meanwhile() -> None:
            self.unpack()
            self._jobs.begin(adoptions)

        try:
            answers = await self._store.run_all(requests, meanwhile)
        except StoreError as error:
            self.unpack()
            for batch in batches:
                self._put_back(batch, error)
            self._jobs.adoptions.update(dict.fromkeys(adoptions))
            if error.may_have_happened:
                self._doubtful.update(k for k, _, _ in asked)
            raise
        answers = answers[len(loads) :]
        settled, adopted = answers[: len(batches)], answers[len(batches) :][: len(adoptions)]
        self._take_settled(batches, settled)
        self._take_adopted(adoptions, adopted, sent_at + self._lease.lease_s)
        claims = answers[len(batches) + len(adoptions) :]
        short = await self._take_claims(asked, claims, order[len(asked) :], sent_at)
        op.unfailed(answers)
        return short

    def unpack(self) -> None:
        """Take into hand what has been claimed. While Redis works on the next trip, if there is one."""
        claimed, self._claimed = self._claimed, []
        for k, first, jobs, until in claimed:
            for number, job in enumerate(jobs, first):
                self._jobs.arrive(job, k, number, self._safe(until), moved=False)
        self._slots.coming = 0

    async def _disown_the_doubtful(self) -> None:
        while self._doubtful:
            k = next(iter(self._doubtful))
            # By number as well: one whose outcome was lost may have been claimed again by that trip.
            known = {(job_id, c.number) for job_id, c in self._holdings.of(k.queue).items()}
            await self._store.follow(flows.disown(k, self._consumer, known))
            self._doubtful.discard(k)

    def _order(self) -> list[Keys]:
        """Give the queues in the order of this turn: as named, or by weight at random."""
        if not self._weights[0] or len(self._queues) == 1:
            return self._queues
        # Weighted shuffle: sort by u ** (1 / weight). Efraimidis & Spirakis, IPL 97 (2006).
        ranks = [random.random() ** (1 / weight) for weight in self._weights]
        return [k for _, k in sorted(zip(ranks, self._queues, strict=True), key=lambda p: -p[0])]

    # — settle —

    def _settle(self, batch: Batch) -> Operation[Any]:
        outcomes = [
            op.at_number(outcome, self._holdings.signed(claimed))
            for claimed, outcome in batch.pairs
        ]
        for claimed, _ in batch.pairs:
            claimed.settling = True
        return op.settle(batch.k, self._consumer, outcomes)

    def _take_settled(self, batches: list[Batch], answers: list[list[str] | StoreError]) -> None:
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, StoreError):
                self._put_back(batch, answer)
                continue
            lost = set(answer)
            for claimed, outcome in batch.pairs:
                self._holdings.remove(claimed)
                if lost and claimed.head.id in lost:
                    report.lost(claimed, outcome)

    def _put_back(self, batch: Batch, error: StoreError) -> None:
        for claimed, _ in batch.pairs:
            claimed.settling = error.may_have_happened
        self._jobs.outbox.put_back(batch)

    # — adopt —

    def _adopt(self, claimed: Claimed) -> Operation[Any]:
        begun = claimed.begun or self._jobs.may_begin(claimed)
        return adoption(claimed, self._consumer, self._lease, begun=begun)

    def _take_adopted(self, adoptions: list[Claimed], answers: list[Any], until: float) -> None:
        for claimed, answer in zip(adoptions, answers, strict=True):
            if isinstance(answer, StoreError):
                self._jobs.adoptions[claimed] = None
            else:
                self._jobs.adopted(claimed, answer, until if claimed.begun else self._safe(until))

    def _safe(self, until: float) -> float:
        """Return until when a lease lasts that came just now; 0 if it may end before it is extended.

        A task that holds the loop lets an answer wait here, and the lease keeper, which knows of no
        job before that, extends after a third of a lease: the job would run twice.
        """
        return until if until - monotonic() > 1.5 * self._lease.extend_every_s else 0.0

    # — claim —

    def _claim(self, k: Keys, count: int, first: int) -> Operation[Claim]:
        lease_ms = self._lease.lease_ms
        return op.claim(k, count, lease_ms=lease_ms, consumer=self._consumer, first=first)

    def _shares(self, order: list[Keys], wanted: int) -> list[tuple[Keys, int, int]]:
        """Divide what is wanted among the queues that are asked in one trip; with their first numbers.

        The first one that had jobs the last time, and those before it, which had none: to ask each
        of them in a trip of its own would cost a trip for each. They are asked for one job.
        """
        if not wanted:
            return []
        empty = 0
        while empty < min(len(order), wanted) - 1 and order[empty] in self._empty:
            empty += 1
        shares = [*((k, 1) for k in order[:empty]), (order[empty], wanted - empty)]
        return [(k, count, self._holdings.numbers(count)) for k, count in shares]

    async def _take_claims(
        self,
        asked: list[tuple[Keys, int, int]],
        answers: list[Claim | StoreError],
        others: list[Keys],
        sent_at: float,
    ) -> bool:
        """Take what the queues gave, and ask the others for the rest; whether all came short."""
        more, short = 0, True
        for (k, count, first), answer in zip(asked, answers, strict=True):
            left = 0
            if not isinstance(answer, StoreError):
                left = self._take(k, count, first, answer, sent_at)
            more, short = more + left, short and left > 0
        for k in others:
            if not short:
                return False
            first, sent_at = self._holdings.numbers(more), monotonic()
            try:
                claim = await self._store.run(self._claim(k, more, first))
            except StoreError as error:
                if error.may_have_happened:
                    self._doubtful.add(k)
                raise
            more = self._take(k, more, first, claim, sent_at)
            short = more > 0
        return short

    def _take(self, k: Keys, wanted: int, first: int, claim: Claim, sent_at: float) -> int:
        """Take the jobs of one claim; gives how many are still wanted, 0 when it was cut for size."""
        if claim.jobs:
            self._empty.discard(k)
        else:
            self._empty.add(k)
        self._bench.clock_ahead_ms = claim.now_ms - now_ms()
        self._seen(k, claim)
        self._claimed.append((k, first, claim.jobs, sent_at + self._lease.lease_s))
        self._slots.coming += len(claim.jobs)
        if any(b',"crashes":' in job for job in claim.jobs):
            self.unpack()  # beside a suspect nothing is claimed
        size = sum(map(len, claim.jobs))
        return 0 if size >= MAX_BYTES else wanted - len(claim.jobs)
