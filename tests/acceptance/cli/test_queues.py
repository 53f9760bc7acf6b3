"""``headrace info``, ``pause``, ``resume`` and ``forget``, without a terminal."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from redis import Redis

from headrace.store import Store
from tests.support.commands import Headrace, starting
from tests.support.jobs import bury
from tests.support.wait import WAIT_S, wait_until


def test_info_counts_every_place_of_every_queue(
    headrace: Headrace, redis: Redis, store: Store
) -> None:
    bury(store, "emails")
    headrace("produce", "echo", "-n", "3")
    headrace("produce", "echo", "-p", "1")
    headrace("produce", "echo", "--delay", "60")
    ran = headrace("info", "--json")
    assert (ran.code, ran.err) == (0, "")
    server, (emails, queue) = ran.json["server"], ran.json["queues"]
    assert server["engine"] in {"redis", "valkey"}
    assert server["aof_enabled"] is True
    assert (emails["queue"], emails["dead"], emails["waiting"]) == ("emails", 1, 0)
    assert (queue["waiting"], queue["priority"], queue["delayed"]) == (4, 1, 1)
    assert (queue["enqueued"], queue["foreign"], queue["paused"]) == (5, 0, False)
    assert 0 <= queue["oldest_s"] < 60
    assert 0 < queue["due_in_s"] <= 60
    assert queue["counters"] == {"enqueued": 5}


def test_info_without_a_terminal_is_plain_lines(headrace: Headrace, redis: Redis) -> None:
    redis.lpush("queue", b'{"task": "echo"}', b"no job at all")
    ran = headrace("info")
    server, head, line = ran.lines
    assert server.startswith("# ")
    assert "append-only file on" in server
    figures = dict(zip(head.split(), line.split(), strict=True))
    assert (figures["queue"], figures["waiting"], figures["oldest_s"]) == ("queue", "2", "-")
    assert "\x1b" not in ran.out


def test_info_of_named_queues_is_of_these_alone(headrace: Headrace, redis: Redis) -> None:
    names = [queue["queue"] for queue in headrace("info", "b", "a", "--json").json["queues"]]
    assert names == ["b", "a"]


def test_info_watches_in_lines_that_a_program_can_read(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    process = starting(tmp_path, "info", "--watch", "--interval", "0.1", "--json", url=url)
    wait_until(lambda: process.output.count("\n") >= 3, what="three looks")
    os.kill(process.pid, signal.SIGINT)
    process.popen.wait(WAIT_S)
    looks = [json.loads(line) for line in process.output.splitlines()[:3]]
    assert looks[0]["now_ms"] < looks[1]["now_ms"] < looks[2]["now_ms"]


def test_queues_are_paused_and_resumed_once(headrace: Headrace, redis: Redis) -> None:
    assert headrace("pause", "a", "b").lines == ["a is paused", "b is paused"]
    assert headrace("pause", "a").lines == ["a is paused, as before"]
    assert headrace("info", "a", "--json").json["queues"][0]["paused"] is True
    assert headrace("resume", "a").lines == ["a is not paused"]
    assert headrace("resume", "a").lines == ["a is not paused, as before"]


def test_empty_queues_are_forgotten_and_others_are_not(headrace: Headrace, redis: Redis) -> None:
    redis.sadd("headrace:queues", "empty", "vacant", "full")
    redis.lpush("full", "{}")
    assert headrace("forget", "empty").lines == ["empty is forgotten"]
    kept = headrace("forget", "full")
    assert (kept.code, kept.lines) == (1, ["full is not forgotten: it holds jobs or dead letters"])
    assert headrace("forget", "--empty").lines[-1] == "2 queues forgotten"  # the default one too
    assert redis.smembers("headrace:queues") == {b"full"}


def test_limits_are_set_over_what_is_declared_and_taken_back(
    headrace: Headrace, redis: Redis
) -> None:
    assert headrace("limit", "emails").out == "emails has no limits\n"
    redis.hset("emails:limits", "send", "100 10 0")
    ran = headrace("limit", "emails", "send", "--rate", "30/m", "--concurrency", "4")
    assert ran.out == "send: 0.5 jobs/s, 1 at once after a rest; 4 at once (set by an operator)\n"
    ran = headrace("limit", "emails", "send", "--clear")
    assert ran.out == "send: 100 jobs/s, 10 at once after a rest\n"
    wrong = headrace("limit", "emails", "--rate", "often")
    assert wrong.code == 2
    assert "100/s" in wrong.err
