"""The dashboard in a real browser: what a browser alone decides.

Whether forms pass the guard with the headers that a browser really sends, whether the strict policy lets
everything through that the pages need, whether the first page is live, and whether a phone has room for all.
Needs Chromium on the PATH, and playwright: ``make test-browser``; without them all of it is skipped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace
from headrace import operations as op
from headrace.access import Tokens, new_token
from headrace.store import AsyncStore
from headrace.web import Access
from tests.integration.web.client import K
from tests.integration.web.pages import Filled, fill
from tests.support.serving import served
from tests.support.wait import WAIT_S, await_until

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if CHROMIUM is None:
    pytest.skip("no Chromium is on the PATH", allow_module_level=True)
playwright: Any = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed: make test-browser"
)

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE = {"width": 390, "height": 800}
DESK = {"width": 1280, "height": 800}
LONG = "x" * 300


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        await browser.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(url)
    yield store
    await store.close()


@pytest.fixture
def redis(url: str) -> Any:
    with Redis.from_url(url) as client:
        yield client


@pytest.fixture
async def filled(url: str, store: AsyncStore, redis: Redis) -> AsyncIterator[Filled]:
    app = Headrace(url)
    yield await fill(app, store, redis, args=[LONG], kwargs={LONG: 1}, error={"message": LONG})
    await app.aclose()


@pytest.fixture
async def site(url: str) -> AsyncIterator[str]:
    async with served(url) as (_, port):
        yield f"http://127.0.0.1:{port}"


async def opened(chromium: Any, **options: Any) -> tuple[Any, list[str]]:
    """Give a page, and what its console says from now on."""
    context = await chromium.new_context(**options)
    context.set_default_timeout(WAIT_S * 1000)
    page, said = await context.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    return page, said


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
async def test_a_form_passes_the_guard_and_leads_back(
    chromium: Any, site: str, filled: Filled, store: AsyncStore, *, scripts: bool
) -> None:
    page, said = await opened(chromium, java_script_enabled=scripts)
    await page.goto(f"{site}/queues/queue")
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_text("The queue is paused").wait_for()
    assert (await store.run(op.snapshot(K))).paused
    await page.get_by_role("button", name="Resume").click()
    await page.get_by_text("hands out jobs again").wait_for()
    assert not said


async def test_a_form_of_another_site_does_not(
    chromium: Any, site: str, filled: Filled, store: AsyncStore
) -> None:
    page, _ = await opened(chromium)
    form = f'<form method=post action="{site}/queues/queue/pause"><button>go</button></form>'
    await page.route(
        "http://evil.example/*",
        lambda route: route.fulfill(body=form, content_type="text/html"),
    )
    await page.goto("http://evil.example/")
    await page.get_by_role("button").click()
    await page.get_by_text("another site").wait_for()
    assert not (await store.run(op.snapshot(K))).paused


async def test_a_letter_is_edited_and_put_back_without_a_script(
    chromium: Any, site: str, filled: Filled, redis: Redis
) -> None:
    page, _ = await opened(chromium, java_script_enabled=False)
    await page.goto(f"{site}/dead-letters?queue=queue")
    await page.get_by_role("link", name="send").first.click()
    await page.get_by_label("args", exact=False).first.fill('["ann"]')
    await page.get_by_role("button", name="Put it back").click()
    await page.get_by_text("1 dead letter is put back").wait_for()
    jobs = [json.loads(job) for job in redis.lrange("queue", 0, -1)]
    assert ["ann"] in [job["args"] for job in jobs]


async def test_letters_are_deleted_by_keyboard_after_a_question(
    chromium: Any, site: str, filled: Filled, redis: Redis
) -> None:
    page, _ = await opened(chromium)
    await page.goto(f"{site}/dead-letters?queue=queue")
    await page.get_by_role("checkbox", name="dead1").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("button", name="Delete the ticked").focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("Delete 1 dead letter of queue queue for good?").wait_for()
    assert redis.llen(K.dead) == 1
    await page.get_by_role("button", name="Delete for good").focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("1 dead letter is deleted for good").wait_for()
    assert redis.llen(K.dead) == 0


async def test_the_first_page_is_live(chromium: Any, site: str, filled: Filled, url: str) -> None:
    page, said = await opened(chromium)
    await page.goto(f"{site}/?queue=queue")
    await page.locator("[data-state=live]").wait_for()
    app = Headrace(url)
    await app.aenqueue("news")
    await app.aclose()
    await page.get_by_role("link", name="news").wait_for()
    pending = page.locator("svg.wide [data-life=pending]")

    async def shown() -> bool:
        return bool(await pending.text_content() == "2")

    await await_until(shown, what="the picture counts it, too")
    await page.get_by_role("link", name="flows", exact=True).first.click()
    await page.locator("[data-field=queue]", has_text="flows").wait_for()
    assert not said


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_every_page_has_room_and_breaks_no_policy(
    chromium: Any, site: str, filled: Filled, size: dict[str, int]
) -> None:
    page, said = await opened(chromium, viewport=size)
    for name, path in filled.paths.items():
        await page.goto(site + path)
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"], name
        shown = await page.evaluate("getComputedStyle(document.body).maxWidth")
        assert shown == "1312px", name  # its style is there: 82 rem
    assert not [one for one in said if "404" not in one]


async def test_the_first_tab_leads_to_the_content_and_every_focus_is_seen(
    chromium: Any, site: str, filled: Filled
) -> None:
    page, _ = await opened(chromium, viewport=DESK)
    await page.goto(f"{site}/dead-letters?queue=queue")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    for _ in range(12):
        await page.keyboard.press("Tab")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


async def test_a_browser_signs_in_and_out(
    chromium: Any, url: str, filled: Filled, tmp_path: Path
) -> None:
    token, entry = new_token("ann", "operator", [], None)
    path = tmp_path / "tokens.toml"
    path.write_text(entry)
    path.chmod(0o600)
    async with served(url, access=Access(Tokens(path))) as (_, port):
        page, _ = await opened(chromium)
        await page.goto(f"http://127.0.0.1:{port}/queues/queue?place=dead")
        await page.get_by_label("Token").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/queues/queue?place=dead")
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.locator("[data-state=live]").wait_for()  # the stream goes by the cookie, too
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")
        assert await page.context.cookies() == []
        await page.context.close()
