"""What all pages are: plain HTML that needs no script, shows text as text, hides secrets, and leads on."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.applications import Starlette
from starlette.routing import Mount

from headrace import Headrace
from headrace.redaction import MASK, VARIABLE
from headrace.store import AsyncStore
from headrace.web import application
from tests.integration.web.pages import Filled, die, fill
from tests.support.pages import BROWSER, Page, open_page
from tests.support.wait import WAIT_S

ATTACK = "</textarea><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RIGHT_TO_LEFT = "\u202egpj.exe"

NAMES = [*Filled("", "", "", "").paths]


@pytest.fixture
async def filled(app: Headrace, store: AsyncStore, redis: Redis) -> Filled:
    return await fill(app, store, redis, args=["ann"])


@pytest.mark.parametrize("name", NAMES)
async def test_every_page_is_there_and_well_formed(
    api: httpx.AsyncClient, filled: Filled, name: str
) -> None:
    page = await open_page(api, filled.paths[name], status=404 if name == "problem" else 200)
    assert not page.unclosed
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert all("alt" in image for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_is_inline_and_nothing_comes_from_elsewhere(
    api: httpx.AsyncClient, filled: Filled, name: str
) -> None:
    page = await open_page(api, filled.paths[name], status=404 if name == "problem" else 200)
    assert not page.all("style")
    assert all("src" in script for script in page.all("script"))
    for tag, attributes in page.elements:
        assert not [one for one in attributes if one == "style" or one.startswith("on")], tag
    assert all(link.startswith("http://127.0.0.1/") for link in page.links())


@pytest.mark.parametrize("name", NAMES)
async def test_every_link_leads_to_something(
    api: httpx.AsyncClient, filled: Filled, name: str
) -> None:
    page = await open_page(api, filled.paths[name], status=404 if name == "problem" else 200)
    for link in set(page.links()):
        answer = await api.get(link, headers=BROWSER, follow_redirects=True)
        assert answer.status_code == 200, (link, answer.text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", ["/a/b"])
async def test_below_a_path_of_another_application_every_link_leads_there(
    app: Headrace, store: AsyncStore, redis: Redis, url: str, name: str, root: str
) -> None:
    filled = await fill(app, store, redis)
    mounted = Headrace(url)
    site = Starlette(routes=[Mount(root, application(mounted))])
    transport = httpx.ASGITransport(site)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://shop.example", timeout=WAIT_S
    ) as client:
        page = await open_page(
            client, root + filled.paths[name], status=404 if name == "problem" else 200
        )
        for link in {*page.links(), *(form for form in page.forms)}:
            assert httpx.URL(link).path.startswith(f"{root}/"), link
    await mounted.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_markup_in_a_job_is_shown_as_the_text_that_it_is(
    app: Headrace, store: AsyncStore, redis: Redis, api: httpx.AsyncClient, name: str
) -> None:
    error = {"type": ATTACK, "message": ATTACK, "traceback": ATTACK, "reason": ATTACK}
    error |= {"consumer": ATTACK}
    filled = await fill(
        app, store, redis, task=f"t{ATTACK}", args=[ATTACK], kwargs={ATTACK: ATTACK}, error=error
    )
    redis.lpush("queue", ATTACK)
    page = await open_page(api, filled.paths[name], status=404 if name == "problem" else 200)
    assert "alert(2)" not in str([(tag, attrs.keys()) for tag, attrs in page.elements])
    assert not [image for image in page.all("img") if image.get("src") == "x"]
    assert all("src" in script for script in page.all("script"))
    if name in {"queue", "job", "dead job", "letter", "dead letters", "overview"}:
        assert "<script>alert(1)</script>" in page.text


async def test_a_text_that_turns_its_direction_is_shown_as_it_is_written(
    app: Headrace, store: AsyncStore, redis: Redis, api: httpx.AsyncClient
) -> None:
    error = {"message": RIGHT_TO_LEFT, "traceback": f"a\n{RIGHT_TO_LEFT}"}
    filled = await fill(
        app, store, redis, task="send", args=[RIGHT_TO_LEFT], kwargs={"שלום": 1}, error=error
    )
    for name, path in filled.paths.items():
        page = await open_page(api, path, status=404 if name == "problem" else 200)
        # An edit alone has the text as it is: else it would go back as another.
        assert name == "letter" or "\u202e" not in page.text, name
    page = await open_page(api, filled.paths["job"])
    assert r"\u202egpj.exe" in page.text
    assert "שלום" in page.text
    assert {"tabindex": "0", "dir": "auto"} in page.all("pre")


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_to_be_hidden_is_hidden_on_every_page(
    app: Headrace, store: AsyncStore, redis: Redis, api: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, "password")
    error = {"message": "hunter22 is wrong", "traceback": "log_in('hunter22')"}
    filled = await fill(app, store, redis, kwargs={"password": "hunter22"}, error=error)
    page = await open_page(api, filled.paths[name], status=404 if name == "problem" else 200)
    assert "hunter22" not in page.answer.text
    if name in {"job", "dead job", "letter"}:
        assert MASK in page.text


async def test_an_argument_of_a_megabyte_is_cut_and_told_of(
    app: Headrace, api: httpx.AsyncClient, redis: Redis
) -> None:
    large = "x" * 1_000_000
    job = await app.aenqueue("send", large)
    die(redis, "large", args=[large])
    for path in (f"/jobs/{job.id}", "/dead-letters/large"):
        page = await open_page(api, path)
        assert "976.6 KiB: the first 20,000 bytes are shown" in page.text
        assert page.all("details")
        assert len(page.answer.content) < 60_000
    assert "are over 20,000 bytes: use the API" in page.text
    assert len((await api.get("/queues/queue", headers=BROWSER)).content) < 20_000
    assert len((await api.get("/dead-letters?queue=queue", headers=BROWSER)).content) < 30_000


async def test_a_long_argument_is_folded(app: Headrace, api: httpx.AsyncClient) -> None:
    job = await app.aenqueue("send", ["word"] * 500)
    page = await open_page(api, f"/jobs/{job.id}")
    assert "args" in page.text
    assert {"class": "block", "id": "block-1"} in page.all("details")


async def test_no_two_sections_of_the_overview_are_called_the_same(
    api: httpx.AsyncClient, filled: Filled
) -> None:
    page = await open_page(api, filled.paths["overview"])

    def text_of(element: str) -> str:
        (inner,) = re.findall(
            rf'<(\w+)[^>]* id="{element}"[^>]*>(.*?)</\1>', page.answer.text, re.DOTALL
        )
        return " ".join(re.sub(r"<[^>]*>", "", inner[1]).split())

    named = [one["aria-labelledby"] for one in page.all("section") if "aria-labelledby" in one]
    called = [" ".join(map(text_of, ids.split())) for ids in named]
    assert "queue" in called  # the list of pending jobs is called as its queue
    assert len(called) == len({*called}), called


async def test_a_name_with_a_slash_has_a_page(redis: Redis, api: httpx.AsyncClient) -> None:
    redis.lpush("a/b%3F", json.dumps({"id": "x/../y?", "task": "t"}))
    redis.sadd("headrace:queues", "a/b%3F")
    page = await open_page(api, "/queues/a%2Fb%253F")
    assert "a/b%3F" in page.text
    for link in set(page.links()):
        assert (await api.get(link, follow_redirects=True)).status_code == 200, link


async def test_a_program_is_told_of_a_problem_as_json_and_a_person_by_a_page(
    api: httpx.AsyncClient,
) -> None:
    for path in ("/queues/nothing", "/nowhere", "/?queue=a:b", "/queues/queue?place=moon"):
        answer = await api.get(path)
        assert answer.headers["content-type"] == "application/problem+json", path
        page = Page(await api.get(path, headers=BROWSER))
        assert page.answer.status_code == answer.status_code
        assert answer.json()["detail"] in page.text


async def test_the_word_of_an_action_alone_is_taken_from_an_address(
    api: httpx.AsyncClient,
) -> None:
    page = await open_page(api, "/?done=redriven&n=2")
    assert "2 dead letters are put back" in page.text
    for forged in ("done=<b>", "done=You+have+won", "done=redriven&n=<b>", "done=redriven"):
        page = await open_page(api, f"/?{forged}")
        assert not [one for one in page.all("p") if one.get("class") == "said"]


@pytest.fixture
async def away() -> AsyncIterator[httpx.AsyncClient]:
    from headrace.embedded.server import free_port
    from tests.integration.web.client import client_of

    url = f"redis://127.0.0.1:{free_port()}/0"
    app, store = Headrace(url), AsyncStore(url)
    async with client_of(app, store) as client:
        yield client
    await store.close()
    await app.aclose()


async def test_every_page_says_so_when_redis_does_not_answer(away: httpx.AsyncClient) -> None:
    filled: Any = Filled("a", "b", "c", "d")
    for name, path in filled.paths.items():
        if name in {"cancel", "overview"}:  # the one asks Redis nothing, the other says it itself
            continue
        page = await open_page(away, path, status=503)
        assert "Redis" in page.text, name
