"""``headrace dlq``: dead letters listed, shown, put back and deleted."""

from __future__ import annotations

import json

import msgspec
from redis import Redis

from headrace import wire
from headrace.ids import new_id
from headrace.store import Store
from tests.support.commands import Headrace
from tests.support.jobs import bury, jobs
from tests.support.plain import PlainRedis


def test_dead_letters_are_listed_newest_first(headrace: Headrace, store: Store) -> None:
    old = bury(store, "emails", failed_at=1_000)
    new = bury(store, "queue", "timeout", task="count", failed_at=2_000, message="a\x1b[2J\nb")
    head, first, second = headrace("dlq", "list").lines
    assert head.split() == ["id", "queue", "task", "reason", "age", "error"]
    assert first.split()[:4] == [new, "queue", "count", "timeout"]
    assert first.endswith(r"ValueError: a\x1b[2J")
    assert second.split()[:4] == [old, "emails", "send", "max_attempts"]


def test_dead_letters_are_listed_as_json(headrace: Headrace, store: Store) -> None:
    job_id = bury(store)
    assert headrace("dlq", "list", "--json").json == [
        {
            "queue": "queue",
            "id": job_id,
            "task": "send",
            "reason": "max_attempts",
            "type": "ValueError",
            "message": "no such user",
            "failed_at": 1_700_000_000_000,
            "consumer": "c-1",
        }
    ]
    assert headrace("dlq", "list", "other", "--json").json == []


def test_the_list_can_be_bounded_and_chosen(headrace: Headrace, store: Store) -> None:
    for number in range(3):
        bury(store, failed_at=number)
    late = bury(store, reason="timeout", failed_at=9)
    assert len(headrace("dlq", "list", "--limit", "2", "--json").json) == 2
    assert len(headrace("dlq", "list", "--limit", "0", "--json").json) == 4
    (only,) = headrace("dlq", "list", "--reason", "timeout", "--limit", "1", "--json").json
    assert only["id"] == late


def test_a_dead_letter_is_shown_whole(headrace: Headrace, store: Store, redis: PlainRedis) -> None:
    job_id = bury(store, "emails", arg={"to": "me"})
    shown = headrace("dlq", "show", job_id).out
    assert 'call      send({"to":"me"})' in shown
    assert "ValueError: no such user" in shown
    assert "Traceback (most recent call last):\n" in shown
    as_json = headrace("dlq", "show", job_id, "emails", "--json").json
    assert as_json == json.loads(redis.lindex("emails:dlq", 0))


def test_what_plain_clients_put_there_is_listed_and_shown(
    headrace: Headrace, redis: Redis, store: Store
) -> None:
    letter = wire.malformed_letter(
        b"\xff\xfe", wire.error_of("malformed", None, failed_at=1, consumer="c")
    )
    redis.lpush("queue:dlq", b"\xff\x00", b"[1]", b'{"task": 1, "id": [2]}', letter)
    ran = headrace("dlq", "list", "--json")
    assert ran.code == 0
    assert [(one["id"], one["reason"]) for one in ran.json[1:]] == [("", "")] * 3
    shown = headrace("dlq", "show", ran.json[0]["id"]).out
    assert "payload (base64)" in shown
    assert "//4=" in shown
    assert headrace("dlq", "list").code == 0
    assert headrace("dlq", "purge", "--all", "--yes").lines == ["4 dead letters purged"]


def test_a_dead_letter_that_is_not_there_is_a_failure(headrace: Headrace, store: Store) -> None:
    job_id = bury(store, "emails")
    for command in (("show", job_id, "queue"), ("show", "x"), ("redrive", job_id, "-q", "queue")):
        ran = headrace("dlq", *command)
        assert ran.code == 1
        assert f"no dead letter {command[1]} in" in ran.complaint


def test_dead_letters_are_put_back_by_id(
    headrace: Headrace, store: Store, redis: PlainRedis
) -> None:
    first, second, third = bury(store), bury(store), bury(store, "emails")
    ran = headrace("dlq", "redrive", first, third, "nosuch", "--json")
    assert ran.code == 1
    assert ran.json == {"redriven": 2, "missing": ["nosuch"]}
    assert [job["id"] for job in jobs(redis)] == [first]
    assert "error" not in jobs(redis)[0]
    assert [job["id"] for job in jobs(redis, "emails")] == [third]
    assert json.loads(redis.lindex("queue:dlq", 0))["id"] == second


def test_dead_letters_are_put_back_by_reason_or_all(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    ids = [bury(store), bury(store, reason="timeout"), bury(store)]
    assert headrace("dlq", "redrive", "--reason", "timeout").lines == ["1 dead letter redriven"]
    nothing = headrace("dlq", "redrive", "--reason", "timeout")
    assert (nothing.code, nothing.lines) == (1, ["0 dead letters redriven"])
    assert headrace("dlq", "redrive", "--all").lines == ["2 dead letters redriven"]
    assert headrace("dlq", "redrive", "--all").code == 0  # all of nothing
    assert [job["id"] for job in jobs(redis)] == [ids[1], ids[0], ids[2]]


def test_purge_without_a_person_deletes_nothing_unless_told(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    first, _, other = bury(store), bury(store), bury(store, "emails")
    assert headrace("dlq", "purge", "--all", stdin="y\n").code == 2
    assert redis.llen("queue:dlq") == 2
    ran = headrace("dlq", "purge", first, other, "-q", "queue", "-y")
    assert (ran.code, ran.lines) == (1, ["1 dead letter purged"])
    ran = headrace("dlq", "purge", "--all", "--queue", "queue", "--yes", "--json")
    assert (ran.code, ran.json) == (0, {"purged": 1, "missing": []})
    assert (redis.llen("queue:dlq"), redis.llen("emails:dlq")) == (0, 1)


def test_many_are_put_back_in_steps(headrace: Headrace, redis: Redis) -> None:
    error = msgspec.json.encode({"reason": "timeout"}).decode()
    letters = [f'{{"id":"{new_id()}","task":"t","error":{error}}}' for _ in range(1_234)]
    redis.lpush("queue:dlq", *letters)
    assert headrace("dlq", "redrive", "--all").lines == ["1,234 dead letters redriven"]
    assert redis.llen("queue") == 1_234


def test_an_empty_name_is_not_all_queues(headrace: Headrace, store: Store, redis: Redis) -> None:
    bury(store)
    for command in (("dlq", "purge", "--all", "--yes"), ("dlq", "list"), ("cancel", "x")):
        ran = headrace(*command, "--queue", "")
        assert "'' cannot be a queue's name" in ran.complaint
        assert (ran.code, ran.out) == (2, "")
    assert redis.llen("queue:dlq") == 1


def test_an_empty_id_is_no_dead_letter_without_one(headrace: Headrace, redis: Redis) -> None:
    redis.lpush("queue:dlq", b"[1]")
    ran = headrace("dlq", "purge", "", "--yes")
    assert "say which dead letters" in ran.complaint
    assert (ran.code, redis.llen("queue:dlq")) == (2, 1)
