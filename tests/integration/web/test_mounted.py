"""The server inside another application, below a path of that."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from redis import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from headrace import Headrace
from headrace.web import application
from tests.support.wait import WAIT_S, await_until


async def home(_: Request) -> Response:
    return PlainTextResponse("a shop")


def around(app: Headrace, *, base: str = "https://shop.example") -> httpx.AsyncClient:
    site = Starlette(routes=[Route("/", home), Mount("/queues", application(app))])
    return httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url=base, timeout=WAIT_S)


async def test_it_answers_below_its_path_and_nowhere_else(url: str, redis: Redis) -> None:
    app = Headrace(url)
    async with around(app) as client:
        assert (await client.get("/")).text == "a shop"
        page = await client.get("/queues/")
        assert "<h1>" in page.text
        assert (await client.get("/queues/static/app.css")).is_success
        assert (await client.get("/queues/readyz")).json() == {"ready": True}
        sent = await client.post(
            "/queues/api/v1/jobs", json={"task": "t"}, headers={"origin": "https://shop.example"}
        )
        assert sent.status_code == 202
        (job,) = redis.lrange("queue", 0, -1)
        assert json.loads(job)["id"] == sent.json()["id"]
        assert (await client.get("/api/v1/queues")).status_code == 404
    await app.aclose()


async def test_another_sites_page_changes_nothing(url: str, redis: Redis) -> None:
    app = Headrace(url)
    async with around(app) as client:
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            sent = await client.post("/queues/api/v1/queues/queue/pause", headers=headers)
            assert sent.status_code == 403
    await app.aclose()
    assert not redis.exists("queue:meta")


async def test_claims_wait_there_too_and_take_nobodys_turn(url: str, redis: Redis) -> None:
    app = Headrace(url)
    async with around(app) as client:
        asked = {"consumer": "far", "queues": ["queue"], "wait": 60}
        polls = [
            asyncio.create_task(client.post("/queues/api/v1/claims", json=asked)) for _ in range(40)
        ]
        await await_until(
            lambda: any("b" in one["flags"] for one in redis.client_list()), what="they wait"
        )
        assert (await client.get("/queues/api/v1/queues")).is_success
        for _ in polls:
            redis.lpush("queue", '{"task":"t"}')
        answers = await asyncio.gather(*polls)
        assert [len(answer.json()["claims"]) for answer in answers] == [1] * 40
    await app.aclose()


@pytest.mark.parametrize("loops", [2])
def test_each_event_loop_has_connections_of_its_own(url: str, redis: Redis, loops: int) -> None:
    app = Headrace(url)
    site = Starlette(routes=[Mount("/queues", application(app))])

    async def ask() -> int:
        transport = httpx.ASGITransport(site)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/queues/api/v1/queues")).status_code

    assert [asyncio.run(ask()) for _ in range(loops)] == [200] * loops
