"""The doctor on real servers: each defect is made by hand, found, mended, and found no more."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import doctor, wire
from headrace import operations as op
from headrace.clock import now_ms
from headrace.doctor import Examination, Finding, server, server_checks
from headrace.embedded import EmbeddedServer
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.policy import LeasePolicy
from headrace.store import Store
from tests.support import invariants
from tests.support.plain import PlainRedis
from tests.support.servers import private_server
from tests.support.wait import wait_until

QUICK = LeasePolicy(lease_s=0.3, bare_lease_s=0.3)
K = keys_of("queue")


@dataclass
class Ward:
    """A store, a plain client, and what the doctor says of the Redis behind both."""

    store: Store
    redis: PlainRedis
    next_claim: int = 1

    def examine(self, *queues: str, sample: int = 10_000) -> Examination:
        return self.store.follow(doctor.examine(queues, QUICK, sample=sample))

    def found(self, *queues: str) -> dict[str, Finding]:
        """Give what is not in order, by code."""
        findings = self.examine(*queues).findings
        return {finding.code: finding for finding in findings if finding.severity != "ok"}

    def mend(self, *queues: str) -> list[str]:
        found = self.examine(*queues)
        return [one.done for one in doctor.mend(self.store, found.findings, found.endless, QUICK)]

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


@pytest.fixture
def ward(url: str, redis: Redis) -> Iterator[Ward]:
    store = Store(url, name="test")
    store.run(op.register("queue"))
    yield Ward(store, redis)
    store.close()


def id_of(job: bytes) -> str:
    parts = wire.split(job)
    assert parts is not None
    return parts[0].id


# What can be mended


def lose_a_lease(ward: Ward) -> None:
    ward.redis.zrem(K.leases, id_of(ward.claim(3)[1]))


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
    said = ward.mend()
    assert any(one.startswith(done) for one in said), said
    assert code not in ward.found()
    assert ward.mend() == []  # a second run finds nothing of it
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
    ward.examine()
    assert dump_of(ward.redis) == before


def dump_of(redis: PlainRedis) -> dict[bytes, tuple[bytes | None, bool]]:
    return {key: (redis.dump(key), redis.pttl(key) > 0) for key in redis.keys()}


def test_a_lease_that_a_live_consumer_extends_is_not_reclaimed(ward: Ward) -> None:
    (held,) = ward.claim()
    ward.redis.zadd(K.leases, {id_of(held): 1_000})
    found = ward.examine()
    said = []
    for one in doctor.mend(ward.store, found.findings, found.endless, QUICK):
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
    assert "gave a lease to 3 jobs in processing without one" in ward.mend()
    assert ward.redis.hlen(K.claims) == 3
    ward.redis.lrem(K.processing, 2, item)
    assert ward.found()["claim_without_item"].found.startswith("2 claimed jobs are not")
    assert ward.mend() == ["dropped 2 claims whose job is gone"]
    invariants.check(ward.redis, foreign=1)


def test_an_item_that_stands_under_its_id_and_bare_keeps_both_leases(ward: Ward) -> None:
    (held,) = ward.claim()
    ward.redis.lpush(K.processing, held)
    assert ward.mend() == ["gave a lease to 1 job in processing without one"]
    assert not {"bare", "claim_without_item"} & ward.found().keys()
    ward.redis.lrem(K.processing, 1, held)
    assert ward.mend() == ["dropped 1 claim whose job is gone"]
    assert ward.redis.hkeys(K.claims) == [id_of(held).encode()]
    invariants.check(ward.redis)


def test_what_fits_into_one_step_is_read_at_one_instant(ward: Ward) -> None:
    held = ward.claim(1_000)
    ward.redis.hdel(K.claims, *map(id_of, held[:500]))
    assert ward.found()["lease_without_claim"].found == "500 leases are without a claim"
    assert "dropped 500 leases without a claim" in ward.mend()
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
    ward.mend()
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
    ward.mend()
    invariants.check(ward.redis)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_broken_no_job_is_lost_by_mending(ward: Ward, seed: int) -> None:
    chance = random.Random(seed)
    makers = [make for make, _ in MENDED.values()]
    for _ in range(8):
        chance.choice(makers)(ward)
    jobs = count_of_jobs(ward.redis)
    ward.mend()
    assert count_of_jobs(ward.redis) == jobs
    left = {code for code, finding in ward.found().items() if finding.mends}
    assert not left
    for queue in ("queue", "emails"):
        foreign = ward.store.run(op.snapshot(keys_of(queue))).foreign
        invariants.check(ward.redis, queue, foreign=foreign)


# What is left to people


def push_a_copy_of_a_dead_letter(ward: Ward) -> None:
    (job,) = ward.claim()
    split = wire.split(job)
    assert split
    letter = wire.letter(*split, wire.Error("max_attempts"))
    ward.store.run(op.settle(K, "me", [op.Outcome(id_of(job), 1, "dead", job=letter)]))
    ward.redis.lpush(K.pending, job)


def push_equal_jobs(ward: Ward) -> None:
    ward.redis.lpush(K.pending, *[b'{"id":"a","task":"t"}'] * 2)


def push_what_is_no_job(ward: Ward) -> None:
    ward.redis.lpush(K.pending, b"\xff", b"[1]", b'{"no": "task"}', b'{"task": "t"}')


def pause_it(ward: Ward) -> None:
    ward.enqueue()
    ward.store.run(op.pause(K, paused=True))


def write_a_claim_that_nobody_reads(ward: Ward) -> None:
    ward.redis.hset(K.claims, "x", "nonsense")


def write_a_claim_under_another_name(ward: Ward) -> None:
    ward.redis.hset(K.claims, mapping={"a": b'me:1 {"id":"b","task":"t"}'})
    ward.redis.zadd(K.leases, {"a": 10**13})


def take_its_name(ward: Ward) -> None:
    ward.redis.set(K.stats, "x")


def take_the_registry(ward: Ward) -> None:
    ward.redis.set("headrace:queues", "x")


def register_what_is_no_name(ward: Ward) -> None:
    ward.redis.sadd("headrace:queues", "a:b")


def keep_other_things_under_such_a_name(ward: Ward) -> None:
    ward.redis.lpush("orders:processing", "4711", "4712")


def enqueue_one(ward: Ward) -> None:
    ward.enqueue()


def push_one(ward: Ward) -> None:
    ward.redis.lpush(K.pending, b'{"task":"t"}')


def hold_one(ward: Ward) -> None:
    ward.claim()


LEFT = {
    "equal_ids pending, dead": (push_a_copy_of_a_dead_letter, "(pending, dead)"),
    "equal_ids pending, pending": (push_equal_jobs, "a (pending, pending)"),
    "malformed": (push_what_is_no_job, "3 entries among those that wait are no job"),
    "paused": (pause_it, "it is paused, and 1 job waits"),
    "claim_unreadable": (write_a_claim_that_nobody_reads, "1 claim cannot be read"),
    "claim_unreadable name": (write_a_claim_under_another_name, "1 claim cannot be read"),
    "wrong_type": (take_its_name, "the key queue:stats is a string, and should be a hash"),
    "wrong_type registry": (take_the_registry, "headrace:queues is a string, and should be a set"),
    "registry": (register_what_is_no_name, "1 name in the registry cannot be a queue's: 'a:b'"),
    "strangers": (keep_other_things_under_such_a_name, "orders:processing"),
    "no_consumer": (enqueue_one, "1 job waits, the oldest for 0 s, and no consumer is connected"),
    "foreign": (push_one, "plain clients brought 1 job more than they took"),
    "dead": (push_a_copy_of_a_dead_letter, "1 dead letter, the newest: max_attempts"),
    "holder_away": (hold_one, "1 consumer holds jobs without a connection: me"),
    "no_leader": (hold_one, "nobody leads"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_only_people_can_decide_is_found_and_left_alone(ward: Ward, name: str) -> None:
    make, says = LEFT[name]
    make(ward)
    before = dump_of(ward.redis)
    finding = ward.found()[name.partition(" ")[0]]
    assert says in finding.found
    assert finding.why or finding.todo
    assert not finding.mends
    assert ward.mend() == []
    assert dump_of(ward.redis) == before


def test_a_job_that_moves_while_it_is_read_does_not_stand_twice(ward: Ward) -> None:
    ward.enqueue(20)
    flow, moved = doctor.examine(["queue"], QUICK, sample=100), False
    step = next(flow)
    while True:
        answer: Any
        if isinstance(step, list):
            answer = ward.store.run_all(step)
        else:
            # Between reading the pending list and processing, all of it is claimed.
            if step.args[:2] == ("LRANGE", K.processing) and not moved:
                moved = True
                ward.store.run(op.claim(K, 20, lease_ms=60_000, consumer="me", first=1))
            answer = ward.store.run(step)
        try:
            step = flow.send(answer)
        except StopIteration as end:
            assert moved
            assert "equal_ids" not in {finding.code for finding in end.value.findings}
            return


def test_a_sample_says_that_it_is_one(ward: Ward) -> None:
    ward.enqueue(50)
    findings = {finding.code: finding for finding in ward.examine(sample=10).findings}
    assert findings["sample"].found == "of its jobs, 10 of 50 were read"


def test_named_queues_are_examined_alone(ward: Ward) -> None:
    lose_a_lease(ward)
    assert "claim_without_lease" not in ward.found("emails")
    assert ward.mend("emails") == []
    assert "claim_without_lease" in ward.found("queue")


def test_a_queue_in_order_gives_no_problem(ward: Ward) -> None:
    ward.claim(5)
    ward.enqueue(due="+60000")
    ward.lead()
    assert {f.severity for f in ward.examine().findings} == {"ok", "note"}
    assert "leader" in {f.code for f in ward.examine().findings}


# The server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Give a server that the tests of this file may configure."""
    with private_server(tmp_path_factory.mktemp("doctor")) as server:
        yield server


@pytest.fixture
def patient(own: EmbeddedServer) -> Iterator[Ward]:
    """Give a server whose settings are put back afterwards."""
    store = Store(own.url, name="test")
    with Redis.from_url(own.url) as redis:
        names = [name for name in server.SETTINGS if name != "save"]
        before = {name: redis.config_get(name)[name] for name in names}
        yield Ward(store, redis)
        for name, value in before.items():
            redis.config_set(name, value)
        for user in redis.acl_users():
            if user != "default":
                redis.acl_deluser(user)
        redis.flushall()
    store.close()


SETTINGS = [
    ("appendonly", "no", "aof_off", "problem"),
    ("appendfsync", "no", "aof_fsync_no", "warning"),
    ("no-appendfsync-on-rewrite", "yes", "aof_unsynced_rewrite", "warning"),
    ("maxmemory-policy", "allkeys-lru", "eviction", "warning"),
    ("timeout", "5", "timeout", "note"),
    ("tcp-keepalive", "0", "keepalive", "warning"),
]


@pytest.mark.parametrize(("name", "value", "code", "severity"), SETTINGS)
def test_an_unsafe_setting_is_found_and_what_is_said_mends_it(
    patient: Ward, name: str, value: str, code: str, severity: str
) -> None:
    assert code not in patient.found()
    patient.redis.config_set(name, value)
    finding = patient.found()[code]
    assert finding.severity == severity
    assert finding.why
    # The line that it gives is one that Redis takes.
    words = finding.todo.partition(",")[0].split()
    assert words[:3] == ["redis-cli", "CONFIG", "SET"]
    patient.redis.execute_command(*words[1:])
    assert code not in patient.found()


@pytest.mark.parametrize(
    ("policy", "severity"), [("allkeys-lru", "problem"), ("volatile-ttl", "warning")]
)
def test_eviction_is_a_problem_once_memory_has_an_end(
    patient: Ward, policy: str, severity: str
) -> None:
    patient.redis.config_set("maxmemory", 1 << 30)
    patient.redis.config_set("maxmemory-policy", policy)
    assert patient.found()["eviction"].severity == severity


def test_a_redis_that_is_nearly_full_is_a_problem(patient: Ward) -> None:
    used = patient.redis.info("memory")["used_memory"]
    patient.redis.config_set("maxmemory", int(used * 1.05))
    finding = patient.found()["memory"]
    assert finding.severity == "problem"
    assert "maxmemory" in finding.todo


def test_connections_that_run_out_are_a_problem(patient: Ward) -> None:
    used = patient.redis.info("clients")["connected_clients"]
    patient.redis.config_set("maxclients", used + 1)
    finding = patient.found()["clients"]
    assert "turned away" in finding.why


def test_commands_that_are_forbidden_are_named(patient: Ward, own: EmbeddedServer) -> None:
    patient.redis.execute_command(
        "ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-blmove", "-client|list", "-config"
    )
    store = Store(own.url.replace("://", "://bob:pw@"))
    bob = Ward(store, patient.redis)
    found = bob.found()
    assert found["forbidden"].found == "this user may not give 1 command: BLMOVE"
    assert found["forbidden"].severity == "problem"
    notes = [f.found for f in bob.examine().findings if f.code == "forbidden_helpful"]
    assert notes == ["this user may not give CLIENT LIST", "this user may not give CONFIG GET"]
    assert "no_consumer" not in found  # who is connected is not known
    assert "aof_unknown" not in found  # INFO says it
    store.close()


def test_a_user_who_may_not_look_at_keys_gets_the_rest(patient: Ward, own: EmbeddedServer) -> None:
    patient.redis.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-scan")
    patient.store.run(op.register("emails"))
    store = Store(own.url.replace("://", "://bob:pw@"))
    bob = Ward(store, patient.redis)
    assert "SCAN" in bob.found()["keys_unknown"].found.upper()
    assert set(bob.examine().snapshots) == {"emails", "queue"}
    store.close()


def test_without_scripts_the_server_is_looked_at_all_the_same(
    patient: Ward, own: EmbeddedServer
) -> None:
    patient.redis.execute_command(
        "ACL", "SETUSER", "bob", "on", ">pw", "~*", "+@all", "-@scripting"
    )
    store = Store(own.url.replace("://", "://bob:pw@"))
    found = Ward(store, patient.redis).found()
    assert "EVALSHA" in found["forbidden"].found
    assert "aof_off" not in found
    assert "it cannot be looked at" in found["unreadable"].found
    store.close()


def test_a_replica_is_a_problem_and_its_primary_shows_it(patient: Ward, tmp_path: Path) -> None:
    host, port = "127.0.0.1", patient.redis.connection_pool.connection_kwargs["port"]
    with private_server(tmp_path / "replica") as other, Redis.from_url(other.url) as replica:
        replica.replicaof(host, port)
        wait_until(
            lambda: patient.redis.info("replication").get("slave0", {}).get("state") == "online",
            what="the replica is online",
        )
        store = Store(other.url)
        finding = Ward(store, replica).found()["replica"]
        assert finding.found == f"this is a replica of {host}:{port}"
        store.close()
        found = {finding.code: finding for finding in patient.examine().findings}
        assert "up to date" in found["replica"].found
        assert found["min_replicas"].todo == "redis-cli CONFIG SET min-replicas-to-write 1"
        assert "no_replica" not in found


def test_a_clock_that_is_an_hour_off_is_found(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "now_ms", lambda: now_ms() + 3_610_000)
    assert ward.found()["clock"].found == "its clock is 60 min behind this machine's"


INFO = [
    ({"loading": "1", "loading_eta_seconds": "30"}, "loading", "problem"),
    ({"aof_last_write_status": "err"}, "aof_write_failed", "problem"),
    ({"aof_last_bgrewrite_status": "err"}, "aof_rewrite_failed", "warning"),
    ({"aof_rewrite_in_progress": "1"}, "aof_rewriting", "note"),
    ({"rdb_last_bgsave_status": "err"}, "save_failed", "warning"),  # saving is off there
    ({"cluster_enabled": "1"}, "cluster", "problem"),
    (
        {"connected_slaves": "1", "slave0": "ip=10.0.0.2,port=6379,state=online,lag=60"},
        "replica_behind",
        "warning",
    ),
    (
        {"connected_slaves": "1", "slave0": "ip=10.0.0.2,port=6379,state=wait_bgsave,lag=0"},
        "replica_behind",
        "warning",
    ),
    ({"used_memory": str(95 << 30), "total_system_memory": str(100 << 30)}, "memory", "problem"),
]


@pytest.mark.parametrize(("said", "code", "severity"), INFO)
def test_what_info_says_is_judged(
    ward: Ward, said: dict[str, str], code: str, severity: str
) -> None:
    facts = ward.store.follow(server.look())
    before = {finding.code for finding in server_checks.judge(facts) if finding.severity != "ok"}
    assert code not in before
    (finding,) = [
        finding
        for finding in server_checks.judge(replace(facts, info={**facts.info, **said}))
        if finding.code == code
    ]
    assert finding.severity == severity


def test_a_failed_save_stops_a_server_that_saves(ward: Ward) -> None:
    facts = ward.store.follow(server.look())
    facts = replace(
        facts,
        info={**facts.info, "rdb_last_bgsave_status": "err"},
        config={**facts.config, "save": "3600 1", "stop-writes-on-bgsave-error": "yes"},
    )
    (finding,) = [f for f in server_checks.judge(facts) if f.code == "save_failed"]
    assert finding.severity == "problem"


def test_no_advice_is_a_trap_when_it_is_pasted_into_a_shell(ward: Ward) -> None:
    name = "q;touch$IFS/tmp/pwned"
    k = keys_of(name)
    ward.enqueue(queue=name)
    ward.store.run(op.pause(k, paused=True))
    ward.redis.lpush(k.dead, "{}")
    ward.redis.lpush("stray$(id)", '{"task":"t"}')
    commands = [
        one.todo
        for one in ward.examine().findings
        if one.todo.startswith("headrace ") and "$" in one.todo
    ]
    assert len(commands) >= 4
    for one in commands:
        words = shlex.split(one.partition(", ")[0])
        assert any(name in word or "stray$(id)" in word for word in words), one
    explained = doctor.explain(ward.store.follow(doctor.look_for(name, "x", most=10)), QUICK)
    assert explained is not None
