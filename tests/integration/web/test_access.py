"""Who may ask, what every answer has, and what is no question."""

from __future__ import annotations

import httpx
import msgspec
import pytest
from redis import Redis

from headrace import Headrace
from headrace.store import AsyncStore
from headrace.web import create_app
from headrace.web.reader import Reader
from tests.integration.web.client import OURS, error_of


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""]
)
async def test_a_form_of_another_page_cannot_enqueue(
    api: httpx.AsyncClient, redis: Redis, kind: str
) -> None:
    answer = await api.post(
        "/api/v1/jobs", content=b'{"task": "a"}', headers={"content-type": kind}
    )
    assert answer.status_code == 415
    assert "application/json" in error_of(answer)
    assert redis.dbsize() == 0


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_the_browser_says_comes_from_elsewhere_is_refused(
    api: httpx.AsyncClient, redis: Redis, site: str
) -> None:
    answer = await api.post("/api/v1/jobs", json={"task": "a"}, headers={"sec-fetch-site": site})
    assert answer.status_code == 403
    assert "another site" in error_of(answer)
    assert redis.dbsize() == 0


async def test_our_own_page_is_not_elsewhere(api: httpx.AsyncClient) -> None:
    headers = {"sec-fetch-site": "same-origin"}
    assert (await api.post("/api/v1/jobs", json={"task": "a"}, headers=headers)).is_success


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/queues", "/api/v1/events", "/metrics", "/static/app.js"]
)
async def test_a_name_that_was_made_to_point_here_sees_nothing(
    api: httpx.AsyncClient, path: str
) -> None:
    answer = await api.get(path, headers={"host": "evil.example:8390"})
    assert answer.status_code == 403
    assert "http://127.0.0.1" in error_of(answer)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8390", "[::1]:8390"])
async def test_every_name_of_this_machine_is_its_own(api: httpx.AsyncClient, host: str) -> None:
    assert (await api.get("/healthz", headers={"host": host})).json() == {"alive": True}


async def test_no_answer_lets_another_origin_read_it(api: httpx.AsyncClient) -> None:
    answer = await api.options("/api/v1/jobs", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_path_that_is_none_is_404(api: httpx.AsyncClient) -> None:
    answer = await api.get("/api/nothing")
    assert answer.status_code == 404
    assert "/api/nothing" in error_of(answer)


async def test_a_wrong_method_is_405_and_says_which_is_right(api: httpx.AsyncClient) -> None:
    answer = await api.get("/api/v1/jobs")
    assert answer.status_code == 405
    assert error_of(answer) == "/api/v1/jobs does not take GET: use POST"
    assert answer.headers["allow"] == "POST"


async def test_what_nobody_foresaw_has_the_headers_of_every_answer(
    app: Headrace, store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Reader) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(Reader, "names", fails)
    transport = httpx.ASGITransport(create_app(app, store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OURS) as api:
        answer = await api.get("/api/v1/queues/queue")
    assert answer.status_code == 500
    assert "its log says how" in error_of(answer)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


async def test_every_answer_of_the_api_can_be_read_strictly(
    api: httpx.AsyncClient, app: Headrace
) -> None:
    await app.aenqueue("a", "\u2028\ud7ff\U0001f600\x00")
    for path in (
        "/api/v1/queues",
        "/api/v1/queues/queue",
        "/api/v1/queues/queue/jobs",
        "/api/v1/openapi.json",
        "/healthz",
        "/readyz",
    ):
        answer = await api.get(path)
        assert answer.headers["cache-control"] == "no-store"
        msgspec.json.decode(answer.content)
