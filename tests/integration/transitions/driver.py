"""One queue as the tests of the transitions drive it: the operations, and a plain client beside them."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from headrace import operations as op
from headrace import wire
from headrace.keys import keys_of
from headrace.operations import Argument, Operation
from headrace.store import Store
from headrace.wire import Head
from tests.support.invariants import State, check, read
from tests.support.wait import wait_until

on_one_server = pytest.mark.parametrize("url", ["server"], indirect=True)
"""For tests of several queues: on a cluster each is elsewhere, and a script has keys of one."""

LONG_MS = 60_000
ME = "me"
OTHER = "other"
TASK = b',"task":"t"}'


def job(job_id: str, body: bytes = TASK, **head: Any) -> bytes:
    """Give a job's bytes."""
    return wire.join(Head(job_id, **head), body)


def id_of(job: bytes) -> str:
    parts = wire.split(job)
    assert parts is not None, job
    return parts[0].id


def key_of(job: bytes) -> str:
    parts = wire.split(job)
    return parts[0].key if parts is not None else ""


def again(job: bytes, body: bytes | None = None, **changes: int) -> bytes:
    """Give a job as it goes back from processing: one more delivery, and such changes."""
    parts = wire.split(job)
    assert parts is not None, job
    head = parts[0]._asdict()
    head |= {"delivery": head["delivery"] + 1} | changes
    return wire.join(Head(**head), parts[1] if body is None else body)


class Driver:
    """A queue, and what the tests know of it.

    Attributes:
        foreign: jobs that plain clients brought, less those that they took; counted by ``push``.
        numbers: the claim number under which each id was claimed last.
    """

    def __init__(self, store: Store, redis: Redis, queue: str = "queue") -> None:
        self.store = store
        self.redis = redis
        self.k = keys_of(queue)
        self.foreign = 0
        self.numbers: dict[str, int] = {}
        self._next = 1

    # What Headrace does.

    def enqueue(self, *jobs: bytes, **options: Any) -> op.Enqueued:
        return self.store.run(op.enqueue(self.k, jobs, **options))

    def claimed(
        self, count: int = 10, *, consumer: str = ME, lease_ms: int = LONG_MS
    ) -> op.ClaimReply:
        first = self._next
        answer = self.store.run(
            op.claim(self.k, count, lease_ms=lease_ms, consumer=consumer, first=first)
        )
        self._next += len(answer.jobs)
        for number, job in enumerate(answer.jobs, start=first):
            if (parts := wire.split(job)) is not None:
                self.numbers[parts[0].id] = number
        return answer

    def claim(self, count: int = 10, *, consumer: str = ME, lease_ms: int = LONG_MS) -> list[bytes]:
        return self.claimed(count, consumer=consumer, lease_ms=lease_ms).jobs

    def hold(self, *jobs: bytes, consumer: str = ME, lease_ms: int = LONG_MS) -> list[bytes]:
        """Enqueue jobs and claim them."""
        self.enqueue(*jobs)
        held = self.claim(len(jobs), consumer=consumer, lease_ms=lease_ms)
        assert len(held) == len(jobs)
        return held

    def outcome(self, held: bytes, verb: op.Verb, **fields: Any) -> op.Outcome:
        number = fields.pop("claim", None) or self.numbers[id_of(held)]
        return op.Outcome(id_of(held), number, verb, key=key_of(held), **fields)

    def settle(self, held: bytes, verb: op.Verb, *, consumer: str = ME, **fields: Any) -> list[str]:
        return self.settle_all(self.outcome(held, verb, **fields), consumer=consumer)

    def settle_all(self, *outcomes: op.Outcome, consumer: str = ME) -> list[str]:
        return self.store.run(op.settle(self.k, consumer, outcomes))

    def adopt(
        self,
        moved: bytes,
        job: bytes,
        token: str = f"{ME}:1",
        lease_ms: int = LONG_MS,
        *,
        begun: bool = False,
        key: str | None = None,
    ) -> op.AdoptAnswer:
        consumer, _, number = token.partition(":")
        self.numbers[id_of(job)] = int(number)
        return self.store.run(
            op.adopt(
                self.k,
                token=token,
                lease_ms=lease_ms,
                moved=moved,
                job_id=id_of(job),
                job=job,
                begun=begun,
                key=key_of(job) if key is None else key,
            )
        )

    def extend(self, *held: bytes, consumer: str = ME, lease_ms: int = LONG_MS) -> op.Extended:
        claims = [(id_of(job), self.numbers[id_of(job)]) for job in held]
        return self.store.run(op.extend(self.k, consumer, claims, lease_ms=lease_ms))

    def sweep(
        self, *, offset: int = 0, all_: bool = False, bare_lease_ms: int = LONG_MS
    ) -> op.Swept:
        return self.store.run(
            op.sweep(self.k, bare_lease_ms=bare_lease_ms, offset=offset, only_if_unequal=not all_)
        )

    def reclaim(
        self, *, grace_ms: int = 0, gap_ms: int = LONG_MS, max_crashes: int = 5, **more: int
    ) -> op.Reclaimed:
        return self.store.run(
            op.reclaim(self.k, grace_ms=grace_ms, gap_ms=gap_ms, max_crashes=max_crashes, **more)
        )

    def crash(self, *jobs: bytes, **options: Any) -> op.Reclaimed:
        """Lose the consumer of whatever is leased until it is past; then reclaim."""
        self.expire()
        return self.reclaim(**options)

    def promote(self, limit: int = 1000) -> op.Promoted:
        return self.store.run(op.promote(self.k, limit))

    def cancel(self, job: bytes, **result: Any) -> op.CancelAnswer:
        return self.store.run(op.cancel(self.k, id_of(job), job, **result))

    def find(self, job: bytes) -> op.Found:
        return self.store.run(op.find(self.k, id_of(job), job))

    def pause(self, *, paused: bool = True) -> bool:
        return self.store.run(op.pause(self.k, paused=paused))

    def snapshot(self) -> op.Snapshot:
        return self.store.run(op.snapshot(self.k))

    def raw(self, operation: Operation[Any], *args: Argument) -> Any:
        """Run a script, perhaps with other arguments, and give its answer as it comes."""
        changed: dict[str, Any] = {"args": args} if args else {}
        return self.store.run(operation._replace(parse=lambda answer: answer, **changed))

    # What plain clients do.

    def push(self, *jobs: bytes) -> None:
        self.redis.lpush(self.k.pending, *jobs)
        self.foreign += len(jobs)

    def move(self) -> bytes:
        """Take the oldest pending job as a plain consumer does."""
        moved = self.redis.rpoplpush(self.k.pending, self.k.processing)
        assert isinstance(moved, bytes)
        return moved

    def move_bare(self, *jobs: bytes) -> list[bytes]:
        """Push jobs and take them, oldest first, all with plain commands."""
        self.push(*jobs)
        return [self.move() for _ in jobs]

    def remove(self, item: bytes) -> None:
        """End a job as a plain consumer does."""
        removed = self.redis.lrem(self.k.processing, 1, item)  # type: ignore[arg-type]
        assert removed == 1
        self.foreign -= 1

    # Clocks and looks.

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def until(self, ms: float) -> None:
        """Wait until Redis' own clock shows an instant."""
        wait_until(lambda: self.now_ms() >= ms)

    def expire(self) -> None:
        """Wait until every lease is past; those of a minute are taken for never."""
        now = self.now_ms()
        leases: Any = self.redis.zrange(self.k.leases, 0, -1, withscores=True)
        self.until(max((ms for _, ms in leases if ms < now + 10_000), default=now))

    def check(self, **expected: Any) -> State:
        return check(self.redis, self.k.queue, foreign=self.foreign, **expected)

    def state(self) -> State:
        """Give all that is kept, without the count of lost claims: those are answers, not moves."""
        state = read(self.redis, self.k.queue)
        state.counters.pop("lost", None)
        return state
