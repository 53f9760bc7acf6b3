"""What the doctor finds in queues and leaves to people."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace, chain, doctor, wire
from headrace import operations as op
from headrace.doctor import checkup, keyspace, queue_checks, server_checks
from headrace.doctor.finding import Check
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.moving import requests
from tests.integration.doctor.ward import QUICK, K, Ward, dump_of, id_of, lose_a_lease


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


def begin_a_workflow(ward: Ward) -> None:
    app = Headrace(queue="queue")
    app.producer().store = ward.store
    chain(app.call("t"), app.call("t")).enqueue()


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
    "workflows": (begin_a_workflow, "1 workflow is not over, the first began "),
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
    assert ward.repair() == []
    assert dump_of(ward.redis) == before


def test_a_job_that_moves_while_it_is_read_does_not_stand_twice(ward: Ward) -> None:
    ward.enqueue(20)
    flow, moved = doctor.check_up(["queue"], QUICK, sample=100), False
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
    findings = {finding.code: finding for finding in ward.check_up(sample=10).findings}
    assert findings["sample"].found == "of its jobs, 10 of 50 were read"


def test_a_walk_over_the_keys_that_ends_early_says_so(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyspace, "_MOST_KEYS", 0)
    assert ward.found()["keys_sample"].found == "of 1 keys, 0 were looked at"


def test_jobs_that_wait_for_long_beside_consumers_are_a_warning(
    ward: Ward, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.enqueue()
    with Redis.from_url(url, client_name=f"{CONNECTION_PREFIX}me") as consumer:
        consumer.ping()
        assert "waiting" in {finding.code for finding in ward.check_up().findings}
        monkeypatch.setattr(queue_checks, "_OLD_S", -1.0)
        assert ward.found()["old"].todo == "headrace info --watch queue"


def test_jobs_on_their_way_to_another_server_are_a_warning(ward: Ward) -> None:
    ward.enqueue(2)
    ward.store.run(requests.take(K, "batch"))
    moving = ward.found()["moving"]
    assert moving.found == "2 jobs are on the way to another server"
    assert moving.todo.startswith("headrace move queue --to URL")


def test_every_check_is_tested() -> None:
    tables = (vars(module).values() for module in (checkup, queue_checks, server_checks))
    rows = [
        row for values in tables for table in values if isinstance(table, tuple) for row in table
    ]
    codes = {row.code for row in rows if isinstance(row, Check) and row.severity != "ok"}
    assert len(codes) > 40
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert not {code for code in codes if not re.search(rf'"{code}[ "]', tests)}


def test_named_queues_are_examined_alone(ward: Ward) -> None:
    lose_a_lease(ward)
    assert "claim_without_lease" not in ward.found("emails")
    assert ward.repair("emails") == []
    assert "claim_without_lease" in ward.found("queue")


def test_a_queue_in_order_gives_no_problem(ward: Ward) -> None:
    ward.claim(5)
    ward.enqueue(due="+60000")
    ward.lead()
    assert {f.severity for f in ward.check_up().findings} == {"ok", "note"}
    assert "leader" in {f.code for f in ward.check_up().findings}


def test_no_advice_is_a_trap_when_it_is_pasted_into_a_shell(ward: Ward) -> None:
    name = "q;touch$IFS/tmp/pwned"
    k = keys_of(name)
    ward.enqueue(queue=name)
    ward.store.run(op.pause(k, paused=True))
    ward.redis.lpush(k.dead, "{}")
    ward.redis.lpush("stray$(id)", '{"task":"t"}')
    commands = [
        one.todo
        for one in ward.check_up().findings
        if one.todo.startswith("headrace ") and "$" in one.todo
    ]
    assert len(commands) >= 4
    for one in commands:
        words = shlex.split(one.partition(", ")[0])
        assert any(name in word or "stray$(id)" in word for word in words), one
    explained = doctor.explain(ward.store.follow(doctor.locate(name, "x", most=10)), QUICK)
    assert explained is not None
