"""Signing in: what a browser has to show, what it gets for it, and when that is over."""

from __future__ import annotations

import httpx
import pytest
from redis import Redis

from headrace.clock import now_ms
from headrace.web import access as checking
from headrace.web import sessions
from tests.integration.web.keyring import Keyring
from tests.integration.web.pages import die
from tests.support.pages import BROWSER, FORM, Page, open_page, send


async def signed_in(keyring: Keyring, name: str, start: str = "/login") -> httpx.AsyncClient:
    """Return a browser that has signed in with a token."""
    browser = keyring.client()
    page = await open_page(browser, start)
    answer = await browser.post(
        page.forms["/login"].action,
        data={"token": keyring.token(name), "next": dict(page.forms["/login"].fields)["next"]},
        headers=FORM,
    )
    assert answer.status_code == 303, answer.text
    return browser


async def test_a_browser_is_led_to_the_form_and_then_back(keyring: Keyring) -> None:
    browser = keyring.client()
    page = await open_page(browser, "/queues/queue?place=dead")
    assert page.url.endswith("/login?next=queues%2Fqueue%3Fplace%3Ddead")
    assert "redis://" not in page.answer.text  # whoever asks is not known yet
    assert not page.all("nav")
    answer = await browser.post(
        "/login", data={"token": keyring.token("viewer"), "next": "queues/queue?place=dead"},
        headers=FORM,
    )  # fmt: skip
    assert answer.headers["location"] == "./queues/queue?place=dead"
    page = await open_page(browser, "/queues/queue?place=dead")
    assert "viewer, viewer" in page.text
    assert (await browser.get("/api/v1/queues")).is_success


async def test_a_program_is_led_nowhere(keyring: Keyring) -> None:
    browser = keyring.client()
    assert (await browser.get("/queues/queue")).status_code == 401
    assert (await browser.get("/api/v1/queues", headers=BROWSER)).status_code == 401
    posted = await browser.post("/queues/queue/pause", headers=BROWSER)
    assert posted.status_code == 401


async def test_the_style_of_the_form_is_everybodys(keyring: Keyring) -> None:
    assert (await keyring.client().get("/static/app.css")).is_success


async def test_the_cookie_is_for_this_server_alone_and_has_no_token_in_it(
    keyring: Keyring,
) -> None:
    browser = keyring.client()
    token = keyring.token("admin")
    answer = await browser.post("/login", data={"token": token}, headers=FORM)
    cookie = answer.headers["set-cookie"]
    assert token not in cookie
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= parts
    assert "secure" not in parts
    assert cookie.startswith("headrace=admin.")


async def test_over_https_the_cookie_is_sent_by_https_alone(keyring: Keyring) -> None:
    browser = keyring.client()
    answer = await browser.post(
        "https://127.0.0.1/login", data={"token": keyring.token("admin")}, headers=FORM
    )
    assert "Secure" in answer.headers["set-cookie"]


async def test_each_port_has_a_cookie_of_its_own(keyring: Keyring) -> None:
    data = {"token": keyring.token("admin")}
    answer = await keyring.client().post("http://127.0.0.1:8390/login", data=data, headers=FORM)
    assert answer.headers["set-cookie"].startswith("headrace-8390=")


@pytest.mark.parametrize("token", ["", "hr_nobody", "ü", "a\0b", "x" * 10_000])
async def test_a_wrong_token_is_told_of(keyring: Keyring, token: str) -> None:
    answer = await keyring.client().post("/login", data={"token": token}, headers=FORM)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    page = Page(answer)
    assert "nobody has this token" in page.text
    assert page.forms["/login"]


async def test_whoever_guesses_has_to_wait(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_TRIES", 3)
    browser = keyring.client()
    for _ in range(3):
        await browser.post("/login", data={"token": "hr_wrong"}, headers=FORM)
    data = {"token": keyring.token("admin")}
    refused = await browser.post("/login", data=data, headers=FORM)
    assert "wait a minute" in refused.text
    assert refused.headers["retry-after"] == "60"


async def test_signed_out_is_out(keyring: Keyring) -> None:
    browser = await signed_in(keyring, "viewer")
    page = await open_page(browser, "/schedules")
    page = await send(browser, page.forms["/logout"])
    assert page.url.endswith("/login")
    assert (await browser.get("/api/v1/queues")).status_code == 401


async def test_a_token_that_is_taken_out_ends_its_session(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.access.tokens._LOOK_EVERY_S", 0.0)
    browser = await signed_in(keyring, "viewer")
    assert (await browser.get("/api/v1/queues")).is_success
    keyring.path.write_text("")
    assert (await browser.get("/api/v1/queues")).status_code == 401


async def test_another_token_of_the_same_name_ends_it_too(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.access.tokens._LOOK_EVERY_S", 0.0)
    browser = await signed_in(keyring, "viewer")
    keyring.path.write_text("")
    keyring.add("viewer", "viewer")
    assert (await browser.get("/api/v1/queues")).status_code == 401


async def test_a_session_is_over_after_its_time(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await signed_in(keyring, "viewer")
    later = now_ms() + sessions.LASTS_S * 1000
    monkeypatch.setattr(sessions, "now_ms", lambda: later)
    assert (await browser.get("/api/v1/queues")).status_code == 401


async def test_a_session_of_another_process_is_none(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await signed_in(keyring, "viewer")
    monkeypatch.setattr(sessions, "_KEY", bytes(32))
    assert (await browser.get("/api/v1/queues")).status_code == 401


@pytest.mark.parametrize(
    "forged", ["", "admin", "admin..", "admin.9999999999.", "admin.9999999999.AAAA", ".1.x", "ü.1.x",
               "admin.99999999999999999999.A", "admin.²³.A", "admin.-1.A"],
)  # fmt: skip
async def test_a_cookie_that_was_made_up_is_worth_nothing(keyring: Keyring, forged: str) -> None:
    headers = {"cookie": f"headrace={forged}".encode()}
    answer = await keyring.client().get("/api/v1/queues", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401


async def test_a_viewers_session_with_an_admins_name_is_worth_nothing(keyring: Keyring) -> None:
    browser = await signed_in(keyring, "viewer")
    ((name, value),) = browser.cookies.items()
    assert (name, value.partition(".")[0]) == ("headrace", "viewer")
    forged = {"cookie": f"headrace=admin.{value.partition('.')[2]}"}
    assert (await keyring.client().get("/api/v1/queues", headers=forged)).status_code == 401


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example/", "/\\evil.example", "\\\\evil", "a\r\nb: c"]
)
async def test_the_way_back_leads_to_no_other_site(keyring: Keyring, back: str) -> None:
    data = {"token": keyring.token("admin"), "next": back}
    answer = await keyring.client().post("/login", data=data, headers=FORM)
    assert answer.headers["location"].startswith("./")
    there = httpx.URL("http://127.0.0.1/login").join(answer.headers["location"])
    assert there.host == "127.0.0.1"
    assert "b" not in answer.headers


async def test_each_role_sees_the_buttons_that_it_may_press(keyring: Keyring, redis: Redis) -> None:
    redis.lpush("queue:dlq", '{"id":"a","task":"t","error":{"reason":"timeout"}}')
    redis.sadd("headrace:queues", "queue")
    may = {}
    for role in ("viewer", "operator", "admin"):
        page = await open_page(await signed_in(keyring, role), "/dead-letters?queue=queue")
        redrives = "/dead-letters/redrive" in page.forms
        purges = any("/dead-letters/purge" in link for link in page.links())
        may[role] = (redrives, purges)
    assert may == {"viewer": (False, False), "operator": (True, False), "admin": (True, True)}


async def test_a_role_that_may_not_look_is_told_so_by_a_page(keyring: Keyring) -> None:
    browser = await signed_in(keyring, "producer")
    page = await open_page(browser, "/schedules", status=403)
    assert "is a producer's, who may not look" in page.text
    assert "/logout" in page.forms


class TestQueuesOfOnesOwn:
    @pytest.fixture
    async def mine(self, scoped: Keyring) -> httpx.AsyncClient:
        return await signed_in(scoped, "scoped")

    async def test_are_where_one_is_led(self, keyring: Keyring) -> None:
        keyring.add("scoped", "viewer", "mine")
        data = {"token": keyring.token("scoped")}
        answer = await keyring.client().post("/login", data=data, headers=FORM)
        assert answer.headers["location"] == "./queues/mine"

    @pytest.mark.parametrize(
        "path",
        [
            "/queues/{}",
            "/jobs/a?queue={}",
            "/jobs/a/cancel?queue={}",
            "/dead-letters?queue={}",
            "/dead-letters/d?queue={}",
            "/under-the-hood/{}",
        ],
    )
    async def test_are_the_only_ones(self, mine: httpx.AsyncClient, path: str) -> None:
        page = await open_page(mine, path.format("mine"))
        assert "theirs" not in page.text
        assert "Consumers" not in page.text
        page = await open_page(mine, path.format("theirs"), status=403)
        assert "is for other queues (mine)" in page.text

    @pytest.mark.parametrize(
        ("path", "data"),
        [
            ("/queues/theirs/pause", {"a": "b"}),
            ("/jobs/a/cancel?queue=theirs", {"a": "b"}),
            ("/dead-letters/redrive", {"queue": "theirs"}),
            ("/dead-letters/purge", {"queue": "theirs"}),
            ("/dead-letters/d/redrive?queue=theirs", {"a": "b"}),
        ],
    )
    async def test_are_the_only_ones_that_are_changed(
        self, mine: httpx.AsyncClient, redis: Redis, path: str, data: dict[str, str]
    ) -> None:
        answer = await mine.post(path, data=data, headers=FORM)
        assert answer.status_code == 403, answer.text
        assert redis.llen("theirs") == redis.llen("theirs:dlq") == 1

    @pytest.mark.parametrize("path", ["/", "/consumers", "/doctor"])
    async def test_are_too_few_for_what_is_about_all(
        self, mine: httpx.AsyncClient, path: str
    ) -> None:
        page = await open_page(mine, path, status=403)
        assert "about all of them" in page.text
        assert "http://127.0.0.1/queues/mine" in page.links()


async def test_what_is_done_by_a_page_is_a_line_in_the_log(
    keyring: Keyring, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "headrace.actions")
    redis.sadd("headrace:queues", "queue")
    browser = await signed_in(keyring, "operator")
    page = await open_page(browser, "/queues/queue")
    await open_page(browser, "/jobs/a/cancel")  # asks, and changes nothing
    await send(browser, page.forms["/queues/queue/pause"])
    said = [one.getMessage() for one in caplog.records if one.name == "headrace.actions"]
    assert said == ["operator: POST /queues/queue/pause: 303"]


async def test_the_line_of_a_schedule_that_is_added_by_the_page_names_it(
    keyring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "headrace.actions")
    browser = await signed_in(keyring, "operator")
    form = (await open_page(browser, "/schedules")).forms["/schedules"]
    await send(browser, form, name="nightly", task="t", every="60")
    await send(browser, form, name="a\nforged: line", task="t", every="60", status=400)
    said = [one.getMessage() for one in caplog.records if one.name == "headrace.actions"]
    assert said == ["operator: POST /schedules (nightly): 303", "operator: POST /schedules: 400"]


async def test_the_line_of_letters_that_go_names_their_queue_and_which_they_were(
    keyring: Keyring, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """By the API and by the pages: the path says neither."""
    caplog.set_level("INFO", "headrace.actions")
    for n in range(9):
        die(redis, f"d{n}", queue="bills", task="pay")
    admin, api = await signed_in(keyring, "admin"), keyring.client("admin")
    letters = "/api/v1/dead-letters"
    await api.post(f"{letters}/redrive", json={"queue": "bills", "ids": ["d0", "d1"]})
    await api.post(
        f"{letters}/purge", json={"queue": "bills", "reason": "max_attempts", "text": "no such"}
    )
    await api.post(f"{letters}/d2/redrive?queue=bills", json={})
    await api.post(f"{letters}/purge", json={"queue": "bills", "ids": [f"e{n}" for n in range(7)]})
    await api.post(f"{letters}/purge", json={"queue": "bills", "ids": [], "reason": ""})
    await api.post(f"{letters}/purge", json={"queue": "bills", "all": True, "died_until_ms": 1})
    await api.post(f"{letters}/purge", json={"queue": "bills"})  # of which? Refused
    await api.post("/api/v1/jobs/x/cancel?queue=a:b")  # it can be no queue: nothing has happened
    for word in ("redrive", "purge"):
        form = {"queue": "bills", "task": "pay\nforged: line", "id": "d3"}
        await admin.post(f"/dead-letters/{word}", data=form, headers=FORM)
    redis.delete("bills:dlq")
    redis.set("bills:dlq", "mine")
    await api.post(f"{letters}/purge", json={"queue": "bills", "all": True})
    said = [one.getMessage() for one in caplog.records if one.name == "headrace.actions"]
    assert said == [
        f"admin: POST {letters}/redrive (queue bills, d0 d1): 200",
        f"admin: POST {letters}/purge (queue bills, reason max_attempts, with a text): 200",
        f"admin: POST {letters}/d2/redrive (queue bills): 200",
        f"admin: POST {letters}/purge (queue bills, e0 e1 e2 e3 e4 and 2 more): 200",
        f"admin: POST {letters}/purge (queue bills, reason none, no letter): 200",
        f"admin: POST {letters}/purge (queue bills, all that died until 1): 200",
        *(
            f"admin: POST /dead-letters/{word} (queue bills, task pay\\nforged: line, d3): 303"
            for word in ("redrive", "purge")
        ),
        f"admin: POST {letters}/purge (queue bills, all letters): perhaps in part",
    ]
    redis.delete("bills:dlq")
