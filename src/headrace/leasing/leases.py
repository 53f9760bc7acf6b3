"""Claim, extend and settle for consumers that run elsewhere: what the consumer does for its own jobs.

Each claim has a holder of its own in Redis: the consumer's name, and letters that nobody can guess. So
its token is proof enough, and what was claimed in a request whose answer was lost can be told apart, and
is given back, uncharged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from headrace import flows
from headrace import operations as op
from headrace.app import Headrace
from headrace.clock import monotonic, now_ms
from headrace.consumer import outcomes, timeliness
from headrace.consumer.admission import permission
from headrace.consumer.claimed import ClaimedJob, adoption, read
from headrace.consumer.outcomes import OutcomePolicy
from headrace.errors import StoreError
from headrace.holders import new_holder
from headrace.keys import Keys, keys_of
from headrace.lanes import operations as lanes
from headrace.leasing.endings import Ending, Ticket, outcome_of
from headrace.leasing.statistics import Statistics, began
from headrace.leasing.tasks import AnyTasks
from headrace.operations import Operation, Outcome
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore

_A_STEP: Final = 10  # jobs that are read at once when they end: at most 10 MiB
_TRIES: Final = 3  # of an adoption: the id may be in use, and then the next one


@dataclass(frozen=True, slots=True)
class Leased:
    """A job that a consumer has.

    Attributes:
        ticket: what the consumer shows for it.
        claimed: the job.
        until_ms: when the lease ends, ms since 1970 by Redis' clock.
    """

    ticket: Ticket
    claimed: ClaimedJob
    until_ms: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims, in one request.

    Attributes:
        name: what Redis knows it as.
        lease: how long its claims last.
    """

    name: str
    lease: LeasePolicy


def holder(consumer: str, lease: LeasePolicy) -> Holder:
    """Return a holder for one request of a consumer."""
    return Holder(new_holder(consumer), lease)


class Leases:
    """The claims of consumers that run elsewhere.

    Args:
        store: the Redis.
        app: says which tasks and limits there are.
    """

    def __init__(self, store: AsyncStore, app: Headrace) -> None:
        self._store = store
        self._tasks = AnyTasks(app)
        self._statistics = Statistics(store)
        # Holders of whom nobody has got what they hold: by when (monotonic) it is theirs no more.
        self._doubtful: dict[tuple[Keys, str], float] = {}

    async def claim(self, k: Keys, count: int, who: Holder) -> list[Leased]:
        """Claim up to so many jobs, those that may not run now not among them.

        Raises:
            StoreError: Redis did not do it. What it may have given is given back.
        """
        await self._give_back_the_unknown()
        claim = op.claim(k, count, lease_ms=who.lease.lease_ms, consumer=who.name, first=1)
        try:
            reply = await self._store.run(claim)
            jobs = [
                read(raw, k, number, tasks=self._tasks, leased_until=math.inf, moved=False)
                for number, raw in enumerate(reply.jobs, 1)
            ]
            return await self._admitted(k, jobs, who, reply.now_ms)
        except StoreError:
            self._doubt(k, who)
            raise

    async def take(self, k: Keys, raw: bytes, who: Holder) -> list[Leased]:
        """Lease a job that was moved to processing; none if it may not run, or is gone.

        Raises:
            StoreError: Redis did not do it. The sweep gives it a lease.
        """
        job = read(raw, k, 1, tasks=self._tasks, leased_until=math.inf, moved=True)
        try:
            now = await self._store.run(op.time_ms())
            return await self._admitted(k, [job], who, int(now))
        except StoreError:
            self._doubt(k, who)
            raise

    async def give_back(self, leased: Sequence[Leased], who: Holder) -> None:
        """Give jobs of one holder back that nobody has got, to the front of their queue, uncharged.

        Where Redis does not do it now, it is asked again with the next claim.
        """
        try:
            await self.settle([Ending(one.ticket, "release") for one in leased])
        except StoreError:
            for k in dict.fromkeys(one.claimed.k for one in leased):
                self._doubt(k, who)

    def _doubt(self, k: Keys, who: Holder) -> None:
        self._doubtful[k, who.name] = monotonic() + who.lease.lease_s

    async def extend(self, tickets: Sequence[Ticket], lease_s: float) -> op.Extended:
        """Let claims last so long from now; return the ids of those that are lost, or to be cancelled.

        Raises:
            StoreError: Redis did not do it.
        """
        lost: list[str] = []
        groups: defaultdict[tuple[Keys, str], list[tuple[str, int]]] = defaultdict(list)
        for one in tickets:
            if (parts := one.parts) is None:
                lost.append(one.job_id)
            else:
                groups[keys_of(one.queue), parts[0]].append((one.job_id, parts[1]))
        asked = [
            op.extend(k, name, pairs, lease_ms=round(lease_s * 1000))
            for (k, name), pairs in groups.items()
        ]
        answers = op.unfailed(await self._store.run_all(asked))
        lost += [job_id for one in answers for job_id in one.lost]
        return op.Extended(lost, [job_id for one in answers for job_id in one.cancelled])

    async def settle(self, endings: Sequence[Ending]) -> list[Ticket]:
        """End claims; return those that were lost: of them nothing has changed. Repeated, it changes nothing.

        Raises:
            StoreError: Redis did not do it, or not all of it.
        """
        lost: list[Ticket] = []
        once = list({one.ticket: one for one in reversed(endings)}.values())[
            ::-1
        ]  # the first counts
        for start in range(0, len(once), _A_STEP):
            lost += await self._settle(once[start : start + _A_STEP])
        return lost

    async def _settle(self, endings: Sequence[Ending]) -> list[Ticket]:
        asked = [_job_of(one.ticket) for one in endings]
        now, *held = op.unfailed(await self._store.run_all([op.time_ms(), *asked]))
        self._statistics.ahead_ms = int(now) - now_ms()
        lost: list[Ticket] = []
        claims: list[tuple[Ticket, ClaimedJob, str, Outcome]] = []
        for ending, raw in zip(endings, held, strict=True):
            ticket, parts = ending.ticket, ending.ticket.parts
            if parts is None or not raw:
                lost.append(ticket)
                continue
            k, policy = keys_of(ticket.queue), _policy(parts[0], int(now))
            job = read(raw, k, parts[1], tasks=self._tasks, leased_until=math.inf, moved=False)
            job.started = began(parts[0])
            claims.append((ticket, job, parts[0], outcome_of(job, ending, policy)))
        ended = [(job, name, outcome) for _, job, name, outcome in claims]
        gone = await self._end(ended)
        return lost + [ticket for ticket, job, *_ in claims if id(job) in gone]

    async def _admitted(
        self, k: Keys, jobs: Sequence[ClaimedJob], who: Holder, redis_ms: int
    ) -> list[Leased]:
        """Return those of claimed jobs that may run; what becomes of the others is told."""
        policy = _policy(who.name, redis_ms)
        admitted: list[ClaimedJob] = []
        refused: list[tuple[ClaimedJob, str, Outcome]] = []
        come: list[str] = []
        for job in jobs:
            if not job.owned and not await self._adopted(job, who):
                continue
            permit = None
            if job.unrunnable is None and not timeliness.has_expired(job, policy):
                permit = permission(job)
            if isinstance(permit, lanes.Hold):
                job.unrunnable, job.hold = "no_slot", permit
            elif permit is not None:
                come.append(permit.member)
            if job.unrunnable is None:
                admitted.append(job)
            else:
                refused.append((job, who.name, outcomes.of_unrunnable(job, policy)))
        await self._end(refused)
        if come:
            await self._store.run(lanes.admit(k, come=come))
        until_ms = redis_ms + who.lease.lease_ms
        return [
            Leased(Ticket(k.queue, job.head.id, f"{who.name}:{job.number}"), job, until_ms)
            for job in admitted
        ]

    async def _adopted(self, job: ClaimedJob, who: Holder) -> bool:
        """Let Redis know a job as the holder's; return whether it is."""
        for _ in range(_TRIES):
            answer = await self._store.run(adoption(job, who.name, who.lease, begun=False))
            if answer != "duplicate":
                job.owned = answer == "ok"
                return job.owned
            job.renamed()
        return False

    async def _end(self, ended: Sequence[tuple[ClaimedJob, str, Outcome]]) -> set[int]:
        """End claims; return which of the jobs (by ``id``) were somebody else's."""
        groups: defaultdict[tuple[Keys, str], list[tuple[ClaimedJob, Outcome]]] = defaultdict(list)
        requests: list[Operation[Any]] = []
        by_request: list[dict[str, ClaimedJob]] = []
        over: defaultdict[Keys, list[str]] = defaultdict(list)
        for job, name, outcome in ended:
            if outcome.commit is None:
                groups[job.k, name].append((job, outcome))
            else:
                before = outcome.commit.before
                requests += [*before, outcome.commit.operation(job.k, name, outcome)]
                by_request += [*({} for _ in before), {job.head.id: job}]
            permit = lanes.permit_of(job.job, job.head.id)
            if permit is not None and job.hold is None:
                over[job.k].append(permit.member)
        for (k, name), pairs in groups.items():
            requests.append(op.settle(k, name, [outcome for _, outcome in pairs]))
            by_request.append({job.head.id: job for job, _ in pairs})
        requests += [lanes.admit(k, ended=members) for k, members in over.items()]
        answers = op.unfailed(await self._store.run_all(requests))
        gone = {
            id(jobs[job_id])
            for jobs, answer in zip(by_request, answers, strict=False)
            if jobs
            for job_id in answer
        }
        for job, _, outcome in ended:
            if id(job) not in gone:
                self._statistics.note(job, outcome.verb)
        return gone

    async def close(self) -> None:
        """Tell what is left to tell of jobs that have ended."""
        await self._statistics.close()

    async def _give_back_the_unknown(self) -> None:
        """Release what was given to requests whose answers were lost: nobody has begun with it."""
        for (k, name), until in [*self._doubtful.items()]:
            if monotonic() < until:
                await self._store.follow(flows.release_unknown(k, name, ()))
            self._doubtful.pop((k, name), None)


def _policy(name: str, redis_ms: int) -> OutcomePolicy:
    # Every task is known; the crashes are the sweep's to count.
    return OutcomePolicy(name, 0, clock_ahead_ms=redis_ms - now_ms())


def _job_of(ticket: Ticket) -> Operation[bytes]:
    """Read the bytes of a claimed job; b"" if the claim is not the current one."""
    start = f"{ticket.claim} ".encode()

    def parse(raw: Any) -> bytes:
        is_current = isinstance(raw, bytes) and raw.startswith(start)
        return raw[len(start) :] if is_current else b""

    return op.command("HGET", keys_of(ticket.queue).claims, ticket.job_id, parse=parse)
