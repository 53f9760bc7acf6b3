"""The batcher: the consumer's round trips. One at a time: settles, adoptions and claims go together.

What if the answer is lost? Settles and adoptions are sent again: repeating them changes nothing. A
claim is not: whatever it gave stands in Redis under our name, and is released before the next claim.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from headrace import flows
from headrace import operations as op
from headrace.clock import monotonic, now_ms
from headrace.consumer import report
from headrace.consumer.claimed import ClaimedJob, adoption
from headrace.consumer.claims import Batch
from headrace.consumer.dispatcher import Dispatcher
from headrace.consumer.options import QueueWeight
from headrace.errors import StoreError
from headrace.keys import Keys, keys_of
from headrace.operations import AdoptAnswer, ClaimReply, Operation
from headrace.policy import LeasePolicy
from headrace.scripts import MAX_BYTES, MAX_ITEMS, script
from headrace.store import AsyncStore


class Request(NamedTuple):
    """A part of a round trip, and what takes its answer and when (monotonic) the trip was sent."""

    operation: Operation[Any]
    take: Callable[[Any, float], None]


class Trip(NamedTuple):
    """What a round trip has shown.

    Attributes:
        short: all queues had less than was wanted.
        claims: what each queue said that was asked.
        errors: what some queues met, while jobs came from others: on a cluster, their node is away.
    """

    short: bool
    claims: Sequence[tuple[Keys, ClaimReply]]
    errors: Sequence[StoreError]


class Batcher:
    """Carries jobs from Redis into hand and outcomes back.

    Args:
        store: the Redis.
        queues: what to claim from, in order or by weight.
        lease: how long claims last.
        jobs: what takes the jobs on, with the claims and slots; gets to know how far Redis' clock is ahead.
    """

    def __init__(
        self,
        store: AsyncStore,
        queues: Sequence[QueueWeight],
        lease: LeasePolicy,
        jobs: Dispatcher,
    ) -> None:
        self._store = store
        self._together = store.server.joins_queues  # queues: who fails in one fails in all
        self.consume(queues)
        self._lease = lease
        self._jobs = jobs
        self._claims = jobs.claims
        self._slots = jobs.slots
        self._policy = jobs.policy
        self._doubtful: set[Keys] = set()  # queues of which a claim's answer was lost
        self._empty: set[Keys] = set()  # queues that had nothing when they were asked last
        self._claimed: list[tuple[Keys, int, list[bytes], float]] = []  # and not in hand yet
        self._said: list[tuple[Keys, ClaimReply]] = []  # what the queues said in this trip
        self._lacking = 0  # how many jobs the claims of this trip came short by …
        self._short = True  # … and whether each of them did
        self._errors: list[StoreError] = []  # what requests of this trip met

    def consume(self, queues: Sequence[QueueWeight]) -> None:
        """Claim from these queues from now on, in order or by weight."""
        self._weights = [queue.weight for queue in queues]
        self._queues = [keys_of(queue.name) for queue in queues]

    @property
    def in_doubt(self) -> bool:
        """Whether Redis may hold jobs under our name that we do not know of."""
        return bool(self._doubtful)

    async def trip(self, wanted: int) -> Trip:
        """Make one round trip; claim up to ``wanted`` jobs.

        What it has claimed comes into hand during the next trip, or by ``unpack``.

        Raises:
            StoreError: something failed. What was to be told is kept for the next trip.
        """
        wanted = min(wanted, MAX_ITEMS)
        if self._doubtful or not wanted:
            self.unpack()  # what has to go back goes together, the oldest to the front
        self._said, self._lacking, self._short, self._errors = [], 0, True, []
        await self._release_the_unknown()
        adoptions = list(self._claims.unowned)
        requests = [one for batch in self._claims.take() for one in self._settle(batch)]
        requests += self._adopt(adoptions)
        order = self._order() if wanted else []
        if self._doubtful:
            order = [k for k in order if k not in self._doubtful]
        shares = self._shares(order, wanted)
        requests += [self._claim(k, count) for k, count in shares]

        def meanwhile() -> None:
            self.unpack()
            self._jobs.begin(adoptions)

        if requests:
            await self._exchange(requests, meanwhile)
        left = order[len(shares) :]
        while left and self._short:
            lacking, self._lacking = self._lacking, 0
            # Where a node is away the others are asked together: each may be on it, and take its time.
            some, left = (left[:lacking], []) if self._errors else (left[:1], left[1:])
            await self._exchange([self._claim(k, max(1, lacking // len(some))) for k in some])
        if self._errors and not self._slots.coming:
            raise self._errors[0]
        return Trip(self._short and not self._errors, self._said, self._errors)

    async def _exchange(
        self, requests: list[Request], meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Let each request take its answer, which may be the error of all."""
        sent_at = monotonic()
        try:
            answers = await self._store.run_all([one.operation for one in requests], meanwhile)
        except StoreError as error:
            self.unpack()  # before outcomes are put back: what comes now comes after them
            answers = [error] * len(requests)
        for request, answer in zip(requests, answers, strict=True):
            request.take(answer, sent_at)
        self._errors += [answer for answer in answers if isinstance(answer, StoreError)]
        if self._errors and self._together:
            raise self._errors[0]

    def unpack(self) -> None:
        """Take into hand what has been claimed. While Redis works on the next trip, if there is one."""
        claimed, self._claimed = self._claimed, []
        for k, first, jobs, until in claimed:
            for number, job in enumerate(jobs, first):
                self._jobs.arrive(job, k, number, self._safe(until), moved=False)
        self._slots.coming = 0

    async def _release_the_unknown(self) -> None:
        for k in [*self._doubtful]:
            # By number as well: one whose outcome was lost may have been claimed again by that trip.
            known = {(job_id, c.number) for job_id, c in self._claims.of(k.queue).items()}
            try:
                await self._store.follow(flows.release_unknown(k, self._policy.consumer, known))
                self._doubtful.discard(k)
            except StoreError as error:
                if self._together:
                    raise
                self._errors.append(error)

    # — settle —

    def _settle(self, batch: Batch) -> Iterator[Request]:
        outcomes = [
            op.at_number(outcome, self._claims.signed(claimed)) for claimed, outcome in batch.pairs
        ]
        consumer, commit = self._policy.consumer, outcomes[0].commit
        if commit is None:
            settle = op.settle(batch.k, consumer, outcomes)
        else:
            yield from (Request(one, lambda *_: None) for one in commit.before)
            settle = commit.operation(batch.k, consumer, outcomes[0])
        yield Request(settle, partial(self._take_settled, batch))

    def _take_settled(self, batch: Batch, answer: list[str] | StoreError, _: float) -> None:
        if isinstance(answer, StoreError):
            self._claims.put_back(batch, may_have_happened=answer.may_have_happened)
            return
        self._claims.settled(batch)
        report.settled(batch.pairs, set(answer), self._jobs.hooks)

    # — adopt —

    def _adopt(self, adoptions: Sequence[ClaimedJob]) -> list[Request]:
        requests: list[Request] = []
        for claimed in adoptions:
            begun = claimed.begun or self._jobs.may_begin(claimed)
            if begun and not requests:
                # An adoption must not fail because its script is unknown: when its task has begun, and
                # keeps the loop to itself, it cannot be sent again.
                requests.append(Request(op.load(script("adopt")), lambda *_: None))
            adopt = adoption(claimed, self._policy.consumer, self._lease, begun=begun)
            requests.append(Request(adopt, partial(self._take_adopted, claimed)))
        return requests

    def _take_adopted(
        self, claimed: ClaimedJob, answer: AdoptAnswer | StoreError, sent_at: float
    ) -> None:
        if not isinstance(answer, StoreError):  # else it is asked again
            until = sent_at + self._lease.lease_s
            self._jobs.adopted(claimed, answer, until if claimed.begun else self._safe(until))

    def _safe(self, until: float) -> float:
        """Return until when a lease lasts that came just now; 0 if it may end before it is extended.

        A task that holds the loop lets an answer wait here, and the lease keeper, which knows of no
        job before that, extends after a third of a lease: the job would run twice.
        """
        return until if until - monotonic() > 1.5 * self._lease.extend_every_s else 0.0

    # — claim —

    def _order(self) -> list[Keys]:
        """Return the queues in the order of this turn: as named, or by weight at random."""
        if not self._weights[0] or len(self._queues) == 1:
            return self._queues
        # Weighted shuffle: sort by u ** (1 / weight). Efraimidis & Spirakis, IPL 97 (2006).
        ranks = [random.random() ** (1 / weight) for weight in self._weights]
        return [k for _, k in sorted(zip(ranks, self._queues, strict=True), key=lambda p: -p[0])]

    def _shares(self, order: list[Keys], wanted: int) -> list[tuple[Keys, int]]:
        """Divide what is wanted among the queues that are asked in one trip.

        The first one that had jobs the last time, and those before it, which had none: to ask each
        of them in a trip of its own would cost a trip for each. They are asked for one job.
        """
        if not order:
            return []
        empty = 0
        while empty < min(len(order), wanted) - 1 and order[empty] in self._empty:
            empty += 1
        return [*((k, 1) for k in order[:empty]), (order[empty], wanted - empty)]

    def _claim(self, k: Keys, count: int) -> Request:
        first = self._claims.numbers(count)
        lease_ms, consumer = self._lease.lease_ms, self._policy.consumer
        claim = op.claim(k, count, lease_ms=lease_ms, consumer=consumer, first=first)
        return Request(claim, partial(self._take_claim, k, count, first))

    def _take_claim(
        self, k: Keys, count: int, first: int, claim: ClaimReply | StoreError, sent_at: float
    ) -> None:
        if isinstance(claim, StoreError):
            if claim.may_have_happened:
                self._doubtful.add(k)
            if not self._together:
                self._empty.add(k)
            self._lacking += count
            return
        if claim.jobs:
            self._empty.discard(k)
        else:
            self._empty.add(k)
        self._policy.clock_ahead_ms = claim.now_ms - now_ms()
        self._said.append((k, claim))
        self._claimed.append((k, first, claim.jobs, sent_at + self._lease.lease_s))
        self._slots.coming += len(claim.jobs)
        if any(b',"crashes":' in job for job in claim.jobs):
            self.unpack()  # beside a suspect nothing is claimed
        lacking = count - len(claim.jobs)
        if lacking and sum(map(len, claim.jobs)) < MAX_BYTES:  # else it was cut for its size
            self._lacking += lacking
        else:
            self._short = False
