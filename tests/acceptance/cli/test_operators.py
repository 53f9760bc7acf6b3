"""doctor, explain and audit on the command line, as operators and their programs use them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import RESULT, chain, wire
from headrace import Headrace as Application
from headrace import operations as op
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.store import Store
from headrace.workflows.keys import workflow_keys
from headrace.workflows.member import failure_of
from tests.support.commands import Headrace, environment
from tests.support.plain import PlainRedis
from tests.support.processes import ROOT, Process, clean_environment
from tests.support.wait import wait_until

K = keys_of("queue")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, name="test")
    store.run(op.register("queue"))
    yield store
    store.close()


def enqueue(store: Store, count: int = 1, **options: Any) -> list[str]:
    ids = [new_id() for _ in range(count)]
    jobs = [wire.assemble(i, wire.encode_call("echo", (), {})) for i in ids]
    store.run(op.enqueue(K, jobs, **options))
    return ids


def claim(store: Store, lease_ms: int = 60_000) -> str:
    """Enqueue a job and claim it for a consumer that is not there."""
    enqueue(store)
    (job,) = store.run(op.claim(K, 1, lease_ms=lease_ms, consumer="gone", first=1)).jobs
    parts = wire.split(job)
    assert parts is not None
    return parts[0].id


# doctor


def test_a_healthy_redis_gives_0_and_says_what_was_looked_at(headrace: Headrace) -> None:
    ran = headrace("doctor")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert re.match(r"(Redis|Valkey) [\d.]+ at redis://", lines[0])
    assert "  ok       the append-only file is on, at most 2 s are lost with the machine" in lines
    assert "queue queue  0 waiting, 0 processing, 0 delayed, 0 dead" in lines
    assert lines[-1].startswith("healthy: ")
    assert "\x1b" not in ran.out
    assert max(map(len, lines)) <= 80


def test_a_defect_gives_1_until_it_is_repaired(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    store.run(op.lead("leader", 60_000))
    redis.zrem(K.leases, claim(store))
    ran = headrace("doctor")
    assert ran.code == 1
    assert "  problem  1 claim in processing is without a lease" in ran.out
    assert "         → headrace doctor --repair" in ran.out
    assert "not healthy: 1 problem, " in ran.out
    assert "1 of these can be repaired by: headrace doctor --repair" in ran.out
    assert redis.zcard(K.leases) == 0  # it only looked
    mended = headrace("doctor", "--repair")
    assert mended.code == 0
    assert mended.out.splitlines()[:2] == [
        "repaired",
        "  queue: gave a lease to 1 claim without one",
    ]
    assert redis.zcard(K.leases) == 1
    again = headrace("doctor", HEADRACE_DOCTOR_REPAIR="1")
    assert again.code == 0
    assert again.out.startswith("Nothing to repair.\n")


def test_repair_gives_back_what_a_lost_consumer_held(
    headrace: Headrace, store: Store, redis: PlainRedis
) -> None:
    job_id = claim(store)
    redis.zadd(K.leases, {job_id: 1_000})
    ran = headrace("doctor", "queue", "--repair", "--json", "--lease", "0.5")
    done = [one["done"] for one in ran.json["mended"]]
    assert done[-1] == "1 job of lost consumers is runnable again"
    assert ran.code == 1  # and nobody is there to run it
    assert {f["code"] for f in ran.json["findings"] if f["severity"] == "problem"} == {
        "no_consumer"
    }
    assert job_id.encode() in redis.lindex("queue", 0)


def test_findings_as_json_are_for_programs(headrace: Headrace, store: Store, redis: Redis) -> None:
    redis.zrem(K.leases, claim(store))
    ran = headrace("doctor", "--json")
    found = ran.json
    assert ran.code == 1
    assert found["healthy"] is False
    assert found["server"]["engine"] in {"redis", "valkey"}
    assert found["counts"]["problem"] == sum(f["severity"] == "problem" for f in found["findings"])
    (finding,) = [f for f in found["findings"] if f["code"] == "claim_without_lease"]
    assert finding == {
        "severity": "problem",
        "code": "claim_without_lease",
        "found": "1 claim in processing is without a lease",
        "why": "If its consumer dies, such a job never runs again.",
        "todo": "",
        "queue": "queue",
        "mends": True,
    }


def test_warnings_count_when_they_are_told_to(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    redis.set(K.unique("x"), "1")
    assert headrace("doctor").code == 0
    assert headrace("doctor", "--strict").code == 1
    assert headrace("doctor", HEADRACE_DOCTOR_STRICT="true").code == 1


def test_a_queue_whose_keys_are_anothers_does_not_hide_the_rest(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    (job_id,) = enqueue(store)
    redis.sadd("headrace:queues", "mail")
    redis.set("mail:stats", "x")
    ran = headrace("doctor")
    assert "the key mail:stats is a string, and should be a hash" in ran.out
    assert "queue queue  1 waiting" in ran.out
    explained = headrace("explain", job_id)
    assert explained.code == 0
    assert "queue mail cannot be read" in explained.err
    audited = headrace("audit")
    assert audited.code == 1
    assert "see headrace doctor" in audited.err
    assert "queue  1 accepted = 1 pending + 0 done" in audited.out


# workflow


def test_a_workflow_is_shown_with_its_dead_members_and_cancelled(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    app = Application(queue="queue")
    app.producer().store = store
    flow = chain(app.call("echo", 1), app.call("echo", RESULT)).enqueue()
    ran = headrace("workflow", flow.id)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"workflow {flow.id} at home in queue queue",
        "  running: 0 of 2 members have ended, 1 wait or run",
    ]
    why = failure_of("crashed", "", "its consumer was lost", f"{flow.id}-000000", "queue")
    redis.hset(workflow_keys(K, flow.id).hash, mapping={"dead:0": why, "failed": 1})
    (dead,) = headrace("workflow", flow.id, "--json").json["failed"]
    assert (dead["n"], dead["reason"]) == (0, "crashed")
    assert f"{flow.id}-000000, is dead: crashed" in headrace("workflow", flow.id).out
    waits = headrace("explain", f"{flow.id}-000001").out
    assert "waiting in its workflow, for 1 other member of it" in waits
    assert f"It is member 1 of workflow {flow.id}, which is running" in " ".join(waits.split())
    assert headrace("workflow", flow.id, "--cancel").code == 0
    assert "cancelled: 0 of 2" in headrace("workflow", flow.id).out
    assert redis.llen(K.pending) == 0
    ran = headrace("workflow", "nosuch")
    assert ran.code == 1 and "nothing is known of workflow nosuch" in ran.err


# explain


def test_a_pending_job_is_explained(headrace: Headrace, store: Store) -> None:
    ids = enqueue(store, 20)
    ran = headrace("explain", ids[16])
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"job {ids[16]} in queue queue, task echo",
        "  pending, 17th of 20 that wait",
        "  No consumer is connected.",
        "→ headrace consume, with your application",
    ]


def test_an_explanation_as_json_is_for_programs(headrace: Headrace, store: Store) -> None:
    (job_id,) = enqueue(store)
    store.run(op.pause(K, paused=True))
    (one,) = headrace("explain", job_id, "--queue", "queue", "--json").json
    assert (one["id"], one["queue"], one["state"], one["task"]) == (
        job_id,
        "queue",
        "pending",
        "echo",
    )
    assert one["facts"]["position"] == 1
    assert one["facts"]["paused"] is True
    assert one["todo"] == "headrace resume queue"


def test_a_job_that_is_nowhere_gives_1(headrace: Headrace, store: Store) -> None:
    ran = headrace("explain", "nosuch", "queue")
    assert ran.code == 1
    assert "not in queue queue" in ran.out
    store.run(op.register("emails"))
    ran = headrace("explain", "nosuch")
    assert ran.code == 1
    assert "in none of the queues emails, queue" in ran.out
    assert [one["state"] for one in headrace("explain", "nosuch", "--json").json] == ["unknown"] * 2


def test_a_search_can_be_bounded(headrace: Headrace, store: Store) -> None:
    ids = enqueue(store, 30)
    ran = headrace("explain", ids[29], "--search", "10")
    assert ran.code == 1
    assert "not among the 10 jobs that were read, and queue queue has more" in ran.out
    assert f"headrace explain --search 0 --queue queue {ids[29]}" in ran.out
    assert headrace("explain", ids[29], "--search", "0").code == 0


# audit


def test_queues_that_add_up_give_0(headrace: Headrace, store: Store) -> None:
    enqueue(store, 3)
    enqueue(store, due="+60000")
    ran = headrace("audit")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "queue  4 accepted = 3 pending + 1 delayed + 0 done",
        "",
        "Every job is accounted for.",
    ]


def test_what_plain_clients_did_gives_1_unless_they_may(headrace: Headrace, redis: Redis) -> None:
    redis.lpush("queue", b'{"task": "echo"}')
    redis.sadd("headrace:queues", "emails")
    ran = headrace("audit")
    assert ran.code == 1
    assert ran.out.splitlines()[:3] == [
        "emails  0 accepted = 0 done",
        "queue   0 accepted + 1 foreign = 1 pending + 0 done",
        "total   0 accepted + 1 foreign = 1 pending + 0 done",
    ]
    assert "Plain clients brought 1" in ran.out
    assert headrace("audit", "--foreign-ok").code == 0
    assert headrace("audit", "emails").code == 0


def test_the_sum_as_json_is_for_programs(headrace: Headrace, store: Store, redis: Redis) -> None:
    enqueue(store, 2)
    redis.rpop("queue")
    ran = headrace("audit", "--json")
    assert ran.code == 1
    assert ran.json["adds_up"] is False
    (one,) = ran.json["queues"]
    assert one.pop("now_ms") > 0
    assert one.pop("queue") == "queue"
    assert one == ran.json["total"]
    assert (one["accepted"], one["foreign"], one["pending"]) == (2, -1, 1)


# On a terminal


def test_a_terminal_gets_colours_and_its_own_width(url: str, store: Store, redis: Redis) -> None:
    redis.zrem(K.leases, claim(store))
    ours, theirs = pty.openpty()
    env = {name: value for name, value in clean_environment().items() if name != "NO_COLOR"}
    env |= {"PYTHONPATH": str(ROOT / "src"), "HEADRACE_URL": url}
    env |= {"COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"}
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", "doctor"],
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.set_blocking(ours, False)

        def ended() -> bool:
            nonlocal shown
            done = process.poll() is not None
            with contextlib.suppress(OSError):  # nothing now, or it has ended
                while chunk := os.read(ours, 65_536):
                    shown += chunk
            return done

        wait_until(ended, "its end")
    os.close(ours)
    text = shown.decode()
    assert process.returncode == 1
    assert "\x1b[1;31m  problem" in text
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "").splitlines()
    assert "  problem  1 claim in processing is without a lease" in lines
    assert max(map(len, lines)) <= 80


# cancel


def test_jobs_that_wait_are_cancelled_wherever_they_are(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    (pending,), (delayed,), (urgent,) = (
        *(enqueue(store), enqueue(store, due="+600000")),
        [json.loads(headrace("produce", "echo", "-p", "5", "-q", "mail", "--json").out)["id"]],
    )
    ran = headrace("cancel", pending, delayed, urgent)
    assert (ran.code, ran.lines) == (0, [f"{i} is cancelled" for i in (pending, delayed, urgent)])
    places = ("queue", "queue:delayed", "mail:priority")
    assert [redis.exists(place) for place in places] == [0, 0, 0]
    assert redis.hget("queue:stats", "cancel") == b"2"


def test_a_job_that_runs_is_asked_to_stop(headrace: Headrace, store: Store) -> None:
    job_id = claim(store)
    ran = headrace("cancel", job_id)
    assert (ran.code, ran.lines) == (0, [f"{job_id} is running, and is asked to stop"])
    told = store.run(op.extend(K, "gone", [(job_id, 1)], lease_ms=60_000))
    assert told.cancelled == [job_id]


def test_a_job_that_is_not_there_cannot_be_cancelled(headrace: Headrace, store: Store) -> None:
    (job_id,) = enqueue(store)
    ran = headrace("cancel", job_id, "nosuch", "--json")
    assert (ran.code, ran.json) == (
        *(1, {"cancelled": [job_id], "requested": [], "missing": ["nosuch"]}),
    )
    assert "no job nosuch waits or runs in queue; headrace explain" in ran.err
    assert headrace("cancel", job_id, "--queue", "mail").code == 1


# consumers


def test_consumers_are_listed_with_what_they_hold(
    headrace: Headrace, store: Store, url: str, tmp_path: Path
) -> None:
    claim(store)
    command = [sys.executable, "-m", "headrace", "consume", "headrace.demo.tasks", "-Q", "mail"]
    consumer = Process(command, tmp_path / "log", env=environment(url))
    try:
        found: list[dict[str, Any]] = []

        def waits() -> bool:
            found[:] = headrace("consumers", "--json").json
            return any(one["waiting"] and one["leader"] for one in found)

        wait_until(waits, what="the consumer waits for work, and leads")
        gone, here = sorted(found, key=lambda one: one["name"] != "gone")
        assert (gone["name"], gone["connected_s"], gone["host"]) == ("gone", None, None)
        assert (gone["jobs"], gone["queues"]) == (1, {"queue": 1})
        assert (here["pid"], here["jobs"], here["queues"]) == (consumer.pid, 0, {})
        assert here["name"].startswith(f"{here['host']}-{consumer.pid}-")
        assert (here["address"], here["connected_s"] >= 0) == ("127.0.0.1", True)
        head, *lines = headrace("consumers").lines
        assert head.split() == ["consumer", "connected", "jobs", "queues", "state"]
        assert re.search(r"^gone +- +1 +queue +not connected$", "\n".join(lines), re.MULTILINE)
        assert re.search(r" s +0 +- +waiting, leads$", "\n".join(lines), re.MULTILINE)
    finally:
        consumer.end()


def test_without_consumers_the_list_is_empty(headrace: Headrace, store: Store) -> None:
    assert headrace("consumers", "--json").json == []


def test_a_lease_that_the_sweep_gave_is_nobodys(headrace: Headrace, redis: Redis) -> None:
    redis.sadd("headrace:queues", "queue")
    redis.hset("queue:claims", "a", b'- {"id":"a","task":"t","args":["x:y"]}')
    assert headrace("consumers", "--json").json == []
