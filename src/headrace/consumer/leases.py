"""The lease keeper: extends what a consumer holds, from a thread with a connection of its own.

An event loop that is busy, or a task that keeps the interpreter to itself, must not cost leases. So
this is a thread, it owns its store, and it shares with the loop only the claims (which it copies)
and each job's ``stop_reason`` (which it sets).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

from headrace import operations as op
from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob, adoption
from headrace.consumer.dispatcher import Dispatcher
from headrace.errors import StoreError
from headrace.operations import Extended, Operation
from headrace.policy import LeasePolicy, ReconnectBackoff
from headrace.scripts import MAX_BYTES, MAX_ITEMS
from headrace.store import Store

log: logging.Logger = logging.getLogger(__name__)


class LeaseKeeper(threading.Thread):
    """Extends leases every third of their time until it is closed.

    Args:
        store: a store for this thread alone.
        consumer: the consumer's name.
        policy: how long a lease lasts.
        jobs: what the consumer holds; hears what becomes of leases.

    Attributes:
        ended: fails with whatever ends the thread before it is closed.
    """

    def __init__(self, store: Store, consumer: str, policy: LeasePolicy, jobs: Dispatcher) -> None:
        super().__init__(name="headrace-leases", daemon=True)
        self._store = store
        self._consumer = consumer
        self._policy = policy
        self._claims = jobs.claims
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._closing = threading.Event()
        self._reconnect = ReconnectBackoff("extending leases")

    def run(self) -> None:
        """Extend until closed; after a failure again soon."""
        every_s = self._policy.extend_every_s
        pause_s = every_s
        waits_since = monotonic()
        try:
            while not self._closing.wait(pause_s):
                self._look_back(monotonic() - waits_since)
                # With nothing to extend, Redis was not asked.
                if (extended := self.extend_all()) and self._reconnect.failures:
                    self._reconnect.over()
                pause_s = every_s if extended else every_s / 5
                waits_since = monotonic()
        except Exception as error:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the consumer has left
                self._loop.call_soon_threadsafe(self.ended.set_exception, error)
        finally:
            self._store.close()

    def close(self) -> None:
        """End the thread; it answers within one request."""
        self._closing.set()

    def _look_back(self, waited_s: float) -> None:
        """Log when this thread could not run for longer than a lease lasts."""
        if waited_s > self._policy.lease_s:
            log.warning(
                "no lease could be extended for %.1f s, longer than a lease lasts (%g s): jobs may "
                "run twice. Either this process stood still, or a call of C code kept Python's "
                "global lock (GIL) for so long: give it a process of its own",
                waited_s,
                self._policy.lease_s,
            )

    def extend_all(self) -> bool:
        """Extend every lease once; return whether Redis did so, for all queues."""
        held = [[*self._claims.of(k.queue).values()] for k in self._claims.queues]
        owned = ([claimed for claimed in some if claimed.owned] for some in held)
        away = self._extend([portion for some in owned for portion in _portions(some)])
        if away and self._store.joins_queues:
            return False
        begun = (one for some in held for one in some if one.begun and one.k.queue not in away)
        return all(map(self._adopt, begun)) and not away

    def _extend(self, portions: Sequence[Sequence[ClaimedJob]]) -> set[str]:
        """Extend leases, in one trip; return the queues of which it failed: nodes may be away."""
        # Before it is sent: the leases last at least as long.
        until = monotonic() + self._policy.lease_s
        answers = self._ask([self._extension(some) for some in portions]) if portions else []
        pairs = [*zip(portions, answers, strict=True)]
        for some, answer in pairs:
            if not isinstance(answer, StoreError):
                self._extended(some, answer, until)
        failed = {p[0].k.queue: answer for p, answer in pairs if isinstance(answer, StoreError)}
        for queue, error in failed.items():
            self._failed_to_extend(queue, error)
        return {*failed}

    def _extension(self, some: Sequence[ClaimedJob]) -> Operation[Extended]:
        pairs = [(claimed.head.id, claimed.number) for claimed in some]
        return op.extend(some[0].k, self._consumer, pairs, lease_ms=self._policy.lease_ms)

    def _ask(self, requests: Sequence[Operation[Extended]]) -> Sequence[Extended | StoreError]:
        try:
            return self._store.run_all(requests)
        except StoreError as error:
            return [error] * len(requests)

    def _extended(self, some: Sequence[ClaimedJob], answer: Extended, until: float) -> None:
        lost, cancelled = set(answer.lost), set(answer.cancelled)
        for claimed in some:
            if claimed.head.id in lost:
                # Settled while this was on its way, or truly lost: the loop knows which.
                if self._claims.get(claimed.k.queue, claimed.head.id) is claimed:
                    self._jobs.lose(claimed)
            else:
                claimed.leased_until = until
                if claimed.head.id in cancelled:
                    self._jobs.stop(claimed, "cancelled")

    def _adopt(self, claimed: ClaimedJob) -> bool:
        """Adopt a job that keeps the loop from hearing that its first adoption has failed."""
        ran_s = monotonic() - claimed.started if claimed.started else 0.0
        if (
            claimed.owned
            or claimed.phase in ("lost", "gone")
            or ran_s < self._policy.extend_every_s / 2
        ):
            return True  # or the loop does so
        queue, job_id = claimed.k.queue, claimed.head.id
        until = monotonic() + self._policy.lease_s
        request = adoption(claimed, self._consumer, self._policy, begun=True)
        error: StoreError | None = None
        try:
            if self._store.run(request) == "ok":
                claimed.kept, claimed.leased_until = True, until
        except StoreError as failure:
            error, claimed.kept = failure, claimed.kept or failure.may_have_happened
            self._failed_to_extend(queue, failure)
        # Set before this look; the loop gives a job up before it looks at `kept`. So one of the two
        # sees the other, and what the loop did meanwhile leaves no lease to nobody.
        if claimed.kept and self._claims.get(queue, job_id) is not claimed:
            self._jobs.release(claimed, job_id)
        return error is None

    def _failed_to_extend(self, queue: str, error: StoreError) -> None:
        with contextlib.suppress(StoreError):  # the other parts end the program
            self._reconnect.note(error)
        log.debug("leases of queue %s were not extended: %s", queue, error)
        if error.timed_out:
            self._give_up_late()

    def _give_up_late(self) -> None:
        """Tell the jobs whose lease is about to run out that somebody else may get them.

        Only when Redis does not answer: then it may be alive and reachable for others. While it
        refuses connections or loads its data, nobody can reclaim anything, and when it is back there
        is a grace; so jobs go on. They stay ours until Redis says otherwise: it may have stood still.
        """
        soon = monotonic() + self._policy.extend_every_s
        for k in self._claims.queues:
            for claimed in self._claims.of(k.queue).values():
                if (claimed.owned or claimed.begun) and claimed.leased_until < soon:
                    self._jobs.stop(claimed, "lost")


def _portions(held: Sequence[ClaimedJob]) -> Iterator[Sequence[ClaimedJob]]:
    """Cut into what one call may carry: Redis reads the jobs' bytes to find their tokens."""
    start = size = 0
    for index, claimed in enumerate(held):
        if index > start and (index - start >= MAX_ITEMS or size > MAX_BYTES):
            yield held[start:index]
            start, size = index, 0
        size += len(claimed.job)
    if start < len(held):
        yield held[start:]
