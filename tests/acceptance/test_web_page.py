"""The page, as far as it can be judged without a browser: what is served, and what it may do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from redis import Redis

from headrace import Headrace, clock
from headrace import operations as op
from headrace.embedded.server import free_port
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


async def test_the_page_has_the_places_of_a_queue_under_their_own_names(
    site: httpx.AsyncClient,
) -> None:
    answer = await site.get("/?queue=emails")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    k = keys_of("emails")
    assert re.findall(r'<code id="\w+-key">([^<]+)', answer.text) == [
        k.priority,
        k.limited,
        k.delayed,
        k.pending,
        k.processing,
        k.dead,
    ]
    (body,) = Elements(answer.text).all("body")
    assert body["data-queue"] == "emails"


async def test_the_page_may_load_and_ask_nothing_but_its_own_server(
    site: httpx.AsyncClient,
) -> None:
    for path in ("/", "/api/v1/queues", "/metrics", "/static/app.js", "/nothing", "/?queue=a:b"):
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
            "form-action": "'self'",
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
    page = Elements((await site.get("/?queue=queue")).text)
    addresses = [attributes.get("src") or attributes.get("href") for _, attributes in page.found]
    served = {}
    for address in filter(None, addresses):
        assert "//" not in address
        answer = await site.get(f"/{address}")
        assert answer.status_code == 200, address
        served[address.partition("?")[0]] = answer.headers["content-type"].partition(";")[0]
    assert served == {
        "": "text/html",  # the queue itself
        "#content": "text/html",
        "queues/queue": "text/html",
        "dead-letters": "text/html",
        "consumers": "text/html",
        "schedules": "text/html",
        "doctor": "text/html",
        "under-the-hood/queue": "text/html",
        "static/app.js": "text/javascript",
        "static/app.css": "text/css",
        "static/icon.svg": "image/svg+xml",
        "api/v1/queues": "application/json",
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
    assert page.all("body")[0]["data-queue"] == name
    assert len(page.all("script")) == 1


async def test_markup_in_a_job_comes_as_the_text_that_it_is(
    site: httpx.AsyncClient, redis: Redis
) -> None:
    sent = {"task": ATTACK, "args": [ATTACK], "kwargs": {ATTACK: 1}}
    assert (await site.post("/api/v1/jobs", json=sent)).status_code == 202
    redis.lpush("queue", ATTACK)
    answer = await site.get("/api/v1/queues/queue/jobs")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    job, malformed = answer.json()["jobs"]
    assert job["task"] == ATTACK
    assert "<script>alert(1)</script>" in job["arguments"]
    assert malformed["arguments"] == ATTACK


async def test_the_password_of_redis_is_not_on_the_page(url: str) -> None:
    secret = url.replace("//", "//user:opensesame@")
    transport = httpx.ASGITransport(create_app(Headrace(secret), AsyncStore(secret)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as site:
        for path in ("/", "/api/v1/queues", "/readyz"):
            assert "opensesame" not in (await site.get(path)).text


async def filled(url: str, redis: Redis) -> AsyncStore:
    """Put a job into each place of a queue; the claimed one is web1's."""
    app, store = Headrace(url), AsyncStore(url)
    k = keys_of("queue")
    await app.aenqueue("running", 1)
    await store.run(op.claim(k, 1, lease_ms=600_000, consumer="web1:x", first=1))
    calls = [app.call_with(name, (), {}, {}) for name in ("next", "last")]
    calls.append(app.call_with("urgent", (), {}, {"priority": 5}))
    calls.append(app.call_with("later", (), {}, {"delay": 3600}))
    await app.aenqueue_many(calls)
    failed_at = clock.now_ms() - 7_200_000
    letter = {
        "id": "own-1",
        "task": "gone",
        "error": {"reason": "rejected", "failed_at": failed_at},
    }
    redis.lpush(k.dead, json.dumps(letter))  # with white space, as others write JSON
    await app.aclose()
    return store


async def test_without_a_script_the_page_shows_all_that_it_shows_with_one(
    site: httpx.AsyncClient, url: str, redis: Redis
) -> None:
    await (await filled(url, redis)).close()
    page = (await site.get("/")).text
    sections = dict(re.findall(r'data-place="(\w+)"(.*?)</(?:section|details)>', page, re.DOTALL))

    def shown(place: str, name: str) -> list[str]:
        return re.findall(rf'data-field="{name}"[^>]*>([^<]*)<', sections[place])

    assert shown("pending", "task") == ["next", "last"]
    assert shown("priority", "task") == ["urgent"]
    assert shown("delayed", "task") == ["later"]
    assert shown("processing", "task") == ["running"]
    assert shown("processing", "owner") == ["by web1:x"]
    assert shown("dead", "task") == ["gone"]
    assert shown("dead", "id") == ["own-1"]
    assert shown("dead", "at") == ["2 h ago"]
    assert shown("delayed", "at") == ["in 59 min"]
    counts = {place: shown(place, "count") for place in sections}
    assert counts.pop("limited") == ["0"]
    assert [*counts.values()] == [["1"], ["1"], ["2"], ["1"], ["1"]]
    assert re.search(r'id="word"[^>]*>as of <time', page)
    assert '<noscript><meta http-equiv="refresh"' in page


async def test_the_page_says_when_redis_does_not_answer() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    transport = httpx.ASGITransport(create_app(Headrace(url), AsyncStore(url)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as site:
        answer = await site.get("/")
    assert answer.status_code == 200
    assert re.search(r'id="word"[^>]*>Redis does not answer<', answer.text)


async def test_a_name_that_turns_its_direction_is_shown_as_it_is_written(
    site: httpx.AsyncClient, url: str
) -> None:
    name = "\u202etfarg"
    page = (await site.get("/", params={"queue": name})).text
    shown = re.sub(r'(data-queue|data-key)="[^"]*"', "", page)
    assert name not in shown
    assert r">\u202etfarg</a>" in page
    assert r"<title>\u202etfarg ·" in page
    script = (await site.get("/static/app.js")).text
    assert re.search(r"const put = .*visible\(text\)", script)


STATIC = Path(__file__).resolve().parents[2] / "src/headrace/web/static"
CSS = re.sub(r"/\*.*?\*/", "", (STATIC / "app.css").read_text(), flags=re.DOTALL)


def tokens(css: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", css))


def luminance(colour: str) -> float:
    """Give the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


LIGHT = tokens(CSS.partition("@media (prefers-color-scheme: dark)")[0])
DARK = LIGHT | tokens(CSS.partition("@media (prefers-color-scheme: dark)")[2])
TEXT = ("ink", "muted", "accent", "danger", "warn")
BACKGROUND = ("paper", "wash")


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("text", TEXT)
@pytest.mark.parametrize("background", BACKGROUND)
def test_every_text_can_be_read_on_every_background(
    scheme: dict[str, str], text: str, background: str
) -> None:
    assert contrast(scheme[text], scheme[background]) >= 4.5


def test_no_text_and_no_background_has_another_colour() -> None:
    colours = re.findall(r"[;{\s]color:\s*([^;}]+)", CSS)
    used = {value.removesuffix("!important").strip() for value in colours}
    # Paper: on the buttons alone, whose backgrounds are colours of text.
    assert used <= {f"var(--{name})" for name in (*TEXT, "paper")} | {"inherit"}
    backgrounds = {value.strip() for value in re.findall(r"background(?:-color)?:\s*([^;}]+)", CSS)}
    assert backgrounds <= {f"var(--{name})" for name in ("paper", "wash", "accent", "danger")}
    assert not re.search(r"opacity|filter|mix-blend", CSS)  # what is old is paled by nothing


def test_what_cannot_be_broken_has_room_at_every_width() -> None:
    """No column of a fixed width, and no number that is kept on a line with others, can overlap."""
    assert "table-layout" not in CSS  # columns are as wide as what is in them
    assert not re.search(r"[;{\s](min-)?width: \d{3,}px", CSS)
    grids = re.findall(r"grid-template-columns: ([^;]+);", CSS)
    assert all("minmax(0, 1fr)" in columns for columns in grids)
    (blocks,) = re.findall(r"max-width: (\d+)rem\) \{[^@]*?display: block", CSS)
    assert int(blocks) * 16 >= 960  # below, the table is laid out as blocks: nine columns need that
