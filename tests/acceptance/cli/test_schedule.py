"""``headrace schedule``: list, add, pause, resume, remove, next."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from headrace.cli import main
from headrace.keys import SCHEDULE_DUE, SCHEDULE_STATE, SCHEDULES


def run(url: str, *words: str) -> int:
    return main(["schedule", *words, "--url", url])


def listed(url: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(url, "list", "--json") == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_a_schedule_is_added_listed_paused_and_removed(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    zone = ("--timezone", "Europe/Berlin")
    words = ("add", "nightly", "report", "1", "-k", "full=true", "--cron", "30 2 * * *", *zone)
    assert run(url, *words, "--missed", "skip", "-q", "slow") == 0
    assert "nightly is added; its next tick is 2" in capsys.readouterr().out
    assert run(url, *words) == 2
    assert "already" in capsys.readouterr().err
    (one,) = listed(url, capsys)
    assert one["job"] == {"task": "report", "args": [1], "kwargs": {"full": True}}
    assert (one["cron"], one["timezone"], one["queue"]) == ("30 2 * * *", "Europe/Berlin", "slow")
    assert (one["state"], one["missed_policy"], one["drift_s"]) == ("added", "skip", None)
    assert run(url, "pause", "nightly") == 0
    assert run(url, "pause", "nightly") == 0
    assert "as before" in capsys.readouterr().out
    assert listed(url, capsys)[0]["state"] == "paused"
    assert run(url, "next", "nightly") == 1
    assert "it is paused" in capsys.readouterr().err
    assert run(url, "resume", "nightly") == 0
    assert run(url, "next", "nightly", "-n", "2") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run(url, "remove", "nightly") == 0
    assert run(url, "remove", "nightly") == 1
    assert run(url, "pause", "nightly") == 2
    assert listed(url, capsys) == []


def test_the_ticks_of_an_expression_are_shown_before_it_is_used(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, "next", "--cron", "@daily", "-n", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[1:]] == ["00:00:00Z"] * 3
    assert run(url, "next", "--cron", "61 * * * *") == 2
    assert "bad minute" in capsys.readouterr().err


def test_the_list_shows_drift_and_what_is_broken(
    url: str, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url, "add", "beat", "ping", "--every", "30") == 0
    state = b'{"fired":3,"missed":1,"last_due":30000,"last_fired_at":30250,"missed_at":1}'
    redis.hset(SCHEDULE_STATE, "beat", state)
    redis.hset(SCHEDULES, "odd", b"{}")
    redis.zadd(SCHEDULE_DUE, {"odd": 5})
    found = {one["name"]: one for one in listed(url, capsys)}
    assert found["beat"]["drift_s"] == 0.25
    assert found["odd"]["broken"]
    assert run(url, "list") == 0
    shown = capsys.readouterr().out
    assert "250 ms" in shown
    assert "overdue" in shown
    assert "odd: its definition cannot be read" in shown


def test_the_doctor_sees_schedules_that_do_not_fire(
    url: str, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("late", "gone", "odd", "ahead"):
        assert run(url, "add", name, "ping", "--every", "86400") == 0
    redis.zadd(SCHEDULE_DUE, {"late": 86_400_000})
    redis.zrem(SCHEDULE_DUE, "odd")
    redis.zadd(SCHEDULE_DUE, {"ahead": 86_400_000 * 50_000})
    definition = redis.hget(SCHEDULES, "gone")
    assert isinstance(definition, bytes)
    redis.hset(SCHEDULES, "gone", definition[:-1] + b',"declared":true}')
    capsys.readouterr()
    assert main(["doctor", "--json", "--url", url]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    found = {one["code"]: one["found"] for one in findings if one["code"].startswith("schedule")}
    assert found["schedule_overdue"].startswith("schedule late has been due for")
    assert found["schedule_broken"].startswith("schedule odd has no ticks")
    assert "schedule gone" in found["schedule_undeclared"]
    assert found["schedule_ahead"].startswith("schedule ahead passes over ticks")
    assert found["schedules"] == "4 schedules, 0 of them paused"
