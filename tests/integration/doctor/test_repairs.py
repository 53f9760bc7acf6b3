"""What the doctor can repair: each defect is made by hand, found, repaired, and found no more."""

from __future__ import annotations

import random

import pytest
from redis import Redis

from headrace import doctor, wire
from headrace import operations as op
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.reports.keys import progress_of, stream_of
from tests.integration.doctor.ward import QUICK, K, Ward, dump_of, id_of, lose_a_lease
from tests.support import invariants


def lose_an_item(ward: Ward) -> None:
    ward.redis.lrem(K.processing, 1, ward.claim(3)[1])


def lose_a_claim(ward: Ward) -> None:
    ward.redis.hdel(K.claims, id_of(ward.claim(3)[1]))


def move_as_a_plain_client(ward: Ward) -> None:
    ward.enqueue(3)
    ward.redis.brpoplpush("queue", "queue:processing")


def let_a_lease_run_out(ward: Ward) -> None:
    ward.redis.zadd(K.leases, {id_of(ward.claim(3)[1]): 1_000})


def let_a_delayed_job_fall_due(ward: Ward) -> None:
    ward.enqueue(due="+60000")
    (job,) = ward.redis.zrange(K.delayed, 0, -1)
    ward.redis.zadd(K.delayed, {job: 1_000})


def let_a_nudge_stay(ward: Ward) -> None:
    ward.enqueue(priority=5)
    assert ward.redis.persist(K.nudge)


def let_a_cancellation_stay(ward: Ward) -> None:
    ward.redis.zadd(K.cancelled, {"x": 1})


def let_a_result_stay(ward: Ward) -> None:
    ward.redis.rpush(K.result("x"), "{}")


def let_what_a_job_told_stay(ward: Ward) -> None:
    ward.redis.rpush(K.history("x"), "{}")
    ward.redis.set(progress_of(K, "x"), "{}")
    ward.redis.xadd(stream_of(K, "x"), {"i": "1"})


def let_a_unique_key_stay(ward: Ward) -> None:
    ward.redis.set(K.unique("daily"), "x")


def use_a_queue_that_nobody_knows(ward: Ward) -> None:
    ward.redis.lpush("emails", b'{"task": "t"}', b'{"task": "t", "args": [1]}')
    ward.redis.brpoplpush("emails", "emails:processing")


MENDED = {
    "claim_without_lease": (lose_a_lease, "gave a lease to 1 claim without one"),
    "claim_without_item": (lose_an_item, "dropped 1 claim whose job is gone"),
    "lease_without_claim": (lose_a_claim, "dropped 1 lease without a claim"),
    "bare": (move_as_a_plain_client, "gave a lease to 1 job in processing without one"),
    "lease_expired": (let_a_lease_run_out, "1 job of lost consumers is runnable again"),
    "delayed_overdue": (let_a_delayed_job_fall_due, "1 delayed job that is due waits its turn now"),
    "endless nudge": (let_a_nudge_stay, "gave 1 key an expiry, of a day at most"),
    "endless cancelled": (let_a_cancellation_stay, "gave 1 key an expiry, of a day at most"),
    "endless result": (let_a_result_stay, "gave 1 key an expiry, of a day at most"),
    "endless reports": (let_what_a_job_told_stay, "gave 3 keys an expiry, of a day at most"),
    "endless unique": (let_a_unique_key_stay, "gave 1 key an expiry, of a day at most"),
    "unregistered": (use_a_queue_that_nobody_knows, "registered it: "),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_defect_is_found_explained_mended_and_found_no_more(ward: Ward, name: str) -> None:
    make, done = MENDED[name]
    code = name.partition(" ")[0]
    before = set(ward.found())
    assert code not in before
    make(ward)
    finding = ward.found()[code]
    assert finding.severity in {"problem", "warning", "note"}
    assert finding.why
    assert finding.mends
    jobs = count_of_jobs(ward.redis)
    said = ward.repair()
    assert any(one.startswith(done) for one in said), said
    assert code not in ward.found()
    assert ward.repair() == []  # a second run finds nothing of it
    assert count_of_jobs(ward.redis) == jobs
    gone = 1 if make is lose_an_item else 0
    foreign = ward.store.run(op.snapshot(K)).foreign
    invariants.check(ward.redis, foreign=-gone if gone else foreign)


def count_of_jobs(redis: Redis, *queues: str) -> int:
    """Count the jobs of every place of some queues."""
    count = 0
    for queue in queues or ("queue", "emails"):
        k = keys_of(queue)
        count += sum(redis.llen(key) for key in (k.pending, k.processing, k.dead))
        count += redis.zcard(k.delayed) + redis.zcard(k.priority)
    return count


def test_looking_changes_nothing(ward: Ward) -> None:
    for make, _ in MENDED.values():
        make(ward)
    before = dump_of(ward.redis)
    ward.check_up()
    assert dump_of(ward.redis) == before


def test_a_lease_that_a_live_consumer_extends_is_not_reclaimed(ward: Ward) -> None:
    (held,) = ward.claim()
    ward.redis.zadd(K.leases, {id_of(held): 1_000})
    found = ward.check_up()
    said = []
    for one in doctor.make_repairs(ward.store, found, QUICK):
        said.append(one.done)
        # While it waits the grace, the consumer shows that it lives.
        ward.store.run(op.extend(K, "me", [(id_of(held), 1)], lease_ms=60_000))
    assert said == [
        "waits 0.2 s before it takes 1 lease that ran out: a consumer that lives extends it"
    ]
    assert ward.redis.lrange(K.processing, 0, -1) == [held]


def test_of_equal_bare_items_only_the_leases_beyond_their_number_are_dropped(ward: Ward) -> None:
    item = b'{"task": "t"}'
    ward.redis.lpush(K.processing, *[item] * 3)
    ward.store.run(op.register("queue"))
    assert "gave a lease to 3 jobs in processing without one" in ward.repair()
    assert ward.redis.hlen(K.claims) == 3
    ward.redis.lrem(K.processing, 2, item)
    assert ward.found()["claim_without_item"].found.startswith("2 claimed jobs are not")
    assert ward.repair() == ["dropped 2 claims whose job is gone"]
    invariants.check(ward.redis, foreign=1)


def test_an_item_that_stands_under_its_id_and_bare_keeps_both_leases(ward: Ward) -> None:
    (held,) = ward.claim()
    ward.redis.lpush(K.processing, held)
    assert ward.repair() == ["gave a lease to 1 job in processing without one"]
    assert not {"bare", "claim_without_item"} & ward.found().keys()
    ward.redis.lrem(K.processing, 1, held)
    assert ward.repair() == ["dropped 1 claim whose job is gone"]
    assert ward.redis.hkeys(K.claims) == [id_of(held).encode()]
    invariants.check(ward.redis)


def test_what_fits_into_one_step_is_read_at_one_instant(ward: Ward) -> None:
    held = ward.claim(1_000)
    ward.redis.hdel(K.claims, *map(id_of, held[:500]))
    assert ward.found()["lease_without_claim"].found == "500 leases are without a claim"
    assert "dropped 500 leases without a claim" in ward.repair()
    invariants.check(ward.redis)


def test_more_claims_than_one_step_reads_are_all_compared(ward: Ward) -> None:
    held = [job for _ in range(3) for job in ward.claim(1_000)]
    some = random.Random(3).sample(held, 700)
    ward.redis.zrem(K.leases, *map(id_of, some[:300]))
    ward.redis.hdel(K.claims, *map(id_of, some[300:600]))
    for job in some[600:]:
        ward.redis.lrem(K.processing, 1, job)
    found = ward.found()
    assert found["claim_without_lease"].found.startswith("about 300 claims")
    assert found["lease_without_claim"].found.startswith("about 300 leases")
    assert found["claim_without_item"].found.startswith("about 100 claimed jobs")
    assert found["bare"].found.startswith("about 300 jobs")
    ward.repair()
    left = {"claim_without_lease", "lease_without_claim", "claim_without_item", "bare"}
    assert not left & ward.found().keys()
    invariants.check(ward.redis, foreign=-100)


def test_large_jobs_take_more_steps_and_are_counted_once(ward: Ward) -> None:
    body = wire.encode_call("t", ("x" * 100_000,), {})
    for _ in range(4):
        ward.store.run(op.enqueue(K, [wire.assemble(new_id(), body) for _ in range(8)]))
    held: list[bytes] = []
    while some := ward.store.run(op.claim(K, 8, lease_ms=60_000, consumer="me", first=1)).jobs:
        held += some
    ward.redis.hdel(K.claims, *map(id_of, held[:5]))
    assert ward.found()["lease_without_claim"].found == "about 5 leases are without a claim"
    ward.repair()
    invariants.check(ward.redis)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_broken_no_job_is_lost_by_mending(ward: Ward, seed: int) -> None:
    chance = random.Random(seed)
    makers = [make for make, _ in MENDED.values()]
    for _ in range(8):
        chance.choice(makers)(ward)
    jobs = count_of_jobs(ward.redis)
    ward.repair()
    assert count_of_jobs(ward.redis) == jobs
    left = {code for code, finding in ward.found().items() if finding.mends}
    assert not left
    for queue in ("queue", "emails"):
        foreign = ward.store.run(op.snapshot(keys_of(queue))).foreign
        invariants.check(ward.redis, queue, foreign=foreign)
