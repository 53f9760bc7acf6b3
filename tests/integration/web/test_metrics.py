"""GET /metrics: what Prometheus is told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from headrace import Headrace, forgetting
from headrace import operations as op
from headrace.embedded.server import free_port
from headrace.keys import LEADER, QUEUES, keys_of
from headrace.store import AsyncStore
from headrace.timings import requests, tally
from headrace.timings.keys import SLOTS
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


async def test_of_many_queues_the_first_by_name_have_series_on_each_server_and_the_others_a_sum(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore, redis: Redis
) -> None:
    redis.sadd(QUEUES, *(f"q{n:03}" for n in range(300)))
    for n in range(300):
        redis.lpush(f"q{n:03}", *["{}"] * (1 + (n >= 250)))
        redis.hset(f"q{n:03}:stats", "done", 1)
    found = await scrape(api)
    jobs = {k[2]: v for k, v in found.items() if k[:2] == ("headrace_jobs", "pending")}
    assert len(jobs) == 101
    assert jobs.keys() == {"all others"} | {f"q{n:03}" for n in range(100)}
    assert sum(jobs.values()) == 350
    assert jobs["all others"] == 350 - 100
    done = {k[1]: v for k, v in found.items() if k[0] == "headrace_jobs_done_total"}
    assert (len(done), sum(done.values())) == (101, 300)
    assert len((await api.get("/api/v1/queues")).json()["queues"]) == 301
    redis.lpush("q299", *["{}"] * 1_000)
    async with client_of(app, store) as restarted:
        again = await scrape(restarted)
    assert {k: v for k, v in again.items() if k[0] == "headrace_jobs_done_total"} == {
        ("headrace_jobs_done_total", queue): count for queue, count in done.items()
    }


async def test_what_a_forgotten_queue_had_counted_stays_in_the_sum(
    api: httpx.AsyncClient, redis: Redis, store: AsyncStore
) -> None:
    redis.sadd(QUEUES, "gone")
    redis.hset("gone:stats", "done", 5)
    assert await store.follow(forgetting.forget([keys_of("gone")], 0)) == ["forgotten"]
    assert (await scrape(api))["headrace_jobs_done_total", "all others"] == 5


async def test_waits_and_runs_are_histograms_by_queue_and_task(
    api: httpx.AsyncClient, store: AsyncStore
) -> None:
    counts = tally.empty()
    counts[tally.RUNS], counts[tally.RUN_US] = 3, 4_100_000
    counts[tally.RUN_TIMES + tally.bucket_of(0.05)] = 2
    counts[tally.RUN_TIMES + tally.bucket_of(4.0)] = 1
    await store.run(requests.add(K, {"pay": counts}))
    found = await scrape(api)
    name = "headrace_job_run_seconds"
    assert (found[f"{name}_count", "queue", "pay"], found[f"{name}_sum", "queue", "pay"]) == (
        3,
        4.1,
    )
    below = [found[f"{name}_bucket", le, "queue", "pay"] for le in ("0.025", "0.05", "5.0", "+Inf")]
    assert below == [0, 2, 3, 3]
    assert found["headrace_job_wait_seconds_count", "queue", "pay"] == 0


async def test_consumers_and_redis_tell_how_they_are_with_one_info(
    api: httpx.AsyncClient, store: AsyncStore, redis: Redis
) -> None:
    redis.hset(SLOTS, "dead-1", "4 4 1000")
    await store.run(requests.tell("web-1", 8, 3))
    await store.run(requests.tell("web-2", 2, 2))
    await scrape(api)  # connects, which asks for INFO too
    before: Any = redis.info("commandstats")
    found = await scrape(api)
    after: Any = redis.info("commandstats")
    calls = [stats["cmdstat_info"]["calls"] for stats in (before, after)]
    assert calls[1] - calls[0] == 2  # one is the test's own
    expected = {"consumers": 2, "slots": 10, "slots_busy": 5, "maintenance_led": 0}
    assert {name: found[f"headrace_{name}",] for name in expected} == expected
    assert found["headrace_redis_memory_used_bytes", ""] > 100_000
    assert found["headrace_redis_connected_clients", ""] >= 2
    assert found["headrace_redis_rejected_connections_total", ""] == 0
    redis.set(LEADER, "web-1", px=60_000)
    assert (await scrape(api))["headrace_maintenance_led",] == 1


async def test_a_delayed_job_that_nobody_promotes_is_overdue(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    name = ("headrace_delayed_overdue_seconds", "queue")
    assert (await scrape(api))[name] == 0
    redis.zadd(K.delayed, {'{"id":"x","task":"a"}': 1_000})
    assert (await scrape(api))[name] > 1e9
