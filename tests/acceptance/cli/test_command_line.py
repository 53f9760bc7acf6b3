"""The command line itself, and what the environment says of it."""

from __future__ import annotations

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

import pytest
from redis import Redis

from headrace.cli import main
from tests.support.commands import NOBODY, Headrace, Ran, environment, run, starting
from tests.support.jobs import jobs
from tests.support.wait import WAIT_S, wait_until

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


def test_help_begins_with_examples_and_lists_the_commands_in_order() -> None:
    ran = run("--help", url=None)
    assert ran.code == 0
    assert ran.out.index("$ headrace serve") < ran.out.index("Commands")
    names = ["serve ", "consume ", "produce ", "info ", "dlq ", "pause ", "resume "]
    names += ["doctor ", "explain ", "audit ", "demo "]
    places = [ran.out.index(f"│ {name}") for name in names]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "command",
    ["serve", "consume", "produce", "info", "dlq", "cancel", "pause", "resume", "consumers", "demo"]
    + [
        "dlq list",
        "dlq show",
        "dlq redrive",
        "dlq purge",
        "doctor",
        "explain",
        "workflow",
        "audit",
    ],
)
def test_every_help_page_has_an_example_and_fits_80_columns(command: str, here: Here) -> None:
    ran = here(f"{command} --help")
    assert ran.code == 0
    assert f"$ headrace {command}" in ran.out
    assert "HEADRACE_URL" in ran.out
    assert max(map(len, ran.lines)) <= 80


@pytest.mark.parametrize("command", ["doctor", "explain", "workflow", "audit", "cancel"])
def test_the_help_page_of_a_check_says_what_its_exit_codes_mean(command: str, here: Here) -> None:
    assert "Exit code:" in " ".join(here(f"{command} --help").out.split())


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
        ("doctor a:b", "cannot be a queue's name"),
        ("doctor --lease 0", "leases must last 0.1 s or more"),
        ("doctor --sample -1", "Must be >= 0"),
        ("explain", "headrace explain needs ID."),
        ("explain x --queue a:b", "cannot be a queue's name"),
        ("audit a:b", "cannot be a queue's name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(line: str, said: str, here: Here) -> None:
    ran = here(line)
    assert said in ran.complaint
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    "line",
    ["produce echo", "info", "dlq list", "dlq show x", "dlq redrive --all", "dlq purge x --yes"]
    + ["pause emails", "resume emails", "serve", "info --watch"]
    + ["doctor", "doctor --repair", "explain x", "audit", "audit a", "cancel x", "consumers"],
)
def test_without_redis_it_says_how_to_start_one(line: str) -> None:
    ran = run(*line.split(), url=NOBODY)
    assert "127.0.0.1:1" in ran.complaint
    assert (ran.code, ran.out) == (1, "")
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
                connection.sendall(b"*1\r\n$-1\r\n" * said.count(b"\r\nHMGET\r\n"))
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


def test_the_page_is_where_the_web_server_would_put_it() -> None:
    from headrace import web
    from headrace.cli.serve import Address

    assert (Address().host, Address().port) == (web.HOST, web.PORT)


def test_it_runs_without_docstrings() -> None:
    command = [sys.executable, "-OO", "-m", "headrace", "pause"]
    ran = subprocess.run(command, env=environment(NOBODY), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("headrace: headrace pause needs QUEUE.")
