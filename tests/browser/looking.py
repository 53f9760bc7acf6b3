"""How tests look at pages with a browser, and what they fill them with."""

from __future__ import annotations

from typing import Any

from tests.support.wait import WAIT_S

PHONE = {"width": 390, "height": 800}
DESK = {"width": 1280, "height": 800}
LONG = "x" * 300


async def opened(chromium: Any, **options: Any) -> tuple[Any, list[str]]:
    """Give a page, and what its console says from now on."""
    context = await chromium.new_context(**options)
    context.set_default_timeout(WAIT_S * 1000)
    page, said = await context.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    return page, said
