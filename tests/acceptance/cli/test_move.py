"""``headrace move``, without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.keys import keys_of
from headrace.moving import requests
from headrace.store import Store
from tests.support.clusters import Cluster
from tests.support.commands import Headrace, starting
from tests.support.jobs import bury
from tests.support.wait import WAIT_S, wait_until

EMAILS = keys_of("emails")


@pytest.fixture
def elsewhere(server: EmbeddedServer) -> str:
    """Give the URL of another database of the test's server."""
    return f"{server.url.removesuffix('/0')}/1"


def test_a_queue_moves_with_its_delays_and_dead_letters(
    headrace: Headrace, store: Store, elsewhere: str
) -> None:
    bury(store, "emails")
    headrace("produce", "echo", "-n", "3", "--queue", "emails")
    headrace("produce", "echo", "--delay", "60", "--queue", "emails")
    ran = headrace("move", "emails", "--to", elsewhere)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == [f"5 jobs moved to {elsewhere} (3 pending, 1 dead, 1 delayed)"]
    (there,) = headrace("info", "emails", "--json", url=elsewhere).json["queues"]
    assert (there["waiting"], there["delayed"], there["dead"]) == (3, 1, 1)
    assert headrace("audit", "emails").code == 0
    assert headrace("audit", "emails", url=elsewhere).code == 0


def test_it_says_in_json_what_was_moved(headrace: Headrace, cluster: Cluster) -> None:
    headrace("produce", "echo", "-n", "3")
    ran = headrace("move", "queue", "--to", cluster.url, "--json")
    assert ran.json == {"queue": "queue", "to": cluster.url, "moved": {"pending": 3}, "left": 0}
    assert "3" in headrace("info", "queue", url=cluster.url).lines[-1]


def test_it_waits_for_jobs_that_consumers_have(
    url: str, store: Store, redis: Redis, elsewhere: str, tmp_path: Path
) -> None:
    job = b'{"id":"a","task":"echo"}'
    store.run(op.enqueue(EMAILS, [job]))
    store.run(op.claim(EMAILS, 1, lease_ms=60_000, consumer="me", first=1))
    process = starting(tmp_path, "move", "emails", "--to", elsewhere, url=url)
    wait_until(lambda: "waiting for 1 job" in process.output, "it waits")
    assert "nobody looks after those of lost consumers" in process.output
    store.run(op.settle(EMAILS, "me", [op.Outcome("a", 1, "release")]))
    assert process.popen.wait(WAIT_S) == 0
    with Redis.from_url(elsewhere) as there:
        assert there.lrange("emails", 0, -1) == [b'{"id":"a","delivery":1,"task":"echo"}']


def test_running_jobs_may_be_left(headrace: Headrace, store: Store, elsewhere: str) -> None:
    store.run(op.enqueue(EMAILS, [b'{"id":"a","task":"echo"}', b'{"id":"b","task":"echo"}']))
    store.run(op.claim(EMAILS, 1, lease_ms=60_000, consumer="me", first=1))
    ran = headrace("move", "emails", "--to", elsewhere, "--leave-running")
    assert ran.lines[0] == f"1 job moved to {elsewhere} (1 pending)"
    assert ran.lines[1].startswith("1 job is still there: run this again")


def test_what_is_on_its_way_is_seen_by_doctor_and_explain_and_goes_on(
    headrace: Headrace, store: Store, elsewhere: str
) -> None:
    store.run(op.register("emails"))
    store.run(op.enqueue(EMAILS, [b'{"id":"a","task":"echo"}']))
    store.run(requests.take(EMAILS, "batch"))
    assert "1 job is on the way to another server" in headrace("doctor", "emails").out
    explained = headrace("explain", "a", "emails").out
    assert "moving: on the way to another server" in explained
    assert headrace("audit", "emails").code == 0
    ran = headrace("move", "emails", "--to", elsewhere)
    assert ran.lines == [f"1 job moved to {elsewhere} (1 pending)"]
    assert "pending, 1st" in headrace("explain", "a", "emails", url=elsewhere).out


def test_what_is_on_its_way_is_put_back(headrace: Headrace, store: Store, redis: Redis) -> None:
    store.run(op.enqueue(EMAILS, [b'{"id":"a","task":"echo"}']))
    store.run(requests.take(EMAILS, "batch"))
    assert headrace("move", "emails", "--back").lines == ["1 job put back"]
    assert redis.lrange("emails", 0, -1) == [b'{"id":"a","task":"echo"}']
    assert headrace("move", "emails", "--back").lines == ["0 jobs put back"]


def test_schedules_that_stay_are_named(headrace: Headrace, redis: Redis, elsewhere: str) -> None:
    headrace("schedule", "add", "beat", "echo", "--every", "3600", "--queue", "emails")
    headrace("produce", "echo", "--queue", "emails")
    ran = headrace("move", "emails", "--to", elsewhere)
    assert "1 schedule is not moved" in ran.lines[-1]


def test_what_makes_no_sense_is_refused(headrace: Headrace, redis: Redis, elsewhere: str) -> None:
    for arguments, said in (
        ((), "say where the queue goes"),
        (("--to", elsewhere, "--back"), "say where the queue goes"),
        (("--to", "http://there"), "redis://"),
        (("--to", elsewhere), "there is no queue emails"),
    ):
        ran = headrace("move", "emails", *arguments)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert said in ran.err


def test_a_queue_does_not_move_to_where_it_is(headrace: Headrace, url: str, redis: Redis) -> None:
    headrace("produce", "echo", "--queue", "emails")
    ran = headrace("move", "emails", "--to", url)
    assert ran.code == 2
    assert "one server" in ran.err
    assert redis.llen("emails") == 1


def test_a_server_that_is_not_there_is_said_and_nothing_is_taken(
    headrace: Headrace, redis: Redis
) -> None:
    headrace("produce", "echo", "--queue", "emails")
    ran = headrace("move", "emails", "--to", "redis://127.0.0.1:1/0")
    assert ran.code == 1
    assert "no Redis at redis://127.0.0.1:1/0" in ran.err
    assert redis.llen("emails") == 1
