"""What other users of a machine can do with a server that Headrace has started: work, not administer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from headrace import Headrace
from headrace.cli.queues import parse_queues
from headrace.consumer import Consumer, ConsumerOptions
from headrace.doctor import check_up
from headrace.embedded import EmbeddedServer
from headrace.isolation.runner import IsolatedRunner
from headrace.policy import LeasePolicy
from headrace.store import Store
from tests.support.servers import private_server


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with private_server(tmp_path_factory.mktemp("hardened"), hardened=True) as server:
        yield server


@pytest.mark.parametrize(
    "command",
    [
        *("CONFIG SET requirepass x", "CONFIG SET dir /tmp", "CONFIG REWRITE", "ACL SETUSER x on"),
        *("ACL LIST", "DEBUG SLEEP 0", "MODULE LOAD /tmp/x.so", "REPLICAOF 127.0.0.1 1", "SAVE"),
        *("SHUTDOWN NOSAVE", "MONITOR", "FLUSHALL", "BGREWRITEAOF", "CLIENT PAUSE 1"),
    ],
)
def test_nobody_administers_it(hardened: EmbeddedServer, command: str) -> None:
    with (
        Redis(port=hardened.port) as redis,
        pytest.raises(ResponseError, match="no permission|not allowed"),
    ):
        redis.execute_command(*command.split())


def test_everybody_reads_the_three_lists_and_headrace_works(hardened: EmbeddedServer) -> None:
    app = Headrace(hardened.url)
    ran: list[int] = []
    app.task(name="work", max_attempts=1)(ran.append)
    app.enqueue("work", 1)
    asyncio.run(
        Consumer(app, ConsumerOptions(parse_queues("queue"), burst=True), IsolatedRunner).run()
    )
    assert ran == [1]
    app.close()
    with Redis(port=hardened.port) as redis:
        for key in ("queue", "queue:processing", "queue:dlq"):
            assert isinstance(redis.lrange(key, 0, -1), list)
        assert redis.keys("headrace:*")


def test_the_doctor_finds_no_command_that_is_missing(hardened: EmbeddedServer) -> None:
    store = Store(hardened.url)
    found = store.follow(check_up([], LeasePolicy(), sample=10))
    store.close()
    assert found.server.refused == ()
    assert found.server.config["appendonly"] == "yes"


def test_its_files_are_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with private_server(folder, hardened=True) as server, Redis(port=server.port) as redis:
        redis.set("x", 1)
    loose = [folder, *folder.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in loose} == {0}
    for path in loose:  # as an earlier release left them
        path.chmod(0o755 if path.is_dir() else 0o644)
    with private_server(folder, hardened=True):
        assert {path.stat().st_mode & 0o077 for path in [folder, *folder.rglob("*")]} == {0}
