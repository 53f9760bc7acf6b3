"""The page, as far as it can be judged without a browser: what is served, and what it may do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import httpx
import pytest
from redis import Redis

from headrace import Headrace
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.web import create_app

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Elements(HTMLParser):
    """All elements of a page, with their attributes and the text inside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag = self.found[-1][0]
            self.text[tag] = self.text.get(tag, "") + data.strip()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
async def site(url: str) -> AsyncIterator[httpx.AsyncClient]:
    app, store = Headrace(url), AsyncStore(url)
    transport = httpx.ASGITransport(create_app(app, store))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    await store.close()
    await app.aclose()


async def test_the_page_has_the_three_lists_under_their_own_names(site: httpx.AsyncClient) -> None:
    answer = await site.get("/?queue=emails")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    k = keys_of("emails")
    assert re.findall(r'<code id="\w+-key">([^<]+)', answer.text) == [
        k.pending,
        k.processing,
        k.dead,
    ]
    assert Elements(answer.text).all("body") == [{"data-queue": "emails"}]


async def test_the_page_may_load_and_ask_nothing_but_its_own_server(
    site: httpx.AsyncClient,
) -> None:
    for path in ("/", "/api/queues", "/metrics", "/static/app.js", "/nothing", "/?queue=a:b"):
        headers = (await site.get(path)).headers
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in headers["content-security-policy"].split(";")
        )
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "'self' data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }, path
        assert headers["x-content-type-options"] == "nosniff"


async def test_nothing_on_the_page_is_inline(site: httpx.AsyncClient) -> None:
    page = Elements((await site.get("/")).text)
    assert page.all("style") == []
    assert page.text.get("script", "") == ""
    assert [script["type"] for script in page.all("script")] == ["module"]
    for tag, attributes in page.found:
        inline = [name for name in attributes if name == "style" or name.startswith("on")]
        assert not inline, f"<{tag}> has {inline}"


async def test_all_that_the_page_refers_to_is_served_by_ourselves(site: httpx.AsyncClient) -> None:
    page = Elements((await site.get("/")).text)
    addresses = [attributes.get("src") or attributes.get("href") for _, attributes in page.found]
    served = {}
    for address in filter(None, addresses):
        assert "//" not in address
        answer = await site.get(f"/{address}")
        assert answer.status_code == 200, address
        served[address.partition("?")[0]] = answer.headers["content-type"].partition(";")[0]
    assert served == {
        "static/app.js": "text/javascript",
        "static/app.css": "text/css",
        "static/icon.svg": "image/svg+xml",
        "api/queues": "application/json",
        "metrics": "text/plain",
        "readyz": "application/json",
    }


async def test_a_static_file_is_asked_for_again_and_not_sent_again(site: httpx.AsyncClient) -> None:
    first = await site.get("/static/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await site.get("/static/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/static/../page.py", "/static/%2e%2e/server.py", "/static/"])
async def test_nothing_beside_the_static_files_is_served(
    site: httpx.AsyncClient, path: str
) -> None:
    assert (await site.get(path)).status_code == 404


async def test_the_script_writes_text_only(site: httpx.AsyncClient) -> None:
    script = (await site.get("/static/app.js")).text
    assert "textContent" in script
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script
    )


async def test_a_queues_name_is_escaped_on_the_page(site: httpx.AsyncClient) -> None:
    name = '"><script>alert(1)</script>'
    answer = await site.get("/", params={"queue": name})
    page = Elements(answer.text)
    assert page.all("body") == [{"data-queue": name}]
    assert len(page.all("script")) == 1


async def test_markup_in_a_job_comes_as_the_text_that_it_is(
    site: httpx.AsyncClient, redis: Redis
) -> None:
    sent = {"task": ATTACK, "args": [ATTACK], "kwargs": {ATTACK: 1}}
    assert (await site.post("/api/jobs", json=sent)).status_code == 202
    redis.lpush("queue", ATTACK)
    answer = await site.get("/api/queues/queue/jobs")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    malformed, job = answer.json()["jobs"]
    assert job["task"] == ATTACK
    assert "<script>alert(1)</script>" in job["arguments"]
    assert malformed["arguments"] == ATTACK


async def test_the_password_of_redis_is_not_on_the_page(url: str) -> None:
    secret = url.replace("//", "//user:opensesame@")
    transport = httpx.ASGITransport(create_app(Headrace(secret), AsyncStore(secret)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as site:
        for path in ("/", "/api/queues", "/readyz"):
            assert "opensesame" not in (await site.get(path)).text
