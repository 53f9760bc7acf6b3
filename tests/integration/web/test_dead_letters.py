"""Dead letters over HTTP: looked at in pages, grouped, put back as they were or edited, deleted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from redis import Redis

from headrace import Headrace
from headrace import operations as op
from headrace.store import AsyncStore
from headrace.web.api import dead_letters
from tests.integration.web.client import error_of
from tests.support import invariants

URL = "/api/v1/dead-letters"


def die(redis: Redis, number: int, *, queue: str = "queue", **more: Any) -> dict[str, Any]:
    """Put a dead letter there, as consumers do."""
    error = {"reason": "max_attempts", "type": "OSError", "message": f"no route to host {number}"}
    letter = {"id": f"job{number}", "attempt": 3, "task": "send", "args": [number, "ü"]} | more
    letter["error"] = error | {"failed_at": 1_000 + number} | more.get("error", {})
    redis.lpush(f"{queue}:dlq", json.dumps(letter, separators=(",", ":")))
    redis.sadd("headrace:queues", queue)
    return letter


async def ids(api: httpx.AsyncClient, **asked: Any) -> list[str]:
    answer = await api.get(URL, params=asked)
    assert answer.status_code == 200, answer.text
    return [letter["id"] for letter in answer.json()["letters"]]


async def test_come_newest_first_and_page_by_page(api: httpx.AsyncClient, redis: Redis) -> None:
    for number in range(60):
        die(redis, number)
    seen: list[str] = []
    after = None
    while True:
        params = {"limit": 25} | ({"after": after} if after else {})
        page = (await api.get(URL, params=params)).json()
        seen += [letter["id"] for letter in page["letters"]]
        if (after := page["next"]) is None:
            break
    assert seen == [f"job{number}" for number in reversed(range(60))]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"task": "pay"}, ["job2"]),
        ({"reason": "timeout"}, ["job1"]),
        ({"text": "ü"}, ["job2", "job1", "job0"]),
        ({"text": "rabbit"}, ["job2"]),
        ({"task": "send", "reason": "max_attempts"}, ["job0"]),
        ({"task": "nobody"}, []),
    ],
)
async def test_are_found_by_what_they_are(
    api: httpx.AsyncClient, redis: Redis, asked: dict[str, str], found: list[str]
) -> None:
    die(redis, 0)
    die(redis, 1, error={"reason": "timeout"})
    die(redis, 2, task="pay", kwargs={"to": "rabbit"})
    assert await ids(api, **asked) == found


async def test_a_search_ends_and_says_where_to_go_on(
    api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_SEARCHED", 20)
    for number in range(50):
        die(redis, number)
    page = (await api.get(URL, params={"text": 'host 3"'})).json()
    assert page["letters"] == []
    assert page["next"]
    while page["next"] and not page["letters"]:
        page = (await api.get(URL, params={"text": 'host 3"', "after": page["next"]})).json()
    assert [letter["id"] for letter in page["letters"]] == ["job3"]


async def test_those_that_died_of_the_same_are_one_group(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    for number in range(5):
        die(redis, number)
    die(redis, 5, task="pay")
    redis.lpush("queue:dlq", "no job")
    answer = (await api.get(f"{URL}/groups")).json()
    assert answer["complete"]
    first = answer["groups"][0]
    assert (first["count"], first["task"], first["newest"]) == (5, "send", "job4")
    assert (first["first_failed_at_ms"], first["last_failed_at_ms"]) == (1_000, 1_004)
    assert first["error"]["message"] == "no route to host 4"
    assert [group["count"] for group in answer["groups"]] == [5, 1, 1]
    assert await ids(api, kind=first["kind"]) == [f"job{n}" for n in reversed(range(5))]


async def test_one_is_shown_whole(api: httpx.AsyncClient, redis: Redis) -> None:
    letter = die(redis, 1, error={"traceback": "line 1\nline 2"}, args=["<b>" * 500])
    shown = (await api.get(f"{URL}/job1")).json()
    assert shown["job"] == letter
    assert shown["traceback"] == "line 1\nline 2"
    assert len(shown["arguments"]) < 300
    missing = await api.get(f"{URL}/nobody")
    assert missing.status_code == 404
    assert "'nobody'" in error_of(missing)


class TestPutBack:
    async def test_by_their_ids(self, api: httpx.AsyncClient, redis: Redis) -> None:
        for number in range(3):
            die(redis, number)
        body = {"queue": "queue", "ids": ["job0", "job2", "nobody"]}
        answer = await api.post(f"{URL}/redrive", json=body)
        assert answer.json() == {"queue": "queue", "count": 2, "more": False}
        assert await ids(api) == ["job1"]
        # The oldest is the next one.
        jobs = [json.loads(job) for job in reversed(redis.lrange("queue", 0, -1))]
        assert jobs == [{"id": f"job{n}", "task": "send", "args": [n, "ü"]} for n in (0, 2)]
        invariants.check(redis, foreign=3)

    async def test_by_what_they_died_of(self, api: httpx.AsyncClient, redis: Redis) -> None:
        die(redis, 0)
        die(redis, 1, error={"reason": "timeout"})
        body = {"queue": "queue", "reason": "timeout"}
        assert (await api.post(f"{URL}/redrive", json=body)).json()["count"] == 1
        assert await ids(api) == ["job0"]

    async def test_so_many_at_a_time(
        self, api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dead_letters, "MOST_MOVED", 4)
        for number in range(10):
            die(redis, number)
        counts = []
        more = True
        while more:
            moved = (await api.post(f"{URL}/redrive", json={"queue": "queue", "all": True})).json()
            counts.append(moved["count"])
            more = moved["more"]
        assert counts == [4, 4, 2]

    async def test_with_other_arguments(self, api: httpx.AsyncClient, redis: Redis) -> None:
        die(redis, 1, timeout=9)
        answer = await api.post(f"{URL}/job1/redrive", json={"args": [2], "kwargs": {"a": None}})
        assert answer.json()["count"] == 1
        (job,) = redis.lrange("queue", 0, -1)
        expected = {"id": "job1", "task": "send", "args": [2], "timeout": 9, "kwargs": {"a": None}}
        assert json.loads(job) == expected

    async def test_as_it_was(self, api: httpx.AsyncClient, redis: Redis) -> None:
        die(redis, 1)
        assert (await api.post(f"{URL}/job1/redrive", json={})).json()["count"] == 1
        assert (await api.post(f"{URL}/job1/redrive", json={})).status_code == 404
        assert redis.llen("queue") == 1


async def test_are_deleted_when_it_is_said_which(api: httpx.AsyncClient, redis: Redis) -> None:
    for number in range(3):
        die(redis, number)
    refused = await api.post(f"{URL}/purge", json={"queue": "queue"})
    assert refused.status_code == 400
    assert '"all": true' in error_of(refused)
    answer = await api.post(f"{URL}/purge", json={"queue": "queue", "ids": ["job1"]})
    assert answer.json()["count"] == 1
    assert await ids(api) == ["job2", "job0"]
    answer = await api.post(f"{URL}/purge", json={"queue": "queue", "all": True})
    assert answer.json()["count"] == 2
    invariants.check(redis, foreign=3)


async def test_of_all_partitions_are_one_list(
    api: httpx.AsyncClient, redis: Redis, url: str, store: AsyncStore
) -> None:
    app = Headrace(url)
    app.partition_queue("queue", 3)
    for n in range(300):
        await app.aenqueue("t", n)
    await app.aclose()
    names = await store.run(op.queues())
    for number, name in enumerate(names):
        die(redis, number, queue=name)
    assert sorted(await ids(api)) == [f"job{n}" for n in range(len(names))]
    moved = await api.post(f"{URL}/redrive", json={"queue": "queue", "all": True})
    assert moved.json()["count"] == len(names) >= 3
