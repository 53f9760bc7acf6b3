"""A Redis that is made ill by hand, and what the doctor says of it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace import doctor, wire
from headrace import operations as op
from headrace.doctor import Checkup, Finding
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.policy import LeasePolicy
from headrace.store import Store
from tests.support.plain import PlainRedis

QUICK = LeasePolicy(lease_s=0.3, bare_lease_s=0.3)
K = keys_of("queue")


@dataclass
class Ward:
    """A store, a plain client, and what the doctor says of the Redis behind both."""

    store: Store
    redis: PlainRedis
    next_claim: int = 1

    def check_up(self, *queues: str, sample: int = 10_000) -> Checkup:
        return self.store.follow(doctor.check_up(queues, QUICK, sample=sample))

    def found(self, *queues: str) -> dict[str, Finding]:
        """Give what is not in order, by code."""
        findings = self.check_up(*queues).findings
        return {finding.code: finding for finding in findings if finding.severity != "ok"}

    def repair(self, *queues: str) -> list[str]:
        found = self.check_up(*queues)
        return [one.done for one in doctor.make_repairs(self.store, found, QUICK)]

    def enqueue(
        self, count: int = 1, queue: str = "queue", priority: int = 0, due: str = ""
    ) -> None:
        body = wire.encode_call("t", (), {})
        jobs = [wire.assemble(new_id(), body, priority) for _ in range(count)]
        self.store.run(op.register(queue))
        self.store.run(op.enqueue(keys_of(queue), jobs, due=due))

    def claim(self, count: int = 1, lease_ms: int = 60_000) -> list[bytes]:
        """Enqueue jobs and claim them for a consumer that is not there."""
        self.enqueue(count)
        claim = op.claim(K, count, lease_ms=lease_ms, consumer="me", first=self.next_claim)
        self.next_claim += count
        return self.store.run(claim).jobs

    def lead(self) -> None:
        self.store.run(op.lead("leader", 60_000))


def id_of(job: bytes) -> str:
    parts = wire.split(job)
    assert parts is not None
    return parts[0].id


def dump_of(redis: PlainRedis) -> dict[bytes, tuple[bytes | None, bool]]:
    return {key: (redis.dump(key), redis.pttl(key) > 0) for key in redis.keys()}


def lose_a_lease(ward: Ward) -> None:
    ward.redis.zrem(K.leases, id_of(ward.claim(3)[1]))
