"""What is hard to show: very many letters, very long arguments, markup, and text that runs from right to left."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace
from headrace import operations as op
from headrace.store import AsyncStore
from tests.browser.looking import DESK, PHONE, opened
from tests.integration.web.client import K
from tests.integration.web.pages import die, fill, letter

MANY = 10_000
ATTACK = "</textarea></script><script>alert(1)</script>\"'><img src=x onerror=alert(2)><svg onload=alert(3)>"
HEBREW, ARABIC = "שלום עולם, 3 הודעות", "مرحبا بالعالم"


@pytest.fixture
def many(redis: Redis) -> int:
    """Put ten thousand letters there: of one in ten a card was declined."""
    with redis.pipeline() as pipe:
        for n in range(MANY):
            pay = not n % 10
            error = {
                "reason": "timeout" if pay else "max_attempts",
                "message": f"no answer for {n}",
            }
            one = letter(
                f"a{n:05}", task="pay" if pay else "send", args=[n, f"user-{n}"], error=error
            )
            pipe.lpush(K.dead, json.dumps(one, separators=(",", ":")))
        pipe.sadd("headrace:queues", "queue")
        pipe.execute()
    return MANY


class TestTenThousandLetters:
    async def test_are_turned_page_by_page_none_twice_and_none_left_out(
        self, chromium: Any, site: str, many: int
    ) -> None:
        page, said = await opened(chromium, viewport=DESK)
        await page.goto(f"{site}/dead-letters?queue=queue&task=pay")
        seen: list[str] = []
        while True:
            boxes = page.get_by_role("checkbox")
            seen += [await box.get_attribute("value") for box in await boxes.all()]
            following = page.get_by_role("link", name="Next page")
            if not await following.count():
                break
            await following.click()
        assert seen == [f"a{n:05}" for n in reversed(range(0, MANY, 10))]
        assert not said

    async def test_are_searched_to_the_last(self, chromium: Any, site: str, many: int) -> None:
        page, _ = await opened(chromium, viewport=DESK)
        await page.goto(f"{site}/dead-letters?queue=queue")
        await page.get_by_role("button", name="Put back all 10,000").wait_for()
        await page.get_by_label("Text in it").fill("user-17")
        await page.get_by_role("button", name="Filter").click()
        found: list[str] = []
        while True:
            found += [
                await box.get_attribute("value") for box in await page.get_by_role("checkbox").all()
            ]
            following = page.get_by_role("link", name="Next page")
            if not await following.count():
                break
            await following.click()
        wanted = [n for n in range(MANY) if str(n).startswith("17")]
        assert found == [f"a{n:05}" for n in reversed(wanted)]

    async def test_that_fit_a_filter_go_back_all_and_the_others_stay(
        self, chromium: Any, site: str, many: int, redis: Redis, store: AsyncStore
    ) -> None:
        page, _ = await opened(chromium, viewport=DESK)
        await page.goto(f"{site}/dead-letters?queue=queue")
        await page.get_by_label("Reason").fill("timeout")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("button", name="Put back all that fit").click()
        await page.get_by_text("1,000 dead letters are put back").wait_for()
        counted = await store.run(op.snapshot(K))
        assert (counted.pending, counted.dead) == (1_000, 9_000)
        assert all(json.loads(one)["task"] == "send" for one in redis.lrange(K.dead, 0, -1))

    async def test_of_one_group_are_deleted_after_a_question(
        self, chromium: Any, site: str, many: int, redis: Redis
    ) -> None:
        page, _ = await opened(chromium, viewport=DESK)
        await page.goto(f"{site}/dead-letters?queue=queue")
        row = page.locator(".groups").get_by_role("row").filter(has_text="max_attempts")
        await row.get_by_role("link").click()
        await page.get_by_role("link", name="Delete all that fit…").click()
        await page.get_by_role("button", name="Delete for good").click()
        await page.get_by_text("9,000 dead letters are deleted for good").wait_for()
        assert redis.llen(K.dead) == 1_000


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
async def test_markup_in_a_job_runs_nowhere(
    chromium: Any, url: str, site: str, store: AsyncStore, redis: Redis, *, scripts: bool
) -> None:
    app = Headrace(url)
    error = dict.fromkeys(("type", "message", "traceback", "reason", "consumer"), ATTACK)
    filled = await fill(
        app, store, redis, task=f"t{ATTACK}", args=[ATTACK], kwargs={ATTACK: ATTACK}, error=error
    )
    await app.aclose()
    redis.lpush("queue", ATTACK)
    page, said = await opened(chromium, java_script_enabled=scripts)
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    for path in filled.paths.values():
        await page.goto(site + path)
        if scripts and path == "/":
            await page.locator("[data-state=live]").wait_for()
        assert await page.locator("img[src=x], svg[onload]").count() == 0, path
        assert await page.locator("script:not([src])").count() == 0, path
    await page.goto(site + f"/dead-letters/{filled.dead}")
    assert json.loads(await page.locator("textarea[name=args]").input_value()) == [ATTACK]
    assert not alerts
    assert not [one for one in said if "404" not in one]


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_an_argument_of_a_megabyte_is_folded_and_has_room(
    chromium: Any, url: str, site: str, redis: Redis, size: dict[str, int]
) -> None:
    large = "x" * 1_000_000
    app = Headrace(url)
    job = await app.aenqueue("send", large)
    await app.aclose()
    die(redis, "large", args=[large])
    page, said = await opened(chromium, viewport=size)
    for path in (f"/jobs/{job.id}", "/dead-letters/large", "/dead-letters", "/queues/queue", "/"):
        await page.goto(site + path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
        tall = await page.evaluate("document.documentElement.scrollHeight")
        assert tall < 10 * size["height"], path
    await page.goto(f"{site}/jobs/{job.id}")
    await page.get_by_text("the first 20,000 bytes are shown").click()
    shown = await page.locator("details pre").first.inner_text()
    assert re.fullmatch(r'\["x{19998}', shown)
    assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert not said


@pytest.mark.parametrize("text", [HEBREW, ARABIC], ids=["hebrew", "arabic"])
async def test_text_from_right_to_left_runs_so_and_turns_nothing_beside_it(
    chromium: Any, url: str, site: str, store: AsyncStore, redis: Redis, text: str
) -> None:
    app = Headrace(url)
    filled = await fill(app, store, redis, args=[text], error={"message": text})
    await app.aclose()
    page, _ = await opened(chromium, viewport=DESK)
    await page.goto(f"{site}/dead-letters/{filled.dead}")
    area = page.locator("textarea[name=args]")
    assert json.loads(await area.input_value()) == [text]
    await page.goto(f"{site}/queues/queue")
    call = page.locator("td code[dir=auto]", has_text=text).first
    assert await call.evaluate("node => getComputedStyle(node).direction") == "rtl"
    row = page.get_by_role("row").filter(has_text=text).first
    tries = row.locator("td[data-label=tries]")
    assert await tries.evaluate("node => getComputedStyle(node).direction") == "ltr"
    await page.goto(f"{site}/jobs/{filled.dead}")
    failure = page.locator(".fail [dir=auto]")
    assert text in await failure.inner_text()
    assert await page.locator(".fail b").inner_text() == "max_attempts"
