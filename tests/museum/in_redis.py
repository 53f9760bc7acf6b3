"""Bugs of scripts: a queue each, wrong in one transition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redis.exceptions import ResponseError

from headrace import operations as op
from tests.museum.exhibit import Exhibit
from tests.property.model import Lease, id_of, returned
from tests.simulation.queue import Queue


class PopFirst(Queue):
    """The blocking move is a pop; the job stands in processing when it is adopted."""

    def move(self) -> bytes | None:
        return self.pending.pop(0) if self.pending else None

    def adopt(
        self, token: str, lease: int, moved: bytes, job_id: str, job: bytes, begun: int = 0
    ) -> str:
        if moved not in self.processing and id_of(job) not in self.leases:
            self.processing.append(moved)
        return super().adopt(token, lease, moved, job_id, job, begun)


class AckById(Queue):
    """Whoever names the id ends the job."""

    def settle(self, consumer: str, outcomes: Sequence[op.Outcome]) -> list[str]:
        for outcome in outcomes:
            held = self.leases.get(outcome.job_id)
            if held is not None:
                held.owner = f"{consumer}:{abs(outcome.claim)}"
        return super().settle(consumer, outcomes)


class UnfencedRetry(Queue):
    """An end needs the token; going back to wait does not."""

    def settle(self, consumer: str, outcomes: Sequence[op.Outcome]) -> list[str]:
        lost = super().settle(consumer, outcomes)
        for outcome in outcomes:
            if outcome.job_id in lost and outcome.verb in ("retry", "park") and outcome.job:
                lost.remove(outcome.job_id)
                self._sort_in(self.delayed, outcome.job, self.now + outcome.delay_ms)
        return lost


class RequeuesBare(Queue):
    """The sweep takes an item without a lease for one whose consumer is lost."""

    def sweep(self, lease: int, offset: int = 0, *, only_if_unequal: bool = False) -> int:
        for job in list(self.processing):
            if self.leased(job) < self.processing.count(job):
                self.processing.remove(job)
                self.pending.insert(0, job)
        return 0


class FailsBare(Queue):
    """The sweep buries an item without a lease: between the move and the lease, too."""

    def sweep(self, lease: int, offset: int = 0, *, only_if_unequal: bool = False) -> int:
        for job in list(self.processing):
            if self.leased(job) < self.processing.count(job) and id_of(job):
                self.processing.remove(job)
                letter = b'%b,"error":{"reason":"crashed"}}' % job.rstrip()[:-1]
                self.dead.append(letter)
                self.stats["dead"] += 1
        return 0


class OnlyLeases(Queue):
    """The sweep looks at leases, and never at what has none."""

    def sweep(self, lease: int, offset: int = 0, *, only_if_unequal: bool = False) -> int:
        return 0


class Trimmed(Queue):
    """The newest three dead letters are kept."""

    def settle(self, consumer: str, outcomes: Sequence[op.Outcome]) -> list[str]:
        lost = super().settle(consumer, outcomes)
        del self.dead[:-3]
        return lost


class Evicting(Queue):
    """With more than so many jobs, Redis drops the key that was not used for longest."""

    def enqueue(
        self, jobs: Sequence[bytes], delay: int, bound: int = 0, key: str = "", ttl: int = 0
    ) -> str:
        word = super().enqueue(jobs, delay, bound, key, ttl)
        if len(self.pending) + len(self.priority) + len(self.delayed) > 8:
            (self.delayed if self.delayed else self.priority).clear()
        return word


class Poisoned(Queue):
    """Whoever reclaims reads each job; one that cannot be read ends the whole round."""

    def reclaim(
        self, limit: int, grace: int, gap: int, max_crashes: int, rested: int | None = None
    ) -> op.Reclaimed:
        expired = [held for held in self.leases.values() if held.deadline <= self.now]
        if any(id_of(held.job) is None for held in expired):
            raise ResponseError("ERR user_script:41: attempt to index local 'job' (a nil value)")
        return super().reclaim(limit, grace, gap, max_crashes, rested)


class Uncounted(Queue):
    """A lost consumer costs a job nothing, so that a poison job goes on for ever."""

    def _give_back(self, held: Lease, max_crashes: int) -> str:
        job_id = id_of(held.job)
        if job_id is None or job_id in self.cancelled:
            return super()._give_back(held, max_crashes)
        self.processing.remove(held.job)
        self._place(returned(held.job, 0)[0])
        return "reclaimed"


class SharedLease(Queue):
    """Claims take the id as it comes: a second job of one id gets the first one's lease."""

    def claim(self, count: int, lease: int, consumer: str, first: int) -> list[bytes]:
        held = dict(self.leases)
        got = super().claim(count, lease, consumer, first)
        for i, job in enumerate(got):
            job_id = id_of(job) or ""
            old = job_id.rpartition(".")[0]
            if old in held:
                plain = job.replace(job_id.encode(), old.encode(), 1)
                self.leases[old] = replace(self.leases.pop(job_id), job=plain)
                self.processing[self.processing.index(job)] = got[i] = plain
        return got


EXHIBITS = [
    Exhibit(
        "a job is popped before it is leased",
        "Sidekiq OSS (BRPOP), Faktory",
        "`BLMOVE` pops; `adopt` puts the job into processing",
        PopFirst,
    ),
    Exhibit(
        "an acknowledgement needs the id alone",
        "asynq, Faktory, Oban, Graphile Worker",
        "`settle` takes any token",
        AckById,
        seed=116,
    ),
    Exhibit(
        "a late failure brings a finished job back",
        "asynq, Oban: completion by id has this gap, too",
        "`settle` fences `done` and `dead`, and not `retry`",
        UnfencedRetry,
        seed=28,
    ),
    Exhibit(
        "the sweep takes back what is between move and lease",
        "RPOPLPUSH recipes",
        "`sweep` puts bare items back at once",
        RequeuesBare,
    ),
    Exhibit(
        "the sweep fails what is between move and lease",
        "RPOPLPUSH recipes",
        "`sweep` buries bare items",
        FailsBare,
    ),
    Exhibit(
        "what is in processing without a lease stays there",
        "asynq #1144, #1051; BullMQ #652, #1506",
        "`sweep` gives no leases",
        OnlyLeases,
        seed=10,
    ),
    Exhibit(
        "dead letters are trimmed",
        "Sidekiq (10,000 dead jobs), asynq (10,000 archived)",
        "`settle` keeps the newest three",
        Trimmed,
    ),
    Exhibit(
        "a full Redis evicts",
        "BullMQ (docs: `noeviction` is the only policy), asynq #1144",
        "the key unused for longest goes at nine jobs",
        Evicting,
        seed=7,
    ),
    Exhibit(
        "one item that cannot be read ends every sweep",
        "asynq (`ListLeaseExpired`)",
        "`reclaim` raises on bytes without an id",
        Poisoned,
        seed=10,
    ),
    Exhibit(
        "a crash is not counted",
        "Sidekiq Pro before 5.2.0 (#4633)",
        "`reclaim` raises no `crashes`",
        Uncounted,
        seed=1,
    ),
    Exhibit(
        "two jobs of one id share a lease",
        "an earlier draft of this protocol",
        "`claim` gives no new id",
        SharedLease,
        seed=44,
    ),
]
