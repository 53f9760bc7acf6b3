"""Each action of the pages, done by a person with a browser: found, pressed, and what came of it looked at."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from redis import Redis
from starlette.routing import Route

from headrace import Headrace
from headrace import operations as op
from headrace.access import Tokens, new_token
from headrace.schedules import changes
from headrace.store import AsyncStore
from headrace.web import Access
from headrace.web.application import create_site
from tests.browser.looking import opened
from tests.integration.web.client import K
from tests.integration.web.pages import FLOW_QUEUE, Filled, die
from tests.support.serving import served


class Visit(NamedTuple):
    """A person who looks at a page, and what stands behind it."""

    page: Any
    site: str
    filled: Filled
    store: AsyncStore
    redis: Redis
    token: str

    async def go(self, path: str) -> None:
        await self.page.goto(self.site + path)

    async def press(self, name: str, *, link: bool = False, row: str = "") -> None:
        """Press a button, or what looks like one; of several the one in the row with that text."""
        where = self.page.get_by_role("row").filter(has_text=row) if row else self.page
        await where.get_by_role("link" if link else "button", name=name, exact=True).click()

    async def read(self, text: str) -> None:
        """Wait until the page says so."""
        await self.page.get_by_text(text).first.wait_for()

    def waits(self) -> bool:
        """Whether the job that waits still does."""
        jobs = [json.loads(job)["id"] for job in self.redis.lrange(K.pending, 0, -1)]
        return self.filled.pending in jobs

    async def schedules(self) -> dict[str, Any]:
        return {one.name: one for one in await self.store.follow(changes.all_schedules())}


async def pause_a_queue(visit: Visit) -> None:
    await visit.go("/queues/queue")
    await visit.press("Pause")
    await visit.read("The queue is paused")
    assert (await visit.store.run(op.snapshot(K))).paused


async def resume_a_queue(visit: Visit) -> None:
    await visit.store.run(op.pause(K, paused=True))
    await visit.go("/queues/queue")
    await visit.press("Resume")
    await visit.read("hands out jobs again")
    assert not (await visit.store.run(op.snapshot(K))).paused


async def cancel_a_job(visit: Visit) -> None:
    await visit.go(f"/jobs/{visit.filled.pending}?queue=queue")
    await visit.press("Cancel…", link=True)
    await visit.read("Cancel this job?")
    assert visit.waits()
    await visit.press("Cancel the job")
    await visit.read("The job is cancelled")
    assert not visit.waits()


async def leave_a_job(visit: Visit) -> None:
    await visit.go(f"/jobs/{visit.filled.pending}/cancel?queue=queue")
    await visit.press("Leave it", link=True)
    await visit.read("Where it is, and why")
    assert visit.waits()


async def put_back_the_ticked(visit: Visit) -> None:
    die(visit.redis, "dead2")
    die(visit.redis, "dead3")
    await visit.go("/dead-letters?queue=queue")
    for job_id in ("dead1", "dead3"):
        await visit.page.get_by_role("checkbox", name=job_id).check()
    await visit.press("Put back the ticked")
    await visit.read("2 dead letters are put back")
    assert letters(visit.redis) == ["dead2"]


async def put_back_all_that_fit(visit: Visit) -> None:
    die(visit.redis, "dead2", task="pay")
    await visit.go("/dead-letters?queue=queue")
    await visit.page.get_by_label("Task").fill("pay")
    await visit.press("Filter")
    await visit.press("Put back all that fit")
    await visit.read("1 dead letter is put back")
    assert letters(visit.redis) == ["dead1"]


async def delete_all_that_fit(visit: Visit) -> None:
    die(visit.redis, "dead2", task="pay")
    await visit.go("/dead-letters?queue=queue&task=pay")
    await visit.press("Delete all that fit…", link=True)
    await visit.read("Delete all dead letters with task pay of queue queue for good?")
    assert letters(visit.redis) == ["dead2", "dead1"]
    await visit.press("Delete for good")
    await visit.read("1 dead letter is deleted for good")
    assert letters(visit.redis) == ["dead1"]


async def edit_a_letter_and_put_it_back(visit: Visit) -> None:
    await visit.go("/dead-letters?queue=queue")
    await visit.press("send", link=True, row="dead1")
    await visit.page.locator("textarea[name=args]").fill('["ann", 2]')
    await visit.page.locator("textarea[name=kwargs]").fill("{}")
    await visit.press("Put it back")
    await visit.read("1 dead letter is put back")
    jobs = [json.loads(job) for job in visit.redis.lrange("queue", 0, -1)]
    assert [job["args"] for job in jobs if job["id"] == "dead1"] == [["ann", 2]]


async def add_a_schedule(visit: Visit) -> None:
    await visit.go("/schedules")
    await visit.page.locator("#add > summary").click()
    await visit.page.get_by_label("Name").fill("nightly")
    await visit.page.get_by_label("Task").fill("report")
    await visit.page.get_by_label("Cron").fill("30 2 * * MON-FRI")
    await visit.page.get_by_label("Time zone").fill("Europe/Berlin")
    await visit.page.get_by_label("args", exact=True).fill('["all"]')
    await visit.press("Add the schedule")
    await visit.read("The schedule is added")
    await visit.read("cron 30 2 * * MON-FRI in Europe/Berlin")
    assert {*await visit.schedules()} == {"beat", "nightly"}


async def add_a_schedule_that_is_wrong(visit: Visit) -> None:
    await visit.go("/schedules")
    await visit.page.locator("#add > summary").click()
    await visit.page.get_by_label("Name").fill("nightly")
    await visit.page.get_by_label("Task").fill("report")
    await visit.page.get_by_label("Or every").fill("soon")
    await visit.press("Add the schedule")
    await visit.read("'soon' is no number of seconds")
    every = visit.page.get_by_label("Or every")
    assert await every.input_value() == "soon"
    assert await every.evaluate("node => node === document.activeElement")
    assert await visit.page.get_by_label("Name").input_value() == "nightly"
    assert {*await visit.schedules()} == {"beat"}


async def pause_a_schedule(visit: Visit) -> None:
    await visit.go("/schedules")
    await visit.press("Pause", row="beat")
    await visit.read("The schedule has no ticks")
    assert (await visit.schedules())["beat"].paused


async def resume_a_schedule(visit: Visit) -> None:
    await visit.store.follow(changes.pause("beat"))
    await visit.go("/schedules")
    await visit.press("Resume", row="beat")
    await visit.read("goes on with its next tick")
    assert not (await visit.schedules())["beat"].paused


async def remove_a_schedule(visit: Visit) -> None:
    await visit.go("/schedules")
    await visit.press("Remove…", link=True, row="beat")
    await visit.read("Remove this schedule?")
    assert "beat" in await visit.schedules()
    await visit.press("Remove the schedule")
    await visit.read("The schedule is removed")
    assert await visit.schedules() == {}


async def cancel_a_workflow(visit: Visit) -> None:
    await visit.go(f"/workflows/{visit.filled.workflow}?queue={FLOW_QUEUE}")
    await visit.press("Cancel…", link=True)
    await visit.page.get_by_role("button", name="Cancel").click()
    await visit.read("The workflow is cancelled")


async def sign_in(visit: Visit) -> None:
    await visit.go("/queues/queue?place=dead")
    await visit.page.get_by_label("Token").fill(visit.token)
    await visit.press("Sign in")
    await visit.page.wait_for_url("**/queues/queue?place=dead")
    await visit.read("ann, operator")


async def sign_in_with_another_token(visit: Visit) -> None:
    await visit.go("/login")
    await visit.page.get_by_label("Token").fill("hr_nobody")
    await visit.press("Sign in")
    await visit.page.get_by_role("alert").wait_for()
    assert await visit.page.context.cookies() == []


async def sign_out(visit: Visit) -> None:
    await sign_in(visit)
    await visit.press("Sign out")
    await visit.page.wait_for_url("**/login")
    assert await visit.page.context.cookies() == []


def letters(redis: Redis) -> list[str]:
    return [json.loads(one)["id"] for one in redis.lrange(K.dead, 0, -1)]


Action = Callable[[Visit], Awaitable[None]]
ACTIONS: list[tuple[Action, str]] = [
    (pause_a_queue, "/queues/{queue:rest}/pause"),
    (resume_a_queue, "/queues/{queue:rest}/resume"),
    (cancel_a_job, "/jobs/{job_id:rest}/cancel"),
    (leave_a_job, ""),
    (put_back_the_ticked, "/dead-letters/redrive"),
    (put_back_all_that_fit, "/dead-letters/redrive"),
    (delete_all_that_fit, "/dead-letters/purge"),
    (edit_a_letter_and_put_it_back, "/dead-letters/{job_id:rest}/redrive"),
    (add_a_schedule, "/schedules"),
    (add_a_schedule_that_is_wrong, "/schedules"),
    (pause_a_schedule, "/schedules/{name:rest}/pause"),
    (resume_a_schedule, "/schedules/{name:rest}/resume"),
    (remove_a_schedule, "/schedules/{name:rest}/remove"),
    (cancel_a_workflow, "/workflows/{workflow_id:rest}/cancel"),
    (sign_in, "/login"),
    (sign_in_with_another_token, "/login"),
    (sign_out, "/logout"),
]
"""What a person does, and which route does it: the last one to which a form is sent meanwhile."""


async def test_there_is_a_test_for_each_action_of_the_pages(url: str, store: AsyncStore) -> None:
    app = Headrace(url)
    routes = await _posted(app, store)
    await app.aclose()
    assert routes.keys() == {path for _, path in ACTIONS if path}


@pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize(("action", "path"), ACTIONS, ids=[one.__name__ for one, _ in ACTIONS])
async def test_an_action_does_what_its_button_says(
    chromium: Any, url: str, filled: Filled, store: AsyncStore, redis: Redis, tmp_path: Path,
    action: Action, path: str, *, scripts: bool,
) -> None:  # fmt: skip
    token, entry = new_token("ann", "operator", [], None)
    (tokens := tmp_path / "tokens.toml").write_text(entry)
    tokens.chmod(0o600)
    signs = path in {"/login", "/logout"}
    options: dict[str, Any] = {"access": Access(Tokens(tokens))} if signs else {}
    async with served(url, **options) as (_, port):
        page, said = await opened(chromium, java_script_enabled=scripts)
        sent: list[str] = []
        page.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
        site = f"http://127.0.0.1:{port}"
        await action(Visit(page, site, filled, store, redis, token))
        app = Headrace(url)
        routes = await _posted(app, store)
        await app.aclose()
        assert bool(sent) == bool(path)
        if path:
            assert routes[path].path_regex.match(urlsplit(sent[-1]).path)
        assert not [
            one for one in said if "status of 40" not in one
        ]  # a browser tells of each refusal
        await page.context.close()


async def _posted(app: Headrace, store: AsyncStore) -> dict[str, Route]:
    """Give the routes of the pages to which forms are sent."""
    found = [one for one in create_site(app, store).routes if isinstance(one, Route)]
    return {
        one.path: one
        for one in found
        if "POST" in (one.methods or ()) and not one.path.startswith("/api/")
    }
