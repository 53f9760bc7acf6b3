"""Schedules, workflows and consumers over HTTP, as an operator asks for them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from redis import Redis

from headrace import Headrace, chain
from headrace import operations as op
from headrace.holders import new_holder
from headrace.keys import keys_of
from headrace.store import AsyncStore
from tests.integration.web.client import error_of

URL = "/api/v1/schedules"
BEAT = {"task": "ping", "args": [1], "every": 30, "queue": "beats", "priority": 5}


class TestSchedules:
    async def test_are_added_shown_changed_and_removed(self, api: httpx.AsyncClient) -> None:
        added = await api.put(f"{URL}/beat", json=BEAT)
        assert added.json() == {"name": "beat", "changed": False}
        (shown,) = (await api.get(URL)).json()["schedules"]
        assert shown == (await api.get(f"{URL}/beat")).json()
        assert (shown["task"], shown["queue"], shown["fired"], shown["broken"]) == (
            "ping",
            "beats",
            0,
            "",
        )
        assert shown["job"]["args"] == [1]
        first, second, *_ = shown["next_ticks"]
        assert (first, second - first) == (shown["next_at"], 30)

        refused = await api.put(f"{URL}/beat", json=BEAT)
        assert refused.status_code == 409
        assert "replace" in error_of(refused)
        changed = await api.put(f"{URL}/beat", json=BEAT | {"every": 60, "replace": True})
        assert changed.json() == {"name": "beat", "changed": True}

        assert (await api.post(f"{URL}/beat/pause")).json()["changed"]
        paused = (await api.get(f"{URL}/beat")).json()
        assert (paused["paused"], paused["next_at"], paused["next_ticks"]) == (True, None, [])
        assert (await api.post(f"{URL}/beat/resume")).json()["changed"]
        assert (await api.delete(f"{URL}/beat")).json()["changed"]
        assert (await api.get(URL)).json() == {"schedules": []}

    @pytest.mark.parametrize("way", ["get", "delete", "post"])
    async def test_that_are_not_there_are_404(self, api: httpx.AsyncClient, way: str) -> None:
        path = f"{URL}/nobody/pause" if way == "post" else f"{URL}/nobody"
        answer = await api.request(way.upper(), path)
        assert answer.status_code == 404
        assert "'nobody'" in error_of(answer)

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"every": None}, "every"),
            ({"cron": "* * *", "every": None}, "* * *"),
            ({"cron": "* * * * *"}, "cron"),
            ({"cron": "* * * * *", "every": None, "timezone": "Mars"}, "Mars"),
            ({"queue": "a:b"}, "a:b"),
            ({"task": ""}, "task"),
            ({"misses": "all"}, "misses"),
        ],
    )
    async def test_without_meaning_are_refused(
        self, api: httpx.AsyncClient, wrong: dict[str, Any], says: str
    ) -> None:
        answer = await api.put(f"{URL}/beat", json=BEAT | wrong)
        assert answer.status_code == 400
        assert says in error_of(answer)


class TestWorkflows:
    async def test_one_is_shown_and_cancelled(self, api: httpx.AsyncClient, app: Headrace) -> None:
        add = app.tasks["add"]
        flow = await chain(add.call(1, 2), add.call(3, 4)).aenqueue()
        path = f"/api/v1/workflows/{flow.id}"
        shown = (await api.get(path)).json()
        assert shown == {
            "id": flow.id, "queue": "queue", "state": "running", "total": 2, "ended": 0, "running": 1,
            "failed": [],
        }  # fmt: skip
        assert (await api.post(f"{path}/cancel")).json()["state"] == "cancelled"

    async def test_of_which_nothing_is_known_is_404(self, api: httpx.AsyncClient) -> None:
        for answer in (
            await api.get("/api/v1/workflows/nobody"),
            await api.post("/api/v1/workflows/nobody/cancel"),
        ):
            assert answer.status_code == 404
            assert "nothing is known of workflow nobody" in error_of(answer)


async def test_consumers_are_those_that_hold_jobs_also_over_http(
    api: httpx.AsyncClient, redis: Redis, store: AsyncStore
) -> None:
    redis.lpush("queue", *(f'{{"id":"j{n}","task":"t"}}' for n in range(3)))
    redis.sadd("headrace:queues", "queue")
    k = keys_of("queue")
    for name, count in (("shop-host-12-abcdef", 1), (new_holder("far"), 2)):
        await store.run(op.claim(k, count, lease_ms=60_000, consumer=name, first=1))
    found = (await api.get("/api/v1/consumers")).json()
    assert found["broken"] == {}
    far, near = found["consumers"]
    assert (far["name"], far["jobs"], far["over_http"], far["state"]) == (
        "far",
        2,
        True,
        "over HTTP",
    )
    assert (near["host"], near["pid"], near["queues"]) == ("shop-host", 12, {"queue": 1})
    assert near["state"] == "not connected"


async def test_a_queue_whose_keys_are_anothers_is_told_of(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    redis.sadd("headrace:queues", "odd")
    redis.set("odd:claims", "text")
    found = (await api.get("/api/v1/consumers")).json()
    assert "WRONGTYPE" in found["broken"]["odd"]
    redis.delete("odd:claims")
