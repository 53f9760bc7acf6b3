"""GET /api/v1/queues/…/jobs and /api/v1/jobs/…: the first jobs of a place, and where a job is."""

from __future__ import annotations

import json

import httpx
import pytest
from redis import Redis

from headrace import Headrace, wire
from headrace import operations as op
from headrace.keys import keys_of
from headrace.reports import progress
from headrace.store import AsyncStore
from tests.integration.web.client import K, error_of, kill_one
from tests.support.wait import await_until


async def test_the_next_jobs_of_a_list_are_shown_cut(api: httpx.AsyncClient, app: Headrace) -> None:
    for i in range(4):
        await app.aenqueue("echo", i, "ü" * 1_000, n={"x": [1]})
    answer = (await api.get("/api/v1/queues/queue/jobs?limit=2")).json()
    assert (answer["place"], answer["key"], len(answer["jobs"])) == ("pending", "queue", 2)
    first = answer["jobs"][0]
    assert first["task"] == "echo"
    assert first["arguments"].startswith('0,"üü')
    assert first["arguments"].endswith("ü…")
    assert len(first["arguments"].encode()) < 250
    assert first["bytes"] > 2_000
    assert first["id"]
    assert first["made_at_ms"]


async def test_named_arguments_are_shown_by_name(api: httpx.AsyncClient, app: Headrace) -> None:
    await app.aenqueue("echo", 1, "b", n={"x": [1]}, m=None)
    (job,) = (await api.get("/api/v1/queues/queue/jobs")).json()["jobs"]
    assert job["arguments"] == '1,"b", n={"x":[1]}, m=null'


@pytest.mark.parametrize("place", ["delayed", "priority"])
async def test_jobs_that_wait_elsewhere_are_shown_too(
    api: httpx.AsyncClient, app: Headrace, place: str
) -> None:
    options = {"delayed": {"delay": 60}, "priority": {"priority": 3}}[place]
    await app.aenqueue_many([app.call_with("a", (), {}, options)])  # type: ignore[arg-type]
    answer = (await api.get(f"/api/v1/queues/queue/jobs?place={place}")).json()
    assert answer["key"] == f"queue:{place}"
    assert [job["task"] for job in answer["jobs"]] == ["a"]


async def test_a_dead_letter_says_why(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore
) -> None:
    await app.aenqueue("a")
    await kill_one(store, K, "max_attempts", ValueError("no" * 1_000))
    (job,) = (await api.get("/api/v1/queues/queue/jobs?place=dead")).json()["jobs"]
    message = job["error"].pop("message")
    assert message.startswith("nono")
    assert len(message) == 201
    assert job["error"] == {"reason": "max_attempts", "type": "ValueError", "failed_at_ms": 1}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"not json", "not json"),
        (b"\xff\xfe{", "\ufffd\ufffd{"),
        (b"", ""),
        (b"[1]", "[1]"),
        (b'{"args":[1]}', '{"args":[1]}'),
        (b'{"task":3}', '{"task":3}'),
    ],
)
async def test_what_is_no_job_is_shown_as_it_is(
    api: httpx.AsyncClient, redis: Redis, raw: bytes, shown: str
) -> None:
    redis.lpush("queue", raw)
    letter = wire.malformed_letter(raw, wire.Error("malformed"))
    redis.lpush("queue:dlq", letter)
    (job,) = (await api.get("/api/v1/queues/queue/jobs")).json()["jobs"]
    assert (job["id"], job["task"], job["arguments"]) == (None, None, shown)
    (dead,) = (await api.get("/api/v1/queues/queue/jobs?place=dead")).json()["jobs"]
    assert (dead["task"], dead["arguments"]) == (None, shown)
    assert dead["error"]["reason"] == "malformed"


async def test_a_letter_that_holds_nonsense_is_shown_all_the_same(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.lpush("queue:dlq", '{"id":"x","error":{"reason":"malformed","payload_base64":"x"}}')
    redis.lpush("queue:dlq", '{"id":"y","task":"a","error":"no object"}')
    jobs = (await api.get("/api/v1/queues/queue/jobs?place=dead")).json()["jobs"]
    assert [(job["id"], job["error"] and job["error"]["reason"]) for job in jobs] == [
        ("y", None),
        ("x", "malformed"),
    ]


@pytest.mark.parametrize(
    "asks",
    [
        "place=done",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1e9",
        "limit=%D9%A3",
        f"limit={'9' * 5_000}",
        f"limit={'0' * 5_000}",
        "limit=0000000010000000",
    ],
)
async def test_a_question_without_meaning_is_400(api: httpx.AsyncClient, asks: str) -> None:
    answer = await api.get(f"/api/v1/queues/queue/jobs?{asks}")
    assert answer.status_code == 400
    assert error_of(answer).startswith(asks[:6])


async def test_of_large_jobs_fewer_are_read_than_were_asked_for(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    small, large = b'{"task":"s"}', json.dumps({"task": "l", "args": ["x" * 1_000_000]})
    redis.rpush("queue", *[large] * 100, *[small] * 12)
    before = redis.info("stats")["total_net_output_bytes"]
    jobs = (await api.get("/api/v1/queues/queue/jobs?limit=100")).json()["jobs"]
    assert [job["task"] for job in jobs] == ["s"] * 12 + ["l"] * 3
    assert redis.info("stats")["total_net_output_bytes"] - before < 6_000_000


@pytest.mark.parametrize("place", ["pending", "processing", "dead", "delayed", "priority"])
async def test_a_place_is_read_in_its_order_and_to_its_end(
    api: httpx.AsyncClient, app: Headrace, redis: Redis, place: str
) -> None:
    made = [b'{"id":"j%02d","task":"a"}' % i for i in range(23)]
    key = getattr(K, "dead" if place == "dead" else place)
    if place in {"delayed", "priority"}:
        redis.zadd(key, {job: i for i, job in enumerate(made)})
    elif place == "dead":
        redis.lpush(key, *reversed(made))
    else:
        redis.lpush(key, *made)
    for limit in (1, 5, 7, 23, 100):
        url = f"/api/v1/queues/queue/jobs?place={place}&limit={limit}"
        jobs = (await api.get(url)).json()["jobs"]
        assert [job["id"] for job in jobs] == [f"j{i:02}" for i in range(min(limit, 23))]
    assert (jobs[3]["due_at_ms"] == 3) == (place == "delayed")


async def test_a_claimed_job_shows_whose_it_is(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore, redis: Redis
) -> None:
    await app.aenqueue("a")
    await store.run(op.claim(K, 1, lease_ms=60_000, consumer="web1-c", first=7))
    redis.lpush("queue:processing", b'{"task":"bare"}')
    jobs = (await api.get("/api/v1/queues/queue/jobs?place=processing")).json()["jobs"]
    assert [(job["task"], job["consumer"]) for job in jobs] == [("a", "web1-c"), ("bare", None)]
    seen, bare = (job["seen_at_ms"] for job in jobs)
    assert bare is None
    again = (await api.get("/api/v1/queues/queue/jobs?place=processing")).json()["jobs"]
    assert again[0]["seen_at_ms"] == seen  # of the same claim; another one is seen anew
    await store.run(op.settle(K, "web1-c", [op.Outcome(jobs[0]["id"], 7, "release")]))
    await store.run(op.claim(K, 1, lease_ms=60_000, consumer="web1-c", first=8))
    await await_until(lambda: redis.time() > (seen // 1000, seen % 1000 * 1000 + 999), what="a ms")
    anew = (await api.get("/api/v1/queues/queue/jobs?place=processing")).json()["jobs"]
    assert max(job["seen_at_ms"] or 0 for job in anew) > seen


async def test_a_running_job_shows_how_far_it_is(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore
) -> None:
    job = await app.aenqueue("a")
    await store.run(op.claim(K, 1, lease_ms=60_000, consumer="web1-c", first=7))
    assert (await api.get(f"/api/v1/jobs/{job.id}")).json()["progress"] is None
    told = progress.Told(job.id, 7, progress.Progress(1, 4, "loading"))
    assert await store.run(progress.tell(K, "web1-c", [told])) == []
    shown = (await api.get(f"/api/v1/jobs/{job.id}")).json()["progress"]
    at_ms = shown.pop("at_ms")
    says = "1 of 4 (25 %): loading"
    assert shown == {"done": 1, "total": 4, "note": "loading", "says": says}
    (listed,) = (await api.get("/api/v1/queues/queue/jobs?place=processing")).json()["jobs"]
    assert listed["progress"] == shown | {"at_ms": at_ms}


async def test_texts_of_any_length_are_shown_cut(api: httpx.AsyncClient, redis: Redis) -> None:
    long = "n" * 1_000_000
    error = {"reason": long, "type": long, "message": long, "failed_at": 1}
    redis.lpush("queue:dlq", json.dumps({"id": "x", "task": long, "error": error}))
    redis.hset("queue:stats", long, 1)
    answer = await api.get("/api/v1/queues/queue/jobs?place=dead")
    assert len(answer.content) < 2_000
    (job,) = answer.json()["jobs"]
    assert {len(job["task"]), len(job["error"]["reason"]), len(job["error"]["type"])} == {201}
    assert len((await api.get("/api/v1/queues/queue")).content) < 2_000


async def test_a_jobs_state_is_told(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore
) -> None:
    job = (await app.aenqueue_many([app.call_with("a", (), {}, {"queue": "other"})]))[0]
    path = f"/api/v1/jobs/{job.id}?queue=other"
    answer = (await api.get(path)).json()
    assert answer == {"id": job.id, "queue": "other", "state": "pending", "progress": None}
    await store.run(op.claim(keys_of("other"), 1, lease_ms=9_000, consumer="c", first=1))
    assert (await api.get(path)).json()["state"] == "processing"


@pytest.mark.parametrize("job_id", ["a%20b", "x%0A", "%0A", "%C3%BC", "x" * 129, ""])
async def test_what_can_be_no_jobs_id_is_400(api: httpx.AsyncClient, job_id: str) -> None:
    answer = await api.get(f"/api/v1/jobs/{job_id}")
    assert answer.status_code == 400
    assert "is no job's id" in error_of(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs/x?queue=a:b",
        "/api/v1/jobs/x?queue=",
        "/api/v1/events?queue=a:b",
        "/?queue=a:b",
    ],
)
async def test_a_queue_that_cannot_be_is_400(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert answer.status_code == 400
    assert "cannot be a queue's name" in error_of(answer)
