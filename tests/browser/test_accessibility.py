"""What axe finds wrong on the pages, in light and dark, at a desk and on a phone: nothing that matters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.looking import DESK, PHONE, opened
from tests.integration.web.pages import Filled

GRAVE = {"serious", "critical"}


@pytest.fixture
def axe() -> Any:
    module: Any = pytest.importorskip(
        "axe_playwright_python.async_playwright", reason="axe is not installed: make test-browser"
    )
    return module.Axe()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_no_page_has_a_grave_fault(
    chromium: Any, axe: Any, site: str, filled: Filled, scheme: str, size: dict[str, int]
) -> None:
    page, _ = await opened(chromium, viewport=size, color_scheme=scheme)
    paths = filled.paths | {"sign in": "/login", "no letters": "/dead-letters?queue=other"}
    faults: list[str] = []
    for name, path in paths.items():
        await page.goto(site + path)
        await page.evaluate(
            "document.querySelectorAll('details').forEach(one => { one.open = true; })"
        )
        found = (await axe.run(page)).response
        assert found["passes"], name
        faults += [_told(name, one) for one in found["violations"] if one["impact"] in GRAVE]
    assert faults == []


async def test_what_is_wrong_with_a_form_is_told_without_a_fault(
    chromium: Any, axe: Any, site: str, filled: Filled
) -> None:
    page, _ = await opened(chromium, viewport=DESK)
    await page.goto(f"{site}/schedules")
    await page.locator("#add > summary").click()
    await page.get_by_label("Name").fill("two words")
    await page.get_by_label("Task").fill("t")
    await page.get_by_role("button", name="Add the schedule").click()
    await page.get_by_role("alert").wait_for()
    found = (await axe.run(page)).response
    assert [_told("form", one) for one in found["violations"] if one["impact"] in GRAVE] == []


def _told(name: str, fault: dict[str, Any]) -> str:
    where = [" ".join(map(str, node["target"])) for node in fault["nodes"][:3]]
    return f"{name}: {fault['id']} ({fault['impact']}): {fault['help']}: {where}"
