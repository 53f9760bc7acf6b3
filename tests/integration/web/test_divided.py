"""A queue that is divided is one queue on the page, in the API and to Prometheus."""

from __future__ import annotations

import httpx

from headrace import Headrace
from headrace.partitions.names import names_of
from tests.integration.web.test_metrics import scrape


async def test_a_divided_queue_is_one_queue(api: httpx.AsyncClient, app: Headrace) -> None:
    app.partition_queue("queue", 4)
    jobs = await app.aenqueue_many([app.call_with("add", (1, n), {}, {}) for n in range(400)])
    (queue,) = (await api.get("/api/v1/queues")).json()["queues"]
    assert (queue["queue"], queue["pending"]) == ("queue", 400)
    assert (await api.get("/api/v1/queues/queue")).json()["counters"] == {"enqueued": 400}
    listed = (await api.get("/api/v1/queues/queue/jobs?place=pending&limit=8")).json()["jobs"]
    # The first two of each partition.
    mine = {name: [job.id for job in jobs if job.queue == name] for name in names_of("queue", 4)}
    first = [job_id for ids in mine.values() for job_id in ids[:2]]
    assert sorted(job["id"] for job in listed) == sorted(first)
    measured = await scrape(api)
    assert measured["headrace_enqueued_total", "queue"] == 400
    assert measured["headrace_queues",] == 1
    page = (await api.get("/")).text
    assert "400" in page
    assert "queue@1" not in page.replace(jobs[-1].id, "")


async def test_a_job_is_found_by_its_id_alone(api: httpx.AsyncClient, app: Headrace) -> None:
    app.partition_queue("queue", 4)
    bodies = [{"task": "add", "args": [1, n]} for n in range(400)]
    accepted = (await api.post("/api/v1/jobs", json=bodies)).json()["jobs"]
    assert {one["queue"] for one in accepted} == set(names_of("queue", 4))
    for one in accepted[::100]:
        assert (await api.get(f"/api/v1/jobs/{one['id']}")).json() == {
            "id": one["id"], "queue": one["queue"], "state": "pending", "progress": None,
        }  # fmt: skip


async def test_who_enqueues_need_not_know_that_a_queue_is_divided(
    api: httpx.AsyncClient, app: Headrace, url: str
) -> None:
    other = Headrace(url, queue="queue")
    other.partition_queue("queue", 4)
    await other.aenqueue("add", 1, 2)
    assert "queue" not in app.partitions.declared
    bodies = [{"task": "add", "args": [1, n]} for n in range(400)]
    accepted = (await api.post("/api/v1/jobs", json=bodies)).json()["jobs"]
    assert {one["queue"] for one in accepted} == set(names_of("queue", 4))
    await other.aclose()
