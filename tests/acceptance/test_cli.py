"""The command line, as programs and people without a terminal use it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from headrace import __version__, wire
from headrace import operations as op
from headrace.cli import main
from headrace.ids import new_id
from headrace.keys import keys_of
from headrace.store import Store
from tests.support.commands import NOBODY, Ran, environment, run
from tests.support.plain import PlainRedis
from tests.support.processes import ROOT, Process
from tests.support.wait import WAIT_S, wait_until

SHOP = """\
from headrace import Headrace

app = Headrace()

@app.task(queue="mail")
def send(to: str, *, subject: str = "") -> str:
    return f"{to}: {subject}"

@app.task
def tidy() -> None: ...
"""


Headrace = Callable[..., Ran]
Here = Callable[[str], Ran]


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], Ran]]:
    """Run a command line in this process, which is quick, with no Redis anywhere."""
    for name in set(os.environ) - set(environment(NOBODY)):
        monkeypatch.delenv(name)
    for name, value in environment(NOBODY).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def here(line: str) -> Ran:
        code = main(line.split())
        return Ran(code, *capsys.readouterr())

    yield here
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def headrace(url: str) -> Headrace:
    """Run a command against the test's server."""

    def headrace(*args: str, **options: Any) -> Ran:
        return run(*args, **{"url": url} | options)

    return headrace


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Give a directory with an application in shop.py."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def starting(folder: Path, *args: str, url: str | None, **env: str) -> Process:
    command = [sys.executable, "-m", "headrace", *args]
    return Process(command, folder / "log", env=environment(url, **env))


def jobs(redis: Redis, queue: str = "queue") -> list[dict[str, Any]]:
    """Give the pending jobs, oldest first."""
    return [json.loads(job) for job in reversed(redis.lrange(queue, 0, -1))]


def bury(store: Store, queue: str = "queue", reason: Any = "max_attempts", **more: Any) -> str:
    """Make a dead letter as a consumer does: enqueue, claim, settle."""
    k, job_id = keys_of(queue), new_id()
    body = wire.encode_call(more.get("task", "send"), (more.get("arg", 42),), {})
    error = wire.error_of(
        reason,
        ValueError(more.get("message", "no such user")),
        traceback="Traceback (most recent call last):\n  …\nValueError: no such user\n",
        failed_at=more.get("failed_at", 1_700_000_000_000),
        consumer="c-1",
    )
    store.run(op.register(queue))
    store.run(op.enqueue(k, [wire.assemble(job_id, body)]))
    (job,) = store.run(op.claim(k, 1, lease_ms=60_000, consumer="c-1", first=1)).jobs
    head, body = wire.split(job) or pytest.fail("not canonical")
    letter = wire.letter(head, body, error)
    assert store.run(op.settle(k, "c-1", [op.Outcome(job_id, 1, "dead", job=letter)])) == []
    return job_id


# The command line itself


def test_help_begins_with_examples_and_lists_the_commands_in_order() -> None:
    ran = run("--help", url=None)
    assert ran.code == 0
    assert ran.out.index("$ headrace serve") < ran.out.index("Commands")
    names = ["serve ", "consume ", "produce ", "info ", "dlq ", "pause ", "resume ", "demo "]
    places = [ran.out.index(f"│ {name}") for name in names]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "command",
    ["serve", "consume", "produce", "info", "dlq", "cancel", "pause", "resume", "consumers", "demo"]
    + ["dlq list", "dlq show", "dlq redrive", "dlq purge"],
)
def test_every_help_page_has_an_example_and_fits_80_columns(command: str, here: Here) -> None:
    ran = here(f"{command} --help")
    assert ran.code == 0
    assert f"$ headrace {command}" in ran.out
    assert "HEADRACE_URL" in ran.out
    assert max(map(len, ran.lines)) <= 80


def test_the_version_is_one_line() -> None:
    ran = run("--version", url=None)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("headrace ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prodcue", 'Unknown command "prodcue". Did you mean "produce"?'),
        ("info --jsno", "Unknown option: --jsno. Did you mean --json? See: headrace info --help"),
        ("pause", "headrace pause needs QUEUE."),
        ("dlq show", "headrace dlq show needs ID."),
        ("consume a b", "headrace consume does not take 'b'."),
        (
            "consume headrace.demo.tasks -c many",
            'Invalid value for -c: unable to convert "many" into int.',
        ),
        ("consume headrace.demo.tasks -c 0", "concurrency=0 must be from 1 to 10000"),
        ("consume headrace.demo.tasks -Q a:x", "the weight must be a whole number"),
        ("consume headrace.demo.tasks -Q a:1,b", "give every queue a weight, or none"),
        ("consume headrace.demo.tasks --lease 0", "leases must last 0.1 s or more"),
        ("consume headrace.demo.tasks -w 0", 'Invalid value "0" for -w. Must be >= 1.'),
        ("consume", "name your application, here or in HEADRACE_APP, as in headrace consume shop"),
        ("produce", "name a task: as in headrace produce add 1 2"),
        ("consume nowhere.tasks:app", "there is no module 'nowhere'"),
        ("consume headrace.demo.tasks -l loud", "Choose from:"),
        ("info a:b", "cannot be a queue's name"),
        ("info --url http://host", "must begin with redis://"),
        ("produce add 1 --app headrace.demo.tasks", "missing a required argument: 'b'"),
        ("produce echo -k novalue", "-k 'novalue' must be NAME=VALUE"),
        ("produce echo --priority 101", "priority=101 must be a whole number from -100 to 100"),
        ("produce echo --at tomorrow", "--at 'tomorrow' must be a time as"),
        ("produce echo --at 1 --delay 1", "give either delay= or at=, not both"),
        ("produce echo --delay -1", "must be a number of seconds"),
        ("produce echo --count 0", "Must be >= 1"),
        ("produce echo --queue a:b", "cannot be a queue's name"),
        ("produce nope --app headrace.demo.tasks", "the tasks are: add, count_file, echo"),
        ("dlq redrive", "say which dead letters: their ids, or --reason REASON, or --all"),
        ("dlq redrive --all abc", "say which dead letters"),
        ("dlq purge --reason x --all --yes", "say which dead letters"),
        ("dlq purge --all", "purge deletes for good, and there is nobody to ask: add --yes"),
        ("dlq list --limit -1", "Must be >= 0"),
        ("serve --port 65536", "Must be <= 65535"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(line: str, said: str, here: Here) -> None:
    ran = here(line)
    assert said in ran.complaint
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    "line",
    ["produce echo", "info", "dlq list", "dlq show x", "dlq redrive --all", "dlq purge x --yes"]
    + ["pause emails", "resume emails", "serve", "info --watch"],
)
def test_without_redis_it_says_how_to_start_one(line: str) -> None:
    ran = run(*line.split(), url=NOBODY)
    assert "127.0.0.1:1" in ran.complaint
    assert ran.code == 1
    assert line == "serve" or "redis-server" in ran.complaint
    # Not headrace serve, which starts none where a URL is given.
    assert "headrace serve" not in ran.complaint


def test_the_log_level_debug_adds_the_traceback() -> None:
    ran = run("produce", "echo", "-l", "debug", url=NOBODY)
    assert "Traceback (most recent call last):" in ran.err
    assert ran.err.splitlines()[-1].startswith("headrace: no Redis at")


def test_a_lost_answer_says_that_the_job_may_be_in(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen_and_hang_up() -> None:
            connection, _ = listener.accept()
            while (said := connection.recv(65_536)) and b"EVALSHA" not in said:
                connection.sendall(b"+OK\r\n" * said.count(b"\r\nCLIENT\r\n"))
            connection.close()

        thread = threading.Thread(target=listen_and_hang_up)
        thread.start()
        ran = run("produce", "echo", url=f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(WAIT_S)
    assert "may have been accepted" in ran.complaint
    assert (ran.code, ran.out) == (1, "")


def test_ctrl_c_ends_a_command_with_130(url: str, redis: Redis, tmp_path: Path) -> None:
    process = starting(tmp_path, "info", "--watch", url=url)
    wait_until(lambda: "queue=queue" in process.output, what="the first look")
    os.kill(process.pid, signal.SIGINT)
    assert process.popen.wait(WAIT_S) == 130
    assert "Traceback" not in process.output


def test_a_reader_that_leaves_is_no_error(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", "produce", "echo", "-n", "20000"],
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# The environment


def test_an_option_can_be_a_variable(headrace: Headrace, redis: Redis) -> None:
    headrace("produce", "echo", HEADRACE_PRODUCE_QUEUE="emails", HEADRACE_PRODUCE_MAX_ATTEMPTS="7")
    assert jobs(redis, "emails")[0]["max_attempts"] == 7


def test_the_command_line_comes_before_the_variable(headrace: Headrace, redis: Redis) -> None:
    headrace("produce", "echo", "-q", "bulk", HEADRACE_PRODUCE_QUEUE="emails")
    assert (redis.llen("bulk"), redis.llen("emails")) == (1, 0)


def test_an_empty_variable_says_nothing(headrace: Headrace, redis: Redis) -> None:
    ran = headrace(
        "produce", "echo", HEADRACE_PRODUCE_QUEUE="", HEADRACE_PRODUCE_DELAY="", HEADRACE_APP=""
    )
    assert (ran.code, redis.llen("queue")) == (0, 1)


def test_a_variable_of_another_program_of_that_name_is_not_ours(headrace: Headrace) -> None:
    # Kubernetes sets such variables for a service that is called headrace.
    ran = headrace("info", "--json", HEADRACE_PORT="tcp://10.0.0.1:8390", HEADRACE_INFO_HOST="x")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("consume", "HEADRACE_CONSUME_MAX_JOBS", "many"),
        ("worker", "HEADRACE_CONSUME_MAX_JOBS", "many"),
        ("consume", "HEADRACE_LEASE", "long"),
        ("serve", "HEADRACE_SERVE_PORT", "http"),
        ("info", "HEADRACE_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_variable_is_named(command: str, name: str, value: str) -> None:
    variable: dict[str, Any] = {name: value}
    ran = run(command, url=NOBODY, **variable)
    assert ran.code == 2
    assert name in ran.complaint


def test_redis_url_will_do(url: str, redis: Redis) -> None:
    assert run("produce", "echo", url=None, REDIS_URL=url).code == 0
    assert redis.llen("queue") == 1


def test_the_url_of_the_command_line_comes_first(url: str, redis: Redis) -> None:
    assert run("produce", "echo", "--url", url, url=NOBODY).code == 0
    assert redis.llen("queue") == 1


# produce


def test_it_enqueues_one_job_and_prints_its_id_alone(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "echo")
    (job,) = jobs(redis)
    assert (ran.code, ran.out, ran.err) == (0, f"{job['id']}\n", "")
    assert job == {"id": job["id"], "task": "echo"}


def test_without_an_application_no_task_of_the_demo_is_known(
    headrace: Headrace, redis: Redis
) -> None:
    assert headrace("produce", "add", "just one").code == 0
    assert jobs(redis)[0]["args"] == ["just one"]


def test_the_demos_application_has_a_job_to_try_it(headrace: Headrace, redis: Redis) -> None:
    assert headrace("produce", "--app", "headrace.demo.tasks").code == 0
    assert (jobs(redis)[0]["task"], jobs(redis)[0]["args"]) == ("echo", ["hello"])


def test_arguments_are_json_where_they_can_be(headrace: Headrace, redis: Redis) -> None:
    headrace("produce", "echo", "hi", "1", "-2.5", '{"a": [null]}', '"5"', "[1", "--", "--json", "")
    assert jobs(redis)[0]["args"] == ["hi", 1, -2.5, {"a": [None]}, "5", "[1", "--json", ""]


def test_keyword_arguments_are_given_by_name(headrace: Headrace, redis: Redis, shop: Path) -> None:
    ran = headrace(
        "produce", "send", "42", "-k", "subject=a=b", "--kwargs", "n=1", "--queue", "mail"
    )
    assert ran.code == 0
    assert jobs(redis, "mail")[0]["kwargs"] == {"subject": "a=b", "n": 1}
    refused = headrace("produce", "send", "42", "-k", "n=1", "--app", "shop", cwd=shop)
    assert refused.code == 2
    assert "unexpected keyword argument 'n'" in refused.complaint


def test_a_task_of_ones_own_goes_to_its_queue(headrace: Headrace, redis: Redis, shop: Path) -> None:
    assert headrace("produce", "send", "me", HEADRACE_APP="shop:app", cwd=shop).code == 0
    assert redis.llen("mail") == 1


def test_a_job_can_be_prioritised_delayed_and_bounded(
    headrace: Headrace, redis: PlainRedis
) -> None:
    headrace("produce", "echo", "-p", "5", "--timeout", "2.5", "--result-ttl", "60")
    (job,) = [json.loads(job) for job in redis.zrange("queue:priority", 0, -1)]
    assert (job["priority"], job["timeout"], job["result_ttl"]) == (5, 2.5, 60)
    headrace("produce", "echo", "--delay", "3600")
    headrace("produce", "echo", "--at", "2040-01-01T00:00:00Z")
    headrace("produce", "echo", "--at", "2208988800.5")
    due = [score for _, score in redis.zrange("queue:delayed", 0, -1, withscores=True)]
    assert due[1:] == [2_208_988_800_000, 2_208_988_800_500]


def test_a_key_gives_the_first_jobs_id(headrace: Headrace, redis: Redis) -> None:
    first = headrace("produce", "echo", "--key", "daily")
    assert headrace("produce", "echo", "--key", "daily").out == first.out
    assert redis.llen("queue") == 1


def test_many_are_enqueued_with_an_id_each(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "echo", "--count", "2500")
    assert ran.lines == [job["id"] for job in jobs(redis)]
    assert len(set(ran.lines)) == 2500
    # Where that takes long, it says how far it is.
    assert ran.err in ("", "2,500 of 2,500 enqueued\n")


def test_each_line_read_makes_a_job(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "add", "1", "--stdin", stdin="2\n3\n")
    assert len(ran.lines) == 2
    assert [job["args"] for job in jobs(redis)] == [[1, 2], [1, 3]]
    assert headrace("produce", "echo", "--stdin", stdin="").out == ""


def test_as_json_it_prints_an_object_a_job(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "echo", "-n", "2", "--json", "-q", "bulk")
    printed = [json.loads(line) for line in ran.lines]
    assert printed == [{"id": job["id"], "queue": "bulk"} for job in jobs(redis, "bulk")]


def test_it_waits_for_results(headrace: Headrace, url: str, tmp_path: Path) -> None:
    consumer = starting(tmp_path, "consume", "headrace.demo.tasks", url=url)
    try:
        ran = headrace("produce", "add", "1", "2", "--wait")
        assert (ran.code, ran.lines, ran.err) == (0, ["3"], "")
        ran = headrace("produce", "echo", "hi", "--wait=20", "--json")
        assert (ran.json["result"], ran.json["queue"]) == (["hi"], "queue")
        ran = headrace("produce", "fail", "bad\nluck", "--max-attempts", "1", "--wait", "20")
        assert (ran.code, ran.out) == (1, "")
        assert r"failed (max_attempts): RuntimeError: bad; luck" in ran.complaint
    finally:
        consumer.end()


def test_a_result_that_does_not_come_is_a_failure(headrace: Headrace, redis: Redis) -> None:
    ran = headrace("produce", "unheard_of", "--wait", "0.2")
    assert ran.code == 1
    assert "no result of job" in ran.complaint
    assert jobs(redis)[0]["result_ttl"] == 3600  # else there would be nothing to wait for


# consume


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


# info


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


# pause and resume


def test_queues_are_paused_and_resumed_once(headrace: Headrace, redis: Redis) -> None:
    assert headrace("pause", "a", "b").lines == ["a is paused", "b is paused"]
    assert headrace("pause", "a").lines == ["a is paused, as before"]
    assert headrace("info", "a", "--json").json["queues"][0]["paused"] is True
    assert headrace("resume", "a").lines == ["a is not paused"]
    assert headrace("resume", "a").lines == ["a is not paused, as before"]


# dlq


def test_dead_letters_are_listed_newest_first(headrace: Headrace, store: Store) -> None:
    old = bury(store, "emails", failed_at=1_000)
    new = bury(store, "queue", "timeout", task="count", failed_at=2_000, message="a\x1b[2J\nb")
    head, first, second = headrace("dlq", "list").lines
    assert head.split() == ["id", "queue", "task", "reason", "age", "error"]
    assert first.split()[:4] == [new, "queue", "count", "timeout"]
    assert first.endswith(r"ValueError: a\x1b[2J")
    assert second.split()[:4] == [old, "emails", "send", "max_attempts"]


def test_dead_letters_are_listed_as_json(headrace: Headrace, store: Store) -> None:
    job_id = bury(store)
    assert headrace("dlq", "list", "--json").json == [
        {
            "queue": "queue",
            "id": job_id,
            "task": "send",
            "reason": "max_attempts",
            "type": "ValueError",
            "message": "no such user",
            "failed_at": 1_700_000_000_000,
            "consumer": "c-1",
        }
    ]
    assert headrace("dlq", "list", "other", "--json").json == []


def test_the_list_can_be_bounded_and_chosen(headrace: Headrace, store: Store) -> None:
    for number in range(3):
        bury(store, failed_at=number)
    late = bury(store, reason="timeout", failed_at=9)
    assert len(headrace("dlq", "list", "--limit", "2", "--json").json) == 2
    assert len(headrace("dlq", "list", "--limit", "0", "--json").json) == 4
    (only,) = headrace("dlq", "list", "--reason", "timeout", "--limit", "1", "--json").json
    assert only["id"] == late


def test_a_dead_letter_is_shown_whole(headrace: Headrace, store: Store, redis: PlainRedis) -> None:
    job_id = bury(store, "emails", arg={"to": "me"})
    shown = headrace("dlq", "show", job_id).out
    assert 'call      send({"to":"me"})' in shown
    assert "ValueError: no such user" in shown
    assert "Traceback (most recent call last):\n" in shown
    as_json = headrace("dlq", "show", job_id, "emails", "--json").json
    assert as_json == json.loads(redis.lindex("emails:dlq", 0))


def test_what_plain_clients_put_there_is_listed_and_shown(
    headrace: Headrace, redis: Redis, store: Store
) -> None:
    letter = wire.malformed_letter(
        b"\xff\xfe", wire.error_of("malformed", None, failed_at=1, consumer="c")
    )
    redis.lpush("queue:dlq", b"\xff\x00", b"[1]", b'{"task": 1, "id": [2]}', letter)
    ran = headrace("dlq", "list", "--json")
    assert ran.code == 0
    assert [(one["id"], one["reason"]) for one in ran.json[1:]] == [("", "")] * 3
    shown = headrace("dlq", "show", ran.json[0]["id"]).out
    assert "payload (base64)" in shown
    assert "//4=" in shown
    assert headrace("dlq", "list").code == 0
    assert headrace("dlq", "purge", "--all", "--yes").lines == ["4 dead letters purged"]


def test_a_dead_letter_that_is_not_there_is_a_failure(headrace: Headrace, store: Store) -> None:
    job_id = bury(store, "emails")
    for command in (("show", job_id, "queue"), ("show", "x"), ("redrive", job_id, "-q", "queue")):
        ran = headrace("dlq", *command)
        assert ran.code == 1
        assert f"no dead letter {command[1]} in" in ran.complaint


def test_dead_letters_are_put_back_by_id(
    headrace: Headrace, store: Store, redis: PlainRedis
) -> None:
    first, second, third = bury(store), bury(store), bury(store, "emails")
    ran = headrace("dlq", "redrive", first, third, "nosuch", "--json")
    assert ran.code == 1
    assert ran.json == {"redriven": 2, "missing": ["nosuch"]}
    assert [job["id"] for job in jobs(redis)] == [first]
    assert "error" not in jobs(redis)[0]
    assert [job["id"] for job in jobs(redis, "emails")] == [third]
    assert json.loads(redis.lindex("queue:dlq", 0))["id"] == second


def test_dead_letters_are_put_back_by_reason_or_all(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    ids = [bury(store), bury(store, reason="timeout"), bury(store)]
    assert headrace("dlq", "redrive", "--reason", "timeout").lines == ["1 dead letter redriven"]
    nothing = headrace("dlq", "redrive", "--reason", "timeout")
    assert (nothing.code, nothing.lines) == (1, ["0 dead letters redriven"])
    assert headrace("dlq", "redrive", "--all").lines == ["2 dead letters redriven"]
    assert headrace("dlq", "redrive", "--all").code == 0  # all of nothing
    assert [job["id"] for job in jobs(redis)] == [ids[1], ids[0], ids[2]]


def test_purge_without_a_person_deletes_nothing_unless_told(
    headrace: Headrace, store: Store, redis: Redis
) -> None:
    first, _, other = bury(store), bury(store), bury(store, "emails")
    assert headrace("dlq", "purge", "--all", stdin="y\n").code == 2
    assert redis.llen("queue:dlq") == 2
    ran = headrace("dlq", "purge", first, other, "-q", "queue", "-y")
    assert (ran.code, ran.lines) == (1, ["1 dead letter purged"])
    ran = headrace("dlq", "purge", "--all", "--queue", "queue", "--yes", "--json")
    assert (ran.code, ran.json) == (0, {"purged": 1, "missing": []})
    assert (redis.llen("queue:dlq"), redis.llen("emails:dlq")) == (0, 1)


def test_many_are_put_back_in_steps(headrace: Headrace, redis: Redis) -> None:
    error = msgspec.json.encode({"reason": "timeout"}).decode()
    letters = [f'{{"id":"{new_id()}","task":"t","error":{error}}}' for _ in range(1_234)]
    redis.lpush("queue:dlq", *letters)
    assert headrace("dlq", "redrive", "--all").lines == ["1,234 dead letters redriven"]
    assert redis.llen("queue") == 1_234


# Slow things without a terminal


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from headrace.cli import output

    now_s = 0.0
    monkeypatch.setattr(output, "monotonic", lambda: now_s)
    with output.progress("enqueued", 10_000) as show:
        for second in range(10):
            now_s = float(second)
            show(second * 1_000)
    assert capsys.readouterr().err.splitlines() == [
        "2,000 of 10,000 enqueued",
        "7,000 of 10,000 enqueued",
    ]


def test_the_page_is_where_the_web_server_would_put_it() -> None:
    import inspect

    from headrace import web
    from headrace.cli.serve import serve

    defaults = inspect.signature(serve).parameters
    assert (defaults["host"].default, defaults["port"].default) == (web.HOST, web.PORT)


def test_empty_queues_are_forgotten_and_others_are_not(headrace: Headrace, redis: Redis) -> None:
    redis.sadd("headrace:queues", "empty", "vacant", "full")
    redis.lpush("full", "{}")
    assert headrace("forget", "empty").lines == ["empty is forgotten"]
    kept = headrace("forget", "full")
    assert (kept.code, kept.lines) == (1, ["full is not forgotten: it holds jobs or dead letters"])
    assert (
        headrace("forget", "--empty").lines[-1] == "2 queues are forgotten"
    )  # the default one too
    assert redis.smembers("headrace:queues") == {b"full"}
