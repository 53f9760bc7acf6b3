"""A Redis user for each role: each process does its work with the rights that the documents say, and nothing else."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from headrace import Headrace, InvalidSetting, ResultTimeout, chain
from headrace.cli.serve import Part
from headrace.embedded.server import EmbeddedServer, free_port
from headrace.errors import NotPermitted
from headrace.keys import keys_of
from tests.support.processes import ROOT, Process, clean_environment, processes
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, wait_until

K = keys_of("emails")
PAGE = (ROOT / "docs" / "operators.md").read_text()
LINES: dict[str, str] = dict(re.findall(r"^ACL SETUSER (\w+) (.*)$", PAGE, re.MULTILINE))
CONSUMER = "headrace"
HEADRACE = (sys.executable, "-m", "headrace")
CONSUME = (*HEADRACE, "consume", "headrace.demo.tasks", "-Q", "emails")


@pytest.fixture(scope="module", name="guarded")
def _guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Give a server with the users of the documents."""
    with private_server(tmp_path_factory.mktemp("roles")) as server:
        with Redis(port=server.port) as redis:
            for user, line in LINES.items():
                redis.execute_command("ACL", "SETUSER", user, *words_of(line))
        yield server


@pytest.fixture(name="boss")
def _boss(guarded: EmbeddedServer) -> Iterator[Any]:
    """Give a client that may do everything, of an empty server on which nothing was refused."""
    with Redis(port=guarded.port) as redis:
        redis.flushdb()
        redis.execute_command("ACL", "LOG", "RESET")
        yield redis


@pytest.fixture(name="url_of")
def _url_of(guarded: EmbeddedServer) -> Callable[[str], str]:
    return lambda user: guarded.url.replace("//", f"//{user}:secret@")


@pytest.fixture(name="run")
def _run(tmp_path: Path, url_of: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """Give what runs a command as a user, to its end, and gives what it said."""
    with processes(tmp_path) as start:

        def run(user: str, *words: str, code: int | None = 0) -> str:
            process: Process = start(
                *HEADRACE, *words, env=clean_environment(HEADRACE_URL=url_of(user))
            )
            wait_until(lambda: not process.alive(), f"{words} has ended")
            assert code is None or process.popen.returncode == code, process.output
            return process.output

        yield run


def words_of(line: str) -> list[str]:
    """Return the words of a line; a selector, in parentheses, is one."""
    return re.findall(r"\([^)]*\)|\S+", line.replace("PASSWORD", "secret"))


def refused(redis: Any) -> list[str]:
    """Return what Redis has refused."""
    return [f"{one['username']} {one['reason']} {one['object']}" for one in redis.acl_log()]


def consumed(boss: Any, url: str, tmp_path: Path) -> None:
    """Let a consumer, by its own line, do all jobs that wait."""
    folder = tmp_path / "consumer"
    folder.mkdir(exist_ok=True)
    with processes(folder) as start:
        consumer = start(*CONSUME, "--burst", env=clean_environment(HEADRACE_URL=url))
        wait_until(lambda: not consumer.alive(), "it has done all")
        assert consumer.popen.returncode == 0, consumer.output
    assert boss.llen(K.pending) == 0


def test_every_role_of_the_documents_is_tested_here() -> None:
    assert set(LINES) == {CONSUMER, "producer", "viewer", "operator", "admin", "pusher", "plain"}


def test_a_producer_enqueues_and_hears_of_results_and_takes_nothing(
    boss: Any, url_of: Any, run: Any, tmp_path: Path
) -> None:
    app = Headrace(url_of("producer"), queue="emails")
    echo = app.task(name="echo", result_ttl=60)(lambda text: text)
    job = echo.enqueue("hello")
    assert job.status() == "pending"
    prioritised = echo.options(priority=5).enqueue("first")
    delayed = echo.options(delay=0.05).enqueue("later")
    one, same = (echo.options(key="k", delay=600).enqueue("once") for _ in range(2))
    assert one.id == same.id
    many = app.enqueue_many(echo.call(str(n)) for n in range(1_500))
    with pytest.raises(ResultTimeout):
        job.result(timeout=0.05)
    assert run("producer", "produce", "echo", "cli", "--queue", "emails").strip()
    assert delayed.status() in {"delayed", "pending"}
    consumed(boss, url_of(CONSUMER), tmp_path)
    assert job.result(WAIT_S) == ["hello"]
    assert prioritised.result(WAIT_S) == ["first"]
    assert many[-1].result(WAIT_S) == ["1499"]
    assert job.status() == "done"
    app.close()
    assert refused(boss) == []
    with Redis.from_url(url_of("producer")) as redis:
        echo_job = b'{"task":"echo"}'
        for words in (
            ("BLMOVE", K.pending, K.processing, "RIGHT", "LEFT", 1),
            ("BLMOVE", K.pending, K.result("x"), "RIGHT", "LEFT", 1),
            ("LRANGE", K.pending, 0, -1),
            ("LRANGE", K.dead, 0, -1),
            ("RPOP", K.pending),
            ("LREM", K.pending, 0, echo_job),
            ("HGETALL", K.claims),
            ("DEL", K.pending),
            ("LPUSH", "invoices", echo_job),
            ("EVAL", "return redis.call('RPOP', KEYS[1])", 1, K.pending),
            ("SUBSCRIBE", "headrace.due"),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("MONITOR",),
        ):
            may_not(redis, *words)


def test_a_producer_that_replaces_and_cancels_has_what_is_said_beside(
    boss: Any, url_of: Any
) -> None:
    (more,) = re.findall(r"one that cancels, also needs `([^`]+)`", PAGE)
    boss.execute_command("ACL", "SETUSER", "replacer", *words_of(f"{LINES['producer']} {more}"))
    app = Headrace(url_of("replacer"), queue="emails")
    echo = app.task(name="echo")(lambda text: text)
    for mode in ("replace", "debounce"):
        for delay in (600, 0):
            for _ in range(2):
                task = echo.options(key=f"{mode}{delay}", delay=delay, if_exists=mode)
                task.enqueue("x")
    assert echo.options(delay=600).enqueue("x").cancel()
    assert echo.options(priority=3).enqueue("x").cancel()
    app.close()
    assert refused(boss) == []
    with Redis.from_url(url_of("replacer")) as redis:
        may_not(redis, "DEL", K.pending)
        may_not(redis, "RPOP", K.pending)
    boss.execute_command("ACL", "DELUSER", "replacer")


def test_a_viewer_sees_everything_and_changes_nothing(
    boss: Any, url_of: Any, run: Any, tmp_path: Path
) -> None:
    app = Headrace(url_of(CONSUMER), queue="emails")
    job = app.enqueue("echo", "hello")
    flow = chain(app.call("echo", 1), app.call("echo", 2)).enqueue()
    boss.lpush(K.dead, b'{"id":"dead-1","task":"echo","error":{"reason":"timeout"}}')
    before = boss.lrange(K.pending, 0, -1), boss.lrange(K.dead, 0, -1)
    assert "emails" in run("viewer", "info")
    assert "pending" in run("viewer", "explain", job.id, "--queue", "emails")
    assert "timeout" in run("viewer", "dlq", "list", "emails")
    run("viewer", "consumers", code=None)
    run("viewer", "schedule", "list")
    assert "emails" in run("viewer", "doctor", "emails", code=None)
    port = free_port()
    env = clean_environment(HEADRACE_URL=url_of("viewer"))
    with processes(tmp_path) as start:
        server = start(*HEADRACE, "serve", "--read-only", "--port", str(port), env=env)
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{base}/readyz"), "it answers")
        for path in (
            *("/", "/queues/emails", "/consumers", "/schedules", "/doctor", "/metrics"),
            *("/api/v1/queues", "/api/v1/consumers", "/api/v1/schedules"),
            *("/api/v1/dead-letters?queue=emails", "/api/v1/statistics?queue=emails"),
            f"/api/v1/jobs/{job.id}/explanation?queue=emails",
        ):
            assert answers(base + path), path
        nothing_refused = [one for one in refused(boss) if "serve" in one]
        new_job = json.dumps({"task": "echo", "queue": "emails"}).encode()
        request = urllib.request.Request(
            f"{base}/api/v1/jobs", new_job, {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=WAIT_S)
        assert caught.value.code == 503
        caught.value.close()
        assert server.alive(), server.output
        assert server.end() == 0, server.output
    assert nothing_refused == []
    for command in (
        ("pause", "emails"), ("cancel", job.id, "--queue", "emails"), ("cancel", job.id, "no-such-id"),
        ("dlq", "redrive", "--all", "--queue", "emails"),
        ("workflow", flow.id, "--queue", "emails", "--cancel"),
    ):  # fmt: skip
        said = run("viewer", *command, code=NotPermitted.exit_code)
        assert "docs/operators.md" in said
        assert "cannot be read" not in said
        assert "no job" not in said  # perhaps it is there
        assert "nothing is known" not in said
    assert (boss.lrange(K.pending, 0, -1), boss.lrange(K.dead, 0, -1)) == before
    app.close()
    with Redis.from_url(url_of("viewer")) as redis:
        for words in (
            ("LPUSH", K.pending, "x"), ("LREM", K.pending, 0, "x"), ("SET", "headrace:leader", "me"),
            ("DEL", K.pending), ("PUBLISH", "headrace.due", "x"), ("CONFIG", "SET", "maxmemory", 1),
            ("CLIENT", "KILL", "ID", 1), ("FLUSHALL",), ("KEYS", "*"), ("MONITOR",), ("ACL", "LIST"),
        ):  # fmt: skip
            may_not(redis, *words)


def test_a_job_is_cancelled_where_that_is_allowed_whatever_is_refused_elsewhere(
    boss: Any, url_of: Any, run: Any
) -> None:
    rights = ("+@all", "%R~*", "~emails*", "~headrace:*", "&*")
    boss.execute_command("ACL", "SETUSER", "half", "on", ">secret", *rights)
    app = Headrace(url_of(CONSUMER), queue="emails")
    jobs = [app.enqueue("echo", n) for n in range(2)]
    boss.sadd("headrace:queues", "zebras")
    said = run("half", "cancel", jobs[0].id, code=0)
    assert f"{jobs[0].id} is cancelled" in said
    said = run("half", "cancel", jobs[1].id, "no-such-id", code=NotPermitted.exit_code)
    assert f"{jobs[1].id} is cancelled" in said
    assert "no job no-such-id waits or runs in emails;" in said
    assert said.count("queue zebras: ") == 1
    app.close()
    boss.execute_command("ACL", "DELUSER", "half")


def test_an_operator_changes_what_waits_and_takes_nothing(boss: Any, url_of: Any, run: Any) -> None:
    app = Headrace(url_of(CONSUMER), queue="emails")
    jobs = [app.enqueue("echo", n) for n in range(2)]
    letters = [b'{"id":"dead-%d","task":"echo","error":{"reason":"timeout"}}' % n for n in range(2)]
    boss.lpush(K.dead, *letters)
    run("operator", "pause", "emails")
    assert "paused" in run("operator", "info")
    run("operator", "resume", "emails")
    run("operator", "cancel", jobs[0].id, "--queue", "emails")
    assert jobs[0].status() in {"cancelled", "done"}
    run("operator", "dlq", "redrive", "dead-0", "--queue", "emails")
    run("operator", "dlq", "purge", "dead-1", "--queue", "emails", "--yes")
    assert boss.llen(K.dead) == 0
    assert boss.llen(K.pending) == 2
    run("operator", "schedule", "add", "tick", "echo", "hi", "--every", "60", "--queue", "emails")
    for word in ("pause", "resume", "remove"):
        run("operator", "schedule", word, "tick")
    run("operator", "limit", "emails", "--rate", "10/s")
    app.close()
    assert refused(boss) == []
    with Redis.from_url(url_of("operator")) as redis:
        for words in (
            ("BLMOVE", K.pending, K.processing, "RIGHT", "LEFT", 1), ("RPOP", K.pending),
            ("DEL", K.pending), ("UNLINK", K.dead), ("RENAME", K.dead, "x"), ("FLUSHDB",),
            ("CONFIG", "SET", "maxmemory", 1), ("KEYS", "*"), ("SHUTDOWN",), ("ACL", "LIST"),
        ):  # fmt: skip
            may_not(redis, *words)


def test_an_admin_repairs_moves_and_forgets_and_does_not_run_the_server(
    boss: Any, url_of: Any, run: Any, tmp_path: Path
) -> None:
    app = Headrace(url_of(CONSUMER), queue="emails")
    app.enqueue("echo", "hello")
    app.close()
    with private_server(tmp_path / "other") as other:
        run("admin", "move", "emails", "--to", other.url)
        with Redis(port=other.port) as there:
            assert there.llen(K.pending) == 1
    run("admin", "doctor", "emails", "--repair", code=None)
    run("admin", "forget", "emails", code=None)
    assert refused(boss) == []
    with Redis.from_url(url_of("admin")) as redis:
        for words in (
            ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "SET", "maxmemory", 1), ("SHUTDOWN",),
            ("ACL", "LIST"), ("MONITOR",), ("CLIENT", "KILL", "ID", 1),
        ):  # fmt: skip
            may_not(redis, *words)


def test_plain_programs_push_and_take_jobs_with_a_word_or_three(
    boss: Any, url_of: Any, tmp_path: Path
) -> None:
    with Redis.from_url(url_of("pusher")) as pusher:
        pusher.lpush("emails", b'{"task":"echo","args":["one"]}', b'{"task":"echo","args":["two"]}')
        for words in (
            ("LRANGE", "emails", 0, -1), ("RPOP", "emails"), ("LPUSH", K.dead, "x"), ("DEL", "emails"),
        ):  # fmt: skip
            may_not(pusher, *words)
    with Redis.from_url(url_of("plain")) as plain:
        job: Any = plain.brpoplpush("emails", "emails:processing", 1)
        assert b"one" in job
        assert plain.lrem("emails:processing", 1, job) == 1
        for others in (
            ("LPUSH", "emails", "x"), ("LRANGE", "emails", 0, -1), ("DEL", "emails:processing"),
            ("BLMOVE", K.dead, "emails", "LEFT", "RIGHT", 1), ("SET", "headrace:leader", "me"),
        ):  # fmt: skip
            may_not(plain, *others)
    assert boss.llen("emails:processing") == 0
    consumed(boss, url_of(CONSUMER), tmp_path)


def test_a_consumer_looks_after_its_queue_and_does_not_run_the_server(
    boss: Any, url_of: Any, tmp_path: Path
) -> None:
    """What else it does: ``test_managed``."""
    app = Headrace(url_of(CONSUMER), queue="emails")
    jobs = [app.call("echo", str(n)) for n in range(100)]
    app.enqueue_many(jobs)
    app.close()
    consumed(boss, url_of(CONSUMER), tmp_path)
    assert refused(boss) == []
    with Redis.from_url(url_of(CONSUMER)) as redis:
        for words in (
            ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "SET", "maxmemory", 1), ("SHUTDOWN",),
            ("LPUSH", "invoices", "x"), ("LRANGE", "invoices:dlq", 0, -1), ("ACL", "LIST"), ("MONITOR",),
        ):  # fmt: skip
            may_not(redis, *words)


def may_not(redis: Any, *words: object) -> None:
    """See that a user may not give a command."""
    with pytest.raises(NoPermissionError):
        redis.execute_command(*words)


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
            answer.read()
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        with error:
            return False
    except OSError:
        return False


def test_a_server_that_only_looks_tells_no_webhooks() -> None:
    hooks: Any = ["a webhook"]
    Part(read_only=True).check([])
    Part().check(hooks)
    with pytest.raises(InvalidSetting, match="leave out --read-only"):
        Part(read_only=True).check(hooks)
