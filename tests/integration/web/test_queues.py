"""GET /api/queues: every queue, counted in every place."""

from __future__ import annotations

import httpx
import pytest
from redis import Redis

from headrace import Headrace, ids
from headrace import operations as op
from headrace.keys import QUEUES
from headrace.store import AsyncStore
from tests.integration.web.client import K, error_of, kill_one


async def test_every_place_is_counted(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore
) -> None:
    for _ in range(3):
        await app.aenqueue("a")
    await kill_one(store, K, "max_attempts", ValueError("no"))
    await store.run(op.claim(K, 1, lease_ms=60_000, consumer="c", first=2))
    await app.aenqueue_many(
        [app.call_with("a", (), {}, {"delay": 60}), app.call_with("a", (), {}, {"priority": 1})]
    )
    await store.run(op.pause(K, paused=True))
    await store.run(op.command("LPUSH", "queue", '{"task": "a"}', parse=int))
    answer = (await api.get("/api/queues")).json()
    (queue,) = answer["queues"]
    assert 0 <= queue.pop("oldest_age_s") < 60
    assert answer["now_ms"] - 60_000 < queue.pop("oldest_at_ms") <= answer["now_ms"]
    assert queue.pop("next_due_at_ms") > answer["now_ms"]
    assert queue == {
        "queue": "queue", "paused": True, "pending": 2, "priority": 1, "delayed": 1, "limited": 0,
        "processing": 1, "dead": 1, "foreign": 1, "counters": {"enqueued": 5, "dead": 1},
    }  # fmt: skip


async def test_the_queues_of_the_application_are_there_before_anybody_used_them(
    api: httpx.AsyncClient, app: Headrace
) -> None:
    app.task(name="later", queue="emails")(print)
    names = [queue["queue"] for queue in (await api.get("/api/queues")).json()["queues"]]
    assert names == ["emails", "queue"]


@pytest.mark.parametrize("score", ["inf", "-inf", "1.5", "1e300"])
async def test_a_score_and_a_counter_of_a_joker_hide_no_queue(
    api: httpx.AsyncClient, redis: Redis, score: str
) -> None:
    redis.zadd("queue:delayed", {"{}": float(score)})
    redis.hset("queue:stats", mapping={"enqueued": "x", "done": "1.5", b"\xff": "1", "dead": 2})
    assert (await api.get("/metrics")).status_code == 200
    (queue,) = (await api.get("/api/queues")).json()["queues"]
    assert (queue["delayed"], queue["counters"]) == (1, {"dead": 2})
    assert queue["next_due_at_ms"] >= 0


async def test_one_queue_is_shown_alone(api: httpx.AsyncClient, app: Headrace) -> None:
    await app.aenqueue_many([app.call_with("a", (), {}, {"queue": "a/b"})])
    answer = (await api.get("/api/queues/a%2Fb")).json()
    assert (answer["queue"], answer["pending"]) == ("a/b", 1)


async def test_a_name_that_no_queue_can_have_hides_no_queue(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.sadd(QUEUES, "a b", "", "a:b", b"\xff", "ours")
    assert (await api.get("/metrics")).status_code == 200
    answer = await api.get("/api/queues")
    assert [queue["queue"] for queue in answer.json()["queues"]] == ["ours", "queue"]


@pytest.mark.parametrize("path", ["/api/queues/nobody", "/api/queues/nobody/jobs"])
async def test_a_queue_that_nobody_used_is_404(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert answer.status_code == 404
    assert error_of(answer) == "there is no queue 'nobody': there are queue"


@pytest.mark.parametrize(
    "job", ['{"task": "a"}', '{"id":"mine","task":"a"}', f'{{"id":"{"0" * 26}","task":"a"}}']
)
async def test_the_age_of_a_foreign_job_is_unknown(
    api: httpx.AsyncClient, redis: Redis, job: str
) -> None:
    redis.lpush("queue", job)
    answer = (await api.get("/api/queues/queue")).json()
    assert (answer["oldest_at_ms"], answer["oldest_age_s"]) == (None, None)


async def test_a_job_from_a_clock_that_is_ahead_has_no_negative_age(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.lpush("queue", f'{{"id":"v{ids.new_id()[1:]}","task":"a"}}')
    assert (await api.get("/api/queues/queue")).json()["oldest_age_s"] == 0


async def test_queues_come_in_pages(
    api: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.api.MAX_QUEUES_LISTED", 2)
    redis.sadd(QUEUES, "a", "b", "c")
    first = (await api.get("/api/queues")).json()
    assert ([q["queue"] for q in first["queues"]], first["next"]) == (["a", "b"], "b")
    second = (await api.get("/api/queues?after=b")).json()
    assert ([q["queue"] for q in second["queues"]], second["next"]) == (["c", "queue"], None)
