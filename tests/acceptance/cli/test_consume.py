"""``headrace consume``: what it says, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path

from redis import Redis

from headrace import __version__
from tests.support.commands import NOBODY, Headrace, run, starting
from tests.support.plain import PlainRedis
from tests.support.processes import ROOT
from tests.support.wait import wait_until


def test_a_burst_runs_what_there_is_and_ends(headrace: Headrace, redis: Redis) -> None:
    headrace("produce", "echo", "-n", "50")
    ran = headrace("consume", "headrace.demo.tasks", "--burst", "-c", "4")
    assert ran.code == 0
    assert (redis.llen("queue"), redis.hget("queue:stats", "done")) == (0, b"50")


def test_it_consumes_the_queues_of_the_application(
    headrace: Headrace, redis: Redis, shop: Path
) -> None:
    headrace("produce", "send", "me", "--app", "shop", cwd=shop)
    ran = headrace("consume", "shop", "-b", cwd=shop)
    assert "consumes queue, mail;" in ran.err
    assert redis.hget("mail:stats", "done") == b"1"


def test_the_first_line_says_what_runs_where(url: str, shop: Path) -> None:
    secret = url.replace("redis://", "redis://:hunter2@")
    ran = run("consume", "shop", "-b", "-c", "3", "-Q", "mail,bulk", url=url, cwd=shop)
    first = ran.err.splitlines()[0]
    assert f"headrace {__version__} runs shop at {url}" in first
    assert first.endswith("tasks: send, tidy; queues: mail, bulk; 3 slots")
    process = starting(shop, "consume", "shop", url=secret, PYTHONPATH=f"{ROOT / 'src'}:{shop}")
    wait_until(lambda: "runs shop at" in process.output, what="its first line")
    assert "hunter2" not in process.output
    process.end()


def test_of_many_tasks_the_first_line_names_some(url: str, tmp_path: Path) -> None:
    lines = ["from headrace import Headrace", "app = Headrace()"]
    lines += [f"app.task(name='task{n:02}')(print)" for n in range(30)]
    (tmp_path / "shop.py").write_text("\n".join(lines))
    first = run("consume", "shop", "-b", url=url, cwd=tmp_path).err.splitlines()[0]
    assert "task00, task01," in first
    assert "task19, 10 more; queues" in first


def test_an_application_without_tasks_is_warned_of(url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from headrace import Headrace\napp = Headrace()\n")
    ran = run("consume", "shop", "-b", url=url, cwd=tmp_path)
    assert "tasks: none;" in ran.err
    assert "WARNING headrace.consumer: shop has no tasks" in ran.err


def test_a_queue_that_nobody_knows_is_warned_of_once(headrace: Headrace, shop: Path) -> None:
    said = "is new, and no task of this application uses it: is its name right?"
    for warned in (True, False):  # then it is known: an application may enqueue anywhere
        ran = headrace("consume", "shop", "-b", "-Q", "mial,mail,queue", cwd=shop)
        assert (f"WARNING headrace.consumer: queue mial {said}" in ran.err) is warned
        assert ran.err.count(said) == warned


def test_how_long_unknown_tasks_wait_can_be_set(headrace: Headrace, redis: PlainRedis) -> None:
    headrace("produce", "unheard_of")
    ran = headrace("consume", "headrace.demo.tasks", "-b", "--unknown-task-ttl", "0")
    assert (
        "failed for good: LookupError: no consumer knows its task  queue=queue task=unheard_of"
        in (ran.err)
    )
    assert json.loads(redis.lindex("queue:dlq", 0))["error"]["reason"] == "unknown_task"


def test_the_demos_tasks_say_that_they_are_none_of_the_users(headrace: Headrace) -> None:
    assert "these are the demo's tasks" in headrace("consume", "headrace.demo.tasks", "-b").err


def test_several_processes_share_the_work(headrace: Headrace, redis: Redis, shop: Path) -> None:
    headrace("produce", "send", "me", "-n", "40", "--app", "shop", cwd=shop)
    ran = headrace("consume", "shop", "-b", "-w", "2", "-l", "info", "--log-format=json", cwd=shop)
    assert ran.code == 0
    started = [json.loads(line)["message"] for line in ran.err.splitlines()]
    assert sum("consumes queue, mail;" in message for message in started) == 2
    assert redis.hget("mail:stats", "done") == b"40"


def test_without_redis_it_waits_and_says_so(tmp_path: Path) -> None:
    process = starting(tmp_path, "consume", "headrace.demo.tasks", url=NOBODY)
    wait_until(lambda: "no Redis at redis://127.0.0.1:1/0" in process.output, what="it says so")
    assert process.alive()
    assert process.end() == 0
