"""GET /api/v1/statistics: what became of jobs lately."""

from __future__ import annotations

import re

import httpx
import pytest
from redis import Redis

from headrace import Headrace
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.timings import requests, tally, timings_of
from tests.integration.web.client import K, error_of
from tests.support.consuming import consuming

PATH = "/api/v1/statistics"


def some(*run_s: float) -> tally.Tally:
    counts = tally.empty()
    counts[tally.RUNS] = counts[tally.DONE] = len(run_s)
    counts[tally.RUN_US] = int(sum(run_s) * 1e6)
    for one in run_s:
        counts[tally.RUN_TIMES + tally.bucket_of(one)] += 1
    return counts


async def test_what_consumers_told_is_shown_by_minute_and_by_task(
    api: httpx.AsyncClient, app: Headrace
) -> None:
    for n in range(4):
        await app.aenqueue("add", n, n)
    async with consuming(app, burst=True) as running:
        await running.ended()
    found = (await api.get(PATH)).json()
    assert found["queue"] == "queue"
    assert len(found["minutes"]) == 60
    last = [one for one in found["minutes"] if one["runs"]]
    assert sum(one["done"] for one in last) == 4
    assert all(one["at_ms"] % 60_000 == 0 for one in found["minutes"])
    assert found["overall"]["done"] == found["tasks"]["add"]["done"] == 4
    assert found["overall"]["wait"]["count"] == found["overall"]["run"]["count"] == 4
    assert 0 < found["overall"]["run"]["p50_s"] <= found["overall"]["run"]["p99_s"]


async def test_percentiles_are_of_the_buckets(api: httpx.AsyncClient, store: AsyncStore) -> None:
    await store.run(requests.add(K, {"pay": some(*[0.2] * 90, *[4.0] * 10)}))
    run = (await api.get(PATH, params={"minutes": 5})).json()["tasks"]["pay"]["run"]
    assert run["count"] == 100
    assert run["mean_s"] == pytest.approx(0.58)
    assert 0.1 < run["p50_s"] < 0.25
    assert 2.5 < run["p95_s"] < run["p99_s"] < 5.0


async def test_of_nothing_there_are_no_percentiles(api: httpx.AsyncClient) -> None:
    found = (await api.get(PATH, params={"queue": "unheard", "minutes": 1})).json()
    assert (found["overall"]["runs"], found["overall"]["wait"]["p99_s"], found["tasks"]) == (
        0,
        None,
        {},
    )
    assert len(found["minutes"]) == 1


async def test_a_divided_queue_is_told_of_as_one(
    api: httpx.AsyncClient, app: Headrace, store: AsyncStore
) -> None:
    app.partition_queue("queue", 2)
    await app.aenqueue_many([app.call_with("add", (1, n), {}, {}) for n in range(20)])
    for name in ("queue", "queue@1"):
        await store.run(requests.add(keys_of(name), {"add": some(1.0)}))
    found = (await api.get(PATH)).json()
    assert found["overall"]["done"] == found["tasks"]["add"]["done"] == 2
    measured = (await api.get("/metrics")).text
    assert 'headrace_job_run_seconds_count{queue="queue",task="add"} 2.0' in measured


async def test_of_a_thousand_partitions_some_are_read_and_the_answer_and_the_pages_say_so(
    api: httpx.AsyncClient, store: AsyncStore, redis: Redis
) -> None:
    redis.hset("headrace:partitions", "queue", "1000 1000")
    names = ["queue", *(f"queue@{n}" for n in range(1, 1_000))]
    batch = redis.pipeline(transaction=False)
    for name in names:
        batch.hset(timings_of(keys_of(name)), mapping={f"t{n}": "1" for n in range(50)})
    batch.sadd("headrace:queues", *names)
    batch.execute()
    await store.run(requests.add(K, {"t1": some(1.0)}))
    found = (await api.get(PATH, params={"minutes": 1440})).json()
    assert found["partitions"] == 1_000
    assert 1 < found["partitions_read"] < 20
    assert found["overall"]["done"] == found["tasks"]["t1"]["done"] == 1
    for path in ("/queues/queue?minutes=1440", "/?minutes=1440"):
        assert re.search(r", 1[0-9] of its 1,000 partitions", (await api.get(path)).text)


async def test_of_few_partitions_all_are_read(api: httpx.AsyncClient) -> None:
    found = (await api.get(PATH)).json()
    assert (found["partitions"], found["partitions_read"]) == (1, 1)


@pytest.mark.parametrize("minutes", ["0", "1441", "-5", "x", "1e3", ""])
async def test_what_is_no_number_of_minutes_is_refused(
    api: httpx.AsyncClient, minutes: str
) -> None:
    answer = await api.get(PATH, params={"minutes": minutes})
    assert (answer.status_code, "from 1 to 1440" in error_of(answer)) == (400, True)
