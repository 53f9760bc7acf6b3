"""Tokens: who may ask for what, in which queues, until when."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.routing import Route

from headrace import Headrace, InvalidSetting
from headrace.access import ROLES, Tokens, new_token
from headrace.store import AsyncStore
from headrace.web import access as checking
from headrace.web.application import create_site
from tests.integration.web.client import error_of
from tests.integration.web.keyring import Keyring

EVERYBODY = {"viewer", "producer", "consumer", "operator", "admin"}
LOOKERS = {"viewer", "operator", "admin"}
PRODUCERS = {"producer", "operator", "admin"}
CONSUMERS = {"consumer", "admin"}
OPERATORS = {"operator", "admin"}

MAY = {
    ("GET", "/"): LOOKERS,
    ("GET", "/metrics"): LOOKERS,
    ("GET", "/queues/{queue:rest}"): LOOKERS,
    ("POST", "/queues/{queue:rest}/pause"): OPERATORS,
    ("POST", "/queues/{queue:rest}/resume"): OPERATORS,
    ("GET", "/jobs/{job_id:rest}"): LOOKERS,
    ("GET", "/jobs/{job_id:rest}/cancel"): OPERATORS,
    ("POST", "/jobs/{job_id:rest}/cancel"): OPERATORS,
    ("GET", "/dead-letters"): LOOKERS,
    ("GET", "/dead-letters/purge"): {"admin"},
    ("POST", "/dead-letters/purge"): {"admin"},
    ("POST", "/dead-letters/redrive"): OPERATORS,
    ("GET", "/dead-letters/{job_id:rest}"): LOOKERS,
    ("POST", "/dead-letters/{job_id:rest}/redrive"): OPERATORS,
    ("GET", "/consumers"): LOOKERS,
    ("GET", "/schedules"): LOOKERS,
    ("POST", "/schedules"): OPERATORS,
    ("POST", "/schedules/{name:rest}/pause"): OPERATORS,
    ("POST", "/schedules/{name:rest}/resume"): OPERATORS,
    ("GET", "/schedules/{name:rest}/remove"): OPERATORS,
    ("POST", "/schedules/{name:rest}/remove"): OPERATORS,
    ("GET", "/workflows/{workflow_id:rest}"): LOOKERS,
    ("GET", "/workflows/{workflow_id:rest}/cancel"): OPERATORS,
    ("POST", "/workflows/{workflow_id:rest}/cancel"): OPERATORS,
    ("GET", "/doctor"): LOOKERS,
    ("GET", "/under-the-hood"): LOOKERS,
    ("GET", "/under-the-hood/{queue:rest}"): LOOKERS,
    ("POST", "/api/v1/jobs"): PRODUCERS,
    ("GET", "/api/v1/jobs/{job_id:rest}"): LOOKERS | PRODUCERS,
    ("GET", "/api/v1/jobs/{job_id:rest}/explanation"): LOOKERS,
    ("POST", "/api/v1/jobs/{job_id:rest}/cancel"): OPERATORS,
    ("GET", "/api/v1/queues"): LOOKERS,
    ("GET", "/api/v1/queues/{queue:rest}"): LOOKERS,
    ("GET", "/api/v1/queues/{queue:rest}/jobs"): LOOKERS,
    ("POST", "/api/v1/queues/{queue:rest}/pause"): OPERATORS,
    ("POST", "/api/v1/queues/{queue:rest}/resume"): OPERATORS,
    ("GET", "/api/v1/scale"): LOOKERS,
    ("GET", "/api/v1/statistics"): LOOKERS,
    ("GET", "/api/v1/events"): LOOKERS,
    ("POST", "/api/v1/claims"): CONSUMERS,
    ("POST", "/api/v1/claims/extend"): CONSUMERS,
    ("POST", "/api/v1/claims/settle"): CONSUMERS,
    ("GET", "/api/v1/dead-letters"): LOOKERS,
    ("GET", "/api/v1/dead-letters/groups"): LOOKERS,
    ("GET", "/api/v1/dead-letters/{job_id:rest}"): LOOKERS,
    ("POST", "/api/v1/dead-letters/{job_id:rest}/redrive"): OPERATORS,
    ("POST", "/api/v1/dead-letters/redrive"): OPERATORS,
    ("POST", "/api/v1/dead-letters/purge"): {"admin"},
    ("GET", "/api/v1/consumers"): LOOKERS,
    ("GET", "/api/v1/schedules"): LOOKERS,
    ("GET", "/api/v1/schedules/{name:rest}"): LOOKERS,
    ("PUT", "/api/v1/schedules/{name:rest}"): OPERATORS,
    ("DELETE", "/api/v1/schedules/{name:rest}"): OPERATORS,
    ("POST", "/api/v1/schedules/{name:rest}/pause"): OPERATORS,
    ("POST", "/api/v1/schedules/{name:rest}/resume"): OPERATORS,
    ("GET", "/api/v1/workflows/{workflow_id:rest}"): LOOKERS | PRODUCERS,
    ("POST", "/api/v1/workflows/{workflow_id:rest}/cancel"): OPERATORS,
    ("GET", "/api/v1/problems/{name}"): EVERYBODY,
    ("GET", "/api/v1/openapi.json"): EVERYBODY,
}
STREAM = "/api/v1/events"  # its answer has no end


def test_every_route_stands_in_the_table(app: Headrace, store: AsyncStore) -> None:
    routes = {
        (method, route.path)
        for route in create_site(app, store).routes
        if isinstance(route, Route) and route.path not in checking.OPEN
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == set(MAY)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), MAY, ids=lambda text: text)
async def test_each_role_may_what_the_table_says(
    keyring: Keyring, method: str, path: str, role: str
) -> None:
    if path == STREAM and role in MAY[method, path]:
        return  # see test_web_server
    asked = path.replace("{name}", "invalid")
    for name in ("job_id", "queue", "name", "workflow_id"):
        asked = asked.replace(f"{{{name}:rest}}", "nobody")
    body: Any = {} if method in {"POST", "PUT"} else None
    answer = await keyring.client(role).request(method, asked, json=body)
    if role in MAY[method, path]:
        assert answer.status_code not in {401, 403, 500}, answer.text
    else:
        assert answer.status_code == 403
        assert f"is a {role}'s" in error_of(answer)


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/queues", "/nothing"])
@pytest.mark.parametrize("token", ["", "hr_nobody", "ü"])
async def test_without_a_token_nothing_is_said(keyring: Keyring, path: str, token: str) -> None:
    client = keyring.client()
    headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
    answer = await client.get(path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "token" in error_of(answer)
    assert (await client.get("/healthz")).status_code == 200


async def test_whoever_guesses_has_to_wait(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_TRIES", 3)
    client = keyring.client("hr_wrong")
    for _ in range(3):
        assert "nobody has this token" in error_of(await client.get("/api/v1/queues"))
    refused = await client.get("/api/v1/queues")
    assert "wait a minute" in error_of(refused)
    assert refused.headers["retry-after"] == "60"


async def test_what_operators_change_is_a_line_in_the_log(
    keyring: Keyring, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "headrace.actions")
    redis.sadd("headrace:queues", "queue")
    client = keyring.client("operator")
    await client.get("/api/v1/queues")
    await client.post("/api/v1/jobs", json={"task": "t"})
    await client.post("/api/v1/queues/queue/pause")
    await client.post("/api/v1/jobs/a%0Aforged/cancel")
    said = [one.getMessage() for one in caplog.records if one.name == "headrace.actions"]
    assert said == ["operator: POST /api/v1/queues/queue/pause: 200"]
    await client.delete("/api/v1/schedules/nobody")
    assert len(said) == 1  # what was refused has changed nothing


class TestQueuesOfOnesOwn:
    @pytest.fixture
    async def mine(self, scoped: Keyring) -> httpx.AsyncClient:
        return scoped.client("scoped")

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "jobs", {"task": "t", "queue": "{}"}),
            ("POST", "jobs", [{"task": "t", "queue": "{}"}]),
            ("GET", "jobs/a?queue={}", None),
            ("GET", "jobs/a/explanation?queue={}", None),
            ("GET", "queues/{}", None),
            ("GET", "queues/{}/jobs", None),
            ("GET", "scale?queue={}", None),
            ("POST", "queues/{}/pause", {}),
            ("POST", "claims", {"consumer": "c", "queues": ["{}"]}),
            ("POST", "claims/extend", {"claims": [{"queue": "{}", "id": "a", "claim": "c:1"}]}),
            (
                "POST",
                "claims/settle",
                {"outcomes": [{"queue": "{}", "id": "a", "claim": "c:1", "end": "ack"}]},
            ),
            ("GET", "dead-letters?queue={}", None),
            ("GET", "dead-letters/groups?queue={}", None),
            ("POST", "dead-letters/redrive", {"queue": "{}", "all": True}),
            ("POST", "dead-letters/purge", {"queue": "{}", "all": True}),
            ("PUT", "schedules/beat", {"task": "t", "every": 30, "queue": "{}"}),
        ],
    )
    async def test_are_the_only_ones(
        self, mine: httpx.AsyncClient, method: str, path: str, body: Any
    ) -> None:
        for queue, allowed in (("mine", True), ("theirs", False), ("theirs@2", False)):
            sent = _filled(body, queue)
            asked = f"/api/v1/{path.replace('{}', queue)}"
            answer = await mine.request(method, asked, json=sent)
            if allowed:
                assert answer.is_success, answer.text
            else:
                assert answer.status_code == 403, answer.text
                assert "is for other queues (mine)" in error_of(answer)

    async def test_are_the_only_ones_that_are_shown(self, mine: httpx.AsyncClient) -> None:
        queues = (await mine.get("/api/v1/queues")).json()["queues"]
        assert [one["queue"] for one in queues] == ["mine"]
        missing = await mine.get("/api/v1/queues/nothing")
        assert missing.status_code == 403

    @pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/consumers", STREAM])
    async def test_are_too_few_for_what_is_about_all(
        self, mine: httpx.AsyncClient, path: str
    ) -> None:
        answer = await mine.get(path)
        assert answer.status_code == 403
        assert "about all of them" in error_of(answer)

    async def test_a_schedule_of_another_is_not_there(
        self, mine: httpx.AsyncClient, keyring: Keyring
    ) -> None:
        beat = {"task": "t", "every": 30, "queue": "theirs"}
        assert (await keyring.client("admin").put("/api/v1/schedules/b", json=beat)).is_success
        assert (await mine.get("/api/v1/schedules")).json() == {"schedules": []}
        assert (await mine.delete("/api/v1/schedules/b")).status_code == 404
        replaced = beat | {"queue": "mine", "replace": True}
        assert (await mine.put("/api/v1/schedules/b", json=replaced)).status_code == 403


class TestTheFile:
    async def test_is_read_again_when_it_changes(
        self, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headrace.access.tokens._LOOK_EVERY_S", 0.0)
        client = keyring.client("viewer")
        assert (await client.get("/api/v1/queues")).is_success
        keyring.path.write_text("no toml")
        assert (await client.get("/api/v1/queues")).is_success  # the last that could be read
        keyring.path.write_text("")
        assert (await client.get("/api/v1/queues")).status_code == 401  # revoked

    async def test_a_token_that_is_over_is_nobodys(self, keyring: Keyring) -> None:
        keyring.add("old", "admin", expires=date(2020, 1, 1))
        keyring.add("new", "admin", expires=date(2999, 1, 1))
        assert (await keyring.client("old").get("/api/v1/queues")).status_code == 401
        assert (await keyring.client("new").get("/api/v1/queues")).is_success

    def test_has_no_token_in_it(self, keyring: Keyring) -> None:
        token, entry = new_token("a", "viewer", ["emails"], None)
        assert token not in entry
        assert len(token) > 30

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "has no token: headrace token NAME"),
            ("[a", "is no TOML"),
            ("a = 1", r"\[a\]: it must be a table"),
            ('[a]\nrole = "king"', "role='king' must be one of viewer"),
            ('[a]\nrole = "viewer"', "sha256 must be 64"),
            ('[a]\nrole = "viewer"\nsha256 = "x"', "sha256 must be 64"),
            ("[a]\nrules = 1", "unknown rules"),
            (f'[a]\nrole = "viewer"\nsha256 = "{"0" * 64}"\nqueues = 1', "queues must be a list"),
            (f'[a]\nrole = "viewer"\nsha256 = "{"0" * 64}"\nqueues = ["a:b"]', "'a:b' cannot be"),
            (f'[a]\nrole = "viewer"\nsha256 = "{"0" * 64}"\nexpires = "x"', "must be a date"),
            (
                "".join(f'[{n}]\nrole = "viewer"\nsha256 = "{"0" * 64}"\n' for n in "ab"),
                r"\[b\] has the token of \[a\]",
            ),
        ],
    )
    def test_that_is_wrong_says_where(self, tmp_path: Path, text: str, says: str) -> None:
        path = tmp_path / "tokens.toml"
        path.write_text(text)
        with pytest.raises(InvalidSetting, match=says):
            Tokens(path)

    def test_that_is_not_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSetting, match="cannot be read"):
            Tokens(tmp_path / "nothing")


def _filled(value: Any, queue: str) -> Any:
    """Put a queue's name where {} stands."""
    if isinstance(value, dict):
        return {name: _filled(part, queue) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, queue) for part in value]
    return queue if value == "{}" else value
