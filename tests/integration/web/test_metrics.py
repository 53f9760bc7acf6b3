"""GET /metrics: what Prometheus is told."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from headrace import Headrace, forgetting
from headrace import operations as op
from headrace.embedded.server import free_port
from headrace.keys import QUEUES, keys_of
from headrace.store import AsyncStore
from tests.integration.web.client import K, client_of, kill_one


async def scrape(api: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    answer = await api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    assert all(
        family.documentation.endswith(".") or ";" in family.documentation for family in families
    )
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_a_queue_is_measured_in_every_place(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore, redis: Redis
) -> None:
    for _ in range(3):
        await app.aenqueue("a")
    await kill_one(store, K, "max_attempts", ValueError("no"))
    assert await store.run(op.settle(K, "c", [op.Outcome("gone", 1, "done")])) == ["gone"]
    redis.lpush("queue", "{}")
    await store.run(op.pause(K, paused=True))
    found = await scrape(api)
    expected = {
        ("headrace_redis_up",): 1,
        ("headrace_maintenance_leader",): 0,
        ("headrace_jobs", "pending", "queue"): 3,
        ("headrace_jobs", "dead", "queue"): 1,
        ("headrace_jobs", "processing", "queue"): 0,
        ("headrace_enqueued_total", "queue"): 3,
        ("headrace_jobs_dead_total", "queue"): 1,
        ("headrace_jobs_done_total", "queue"): 0,
        ("headrace_stale_settles_total", "queue"): 1,
        ("headrace_foreign_jobs", "queue"): 1,
        ("headrace_queue_paused", "queue"): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert 0 <= found["headrace_oldest_job_age_seconds", "queue"] < 60


async def test_an_empty_queue_has_no_old_job_and_a_foreign_one_an_unknown_age(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    name = ("headrace_oldest_job_age_seconds", "queue")
    assert (await scrape(api))[name] == 0
    redis.lpush("queue", "{}")
    assert name not in await scrape(api)


async def test_a_collector_that_prefers_openmetrics_gets_it(api: httpx.AsyncClient) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    answer = await api.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_with_redis_away_the_scrape_says_so() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with client_of(Headrace(url), AsyncStore(url)) as api:
        assert await scrape(api) == {
            ("headrace_redis_up",): 0,
            ("headrace_queues_read",): 0,
            ("headrace_maintenance_leader",): 0,
        }


async def test_a_redis_that_is_slow_is_not_down(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.web.metrics._WITHIN_S", 0.0)
    found = await scrape(api)
    assert (found["headrace_redis_up",], found["headrace_queues_read",]) == (1, 0)


async def test_of_many_queues_the_largest_have_series_and_the_others_a_sum(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.sadd(QUEUES, *(f"q{n:03}" for n in range(300)))
    for n in range(300):
        redis.lpush(f"q{n:03}", *["{}"] * (1 + (n >= 250)))
        redis.hset(f"q{n:03}:stats", "done", 1)
    found = await scrape(api)
    jobs = {k[2]: v for k, v in found.items() if k[:2] == ("headrace_jobs", "pending")}
    assert len(jobs) == 101
    assert {f"q{n:03}" for n in range(250, 300)} < jobs.keys()
    assert sum(jobs.values()) == 350
    assert jobs["all others"] == 350 - 50 * 2 - 50
    done = {k[1]: v for k, v in found.items() if k[0] == "headrace_jobs_done_total"}
    assert (len(done), sum(done.values())) == (101, 300)
    assert len((await api.get("/api/v1/queues")).json()["queues"]) == 301


async def test_what_a_forgotten_queue_had_counted_stays_in_the_sum(
    api: httpx.AsyncClient, redis: Redis, store: AsyncStore
) -> None:
    redis.sadd(QUEUES, "gone")
    redis.hset("gone:stats", "done", 5)
    assert await store.follow(forgetting.forget([keys_of("gone")], 0)) == ["forgotten"]
    assert (await scrape(api))["headrace_jobs_done_total", "all others"] == 5
