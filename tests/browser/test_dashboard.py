"""The dashboard in a real browser: what a browser alone decides.

Whether forms pass the guard with the headers that a browser really sends, whether the strict policy lets
everything through that the pages need, whether the first page is live, and whether a phone has room for all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace
from headrace import operations as op
from headrace.access import Tokens, new_token
from headrace.store import AsyncStore
from headrace.timings import requests
from headrace.web import Access
from tests.browser.looking import DESK, PHONE, opened
from tests.integration.web.client import K
from tests.integration.web.pages import Filled, some_counts
from tests.support.serving import served
from tests.support.wait import await_until


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


async def test_the_charts_follow_and_what_is_unfolded_stays_so(
    chromium: Any, site: str, filled: Filled, store: AsyncStore
) -> None:
    page, said = await opened(chromium)
    await page.goto(f"{site}/?queue=queue&minutes=360")
    await page.locator("[data-state=live]").wait_for()
    await page.get_by_text("90 in all").wait_for()
    await page.locator("#lately-numbers > summary").click()
    await page.locator("#times > summary").click()
    await page.evaluate("document.activeElement.blur()")
    await page.mouse.move(0, 0)
    await store.run(requests.add(K, {"send": some_counts()}))
    await page.get_by_text("180 in all").wait_for()
    assert await page.locator("#lately-numbers[open]").count() == 1
    assert await page.locator("#times[open]").count() == 0
    assert await page.locator("#lately").get_attribute("data-minutes") == "360"
    assert not said


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_bars_of_charts_can_be_told_from_the_paper(
    chromium: Any, site: str, filled: Filled, scheme: str
) -> None:
    page, _ = await opened(chromium, viewport=DESK, color_scheme=scheme)
    await page.goto(f"{site}/queues/queue")
    fills = await page.evaluate(
        "[...document.querySelectorAll('.keys .bar')].map(bar => getComputedStyle(bar).fill)"
    )
    paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(set(fills)) == 4
    assert paper not in fills
    bars = await page.locator(".chart.done .bars").bounding_box()
    assert bars["width"] > 300


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
