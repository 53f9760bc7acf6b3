"""POST /api/v1/jobs: what is accepted, what is refused, and what a lost answer means."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from headrace import Headrace
from headrace.embedded.server import free_port
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.web.limits import MAX_BODY
from headrace.web.shapes import MAX_JOBS
from tests.integration.web.client import client_of, error_of
from tests.support.plain import PlainRedis


async def test_a_job_stands_in_the_list_as_the_wire_says(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    sent = {"task": "echo", "args": ["hi", 1 << 80, 0.1], "kwargs": {"to": {"a": None}}}
    answer = await api.post("/api/v1/jobs", json=sent)
    assert answer.status_code == 202
    job_id = answer.json()["id"]
    assert answer.json() == {"id": job_id, "queue": "queue"}
    assert [json.loads(job) for job in redis.lrange("queue", 0, -1)] == [{"id": job_id, **sent}]


async def test_an_array_is_many_jobs_in_its_order(api: httpx.AsyncClient, redis: Redis) -> None:
    sent = [{"task": "echo", "args": [i]} for i in range(1_500)]
    answer = await api.post("/api/v1/jobs", json=sent)
    assert answer.status_code == 202
    accepted = [job["id"] for job in answer.json()["jobs"]]
    stored = [json.loads(job) for job in reversed(redis.lrange("queue", 0, -1))]
    assert [job["id"] for job in stored] == accepted
    assert [job["args"] for job in stored] == [[i] for i in range(1_500)]


async def test_no_jobs_are_none(api: httpx.AsyncClient) -> None:
    answer = await api.post("/api/v1/jobs", json=[])
    assert (answer.status_code, answer.json()) == (202, {"jobs": []})


async def test_a_second_job_with_a_key_is_rejected_or_replaces_the_first(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    sent = {"task": "mail", "key": "k", "if_exists": "reject"}
    first, second = [await api.post("/api/v1/jobs", json=sent) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 409)
    assert first.json()["id"] in second.json()["detail"]
    third = await api.post(
        "/api/v1/jobs", json=sent | {"if_exists": "replace", "key_until": "start"}
    )
    (job,) = redis.lrange("queue", 0, -1)
    assert json.loads(job)["id"] == third.json()["id"]
    assert (await api.post("/api/v1/jobs", json=sent | {"if_exists": "skip"})).status_code == 400


async def test_options_are_those_of_the_python_api(api: httpx.AsyncClient, redis: Redis) -> None:
    sent = {
        "task": "mail", "queue": "emails", "at": 4_000_000_000, "priority": 5, "timeout": 2.5,
        "max_attempts": 7, "result_ttl": 60, "key": "k", "key_ttl": 60, "delay": None, "headers": {"a": "b"},
    }  # fmt: skip
    first, second = (
        await api.post("/api/v1/jobs", json=sent),
        await api.post("/api/v1/jobs", json=sent),
    )
    assert first.json()["queue"] == "emails"
    assert first.json() == second.json(), "a second job with the key is the first one"
    (entry,) = redis.zrange(keys_of("emails").delayed, 0, -1, withscores=True)
    job, due_ms = cast("tuple[bytes, float]", entry)
    assert due_ms == 4_000_000_000_000
    assert json.loads(job) == {
        "id": first.json()["id"], "priority": 5, "task": "mail",
        "timeout": 2.5, "max_attempts": 7, "result_ttl": 60, "headers": {"a": "b"}, "due": "@4000000000000",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"task": "echo", "colour": "red"}', "`colour`"),
        (b'[{"task": "echo"}, {"task": "echo", "arg": []}]', "`arg` - at `$[1]`"),
        (b'{"args": []}', "`task`"),
        (b'{"task": ""}', "$.task"),
        (b'{"task": 1}', "$.task"),
        (b'{"task": "echo", "args": {}}', "$.args"),
        (b'{"task": "echo", "priority": 101}', "from -100 to 100"),
        (b'{"task": "echo", "delay": -1}', "0 or more"),
        (b'{"task": "echo", "delay": 1, "at": 1}', "not both"),
        (b'{"task": "echo", "queue": "a b"}', "cannot be a queue's name"),
        (b'{"task": "echo", "queue": ""}', "$.queue"),
        (b'{"task": "echo", "priority": 1.5}', "must be a whole number"),
        (b'{"task": "echo", "priority": true}', "$.priority"),
        (b'[{"task": "echo"}, {"task": "echo", "queue": "a:b"}]', "job 1: "),
        (b'{"task": "add", "args": [1]}', "missing a required argument: 'b'"),
        (b'{"task": "echo", "args": [1e400]}', "out of range"),
        (b'{"task": "echo", "args": ["\xff"]}', "utf-8"),
        (b'{"task": "echo", "args": ' + b"[" * 100_000, "recursion"),
        (b'"echo"', "Expected"),
        (b"", "truncated"),
        (b"task=echo", "malformed"),
    ],
)
async def test_what_cannot_be_a_job_is_refused_by_name_and_nothing_is_enqueued(
    api: httpx.AsyncClient, redis: Redis, body: bytes, says: str
) -> None:
    answer = await api.post(
        "/api/v1/jobs", content=body, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert answer.status_code == 400
    assert says.lower() in error_of(answer).lower()
    assert redis.dbsize() == 0


async def test_a_whole_number_may_be_written_as_5_0(
    api: httpx.AsyncClient, redis: PlainRedis
) -> None:
    sent = b'{"task": "a", "priority": 5.0, "max_attempts": 7.0}'
    kind = {"content-type": "application/json"}
    assert (await api.post("/api/v1/jobs", content=sent, headers=kind)).status_code == 202
    (job,) = redis.zrange("queue:priority", 0, -1)
    assert job.endswith(b',"priority":5,"task":"a","max_attempts":7}')


async def test_a_job_over_the_limit_is_too_large(api: httpx.AsyncClient) -> None:
    answer = await api.post("/api/v1/jobs", json={"task": "echo", "args": ["x" * (1 << 20)]})
    assert answer.status_code == 413
    assert "limit" in error_of(answer)


async def test_too_many_jobs_are_too_many(api: httpx.AsyncClient) -> None:
    answer = await api.post("/api/v1/jobs", json=[{"task": "a"}] * (MAX_JOBS + 1))
    assert answer.status_code == 413
    assert "10,000 at a time" in error_of(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join([b'{"task":"a"}'] * 645_000) + b"]",
        b'{"task":"a","args":[' + b",".join([b"{}"] * 2_500_000) + b"]}",
    ],
    ids=["jobs", "arguments"],
)
async def test_what_is_too_much_is_not_made_into_objects_first(
    api: httpx.AsyncClient, body: bytes
) -> None:
    tracemalloc.start()
    try:
        answer = await api.post(
            "/api/v1/jobs", content=body, headers={"content-type": "application/json"}
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert "limit" in error_of(answer) or "10,000 at a time" in error_of(answer)
    assert peak < 6 * len(body)  # the body itself, a few times


async def test_arguments_of_a_wrong_kind_are_said(api: httpx.AsyncClient) -> None:
    wrong: list[dict[str, Any]] = [{"args": {}}, {"args": None}, {"kwargs": []}]
    for given in wrong:
        answer = await api.post("/api/v1/jobs", json=[{"task": "a"}, {"task": "a", **given}])
        assert answer.status_code == 400
        assert "job 1: the body is no job" in error_of(answer)


async def test_a_body_without_end_is_cut_off_at_the_limit(api: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    answer = await api.post(
        "/api/v1/jobs", content=endless(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert "over 8,388,608 bytes" in error_of(answer)
    assert sent <= MAX_BODY + 2 * (1 << 16)


async def test_a_full_queue_is_429(api: httpx.AsyncClient, redis: Redis) -> None:
    redis.lpush("queue", *["{}"] * 1_999)
    assert (await api.post("/api/v1/jobs", json={"task": "a"})).status_code == 202
    answer = await api.post("/api/v1/jobs", json={"task": "a"})
    assert answer.status_code == 429
    assert "its bound" in error_of(answer)
    assert answer.json()["accepted"] == []


async def test_with_redis_away_nothing_was_accepted() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    app = Headrace(url)
    async with client_of(app, AsyncStore(url)) as api:
        answer = await api.post("/api/v1/jobs", json={"task": "a"})
        assert answer.status_code == 503
        assert "Start one" in error_of(answer)
        assert answer.json()["may_have_been_accepted"] is False
        assert (await api.get("/api/v1/queues")).status_code == 503
        assert (await api.get("/api/v1/jobs/x")).status_code == 503
        assert (await api.get("/api/v1/queues/queue/jobs")).status_code == 503


async def test_with_the_answer_lost_the_job_may_have_been_accepted() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (command := await reader.read(1 << 16)) and b"EVALSHA" not in command:
            asked = b"HMGET" in command  # whether the queue is divided
            writer.write(b"*1\r\n$-1\r\n" if asked else b"+OK\r\n" * command.count(b"*"))
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        store = AsyncStore(url)
        async with client_of(Headrace(url), store) as api:
            answer = await api.post("/api/v1/jobs", json={"task": "a"})
        await store.close()
    assert answer.status_code == 503
    assert "was lost" in error_of(answer)
    assert answer.json()["may_have_been_accepted"] is True


async def test_no_queues_are_made_without_bound(
    api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.reader._UNASKED", 0)
    monkeypatch.setattr("headrace.web.reader.MOST_QUEUES", 3)
    assert (await api.post("/api/v1/jobs", json={"task": "a", "queue": "b"})).status_code == 202
    both = [{"task": "a", "queue": "c"}, {"task": "a", "queue": "d"}]
    answer = await api.post("/api/v1/jobs", json=both)
    assert answer.status_code == 429
    assert "'c' would be a new one" in answer.json()["detail"]
    assert not redis.exists("c", "d")
    assert (await api.post("/api/v1/jobs", json={"task": "a", "queue": "b"})).status_code == 202
