"""Access in other shapes: odd passwords, few permissions, renamed commands, a loop that runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from headrace import Headrace
from headrace.cli.queues import parse_queues
from headrace.consumer import Consumer, ConsumerOptions
from headrace.doctor import check_up
from headrace.embedded import EmbeddedServer
from headrace.errors import NotPermitted
from headrace.isolation.runner import IsolatedRunner
from headrace.operations import command
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore, Store, probe
from tests.support.processes import ROOT
from tests.support.servers import private_server
from tests.support.wait import WAIT_S

PING = command("PING", parse=bytes)
BURST = ConsumerOptions(parse_queues("emails"), burst=True)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with private_server(tmp_path_factory.mktemp("guarded")) as server:
        yield server


def emails(url: str) -> tuple[Headrace, list[int]]:
    app = Headrace(url, queue="emails")
    ran: list[int] = []

    def work(number: int) -> None:
        ran.append(number)
        if ran.count(number) < 2 and number == 1:
            raise ValueError("once more")

    app.task(name="work", result_ttl=60)(work)
    return app, ran


def use_everything(url: str) -> None:
    """Enqueue, cancel, retry, give priority, wait for results, consume."""
    app, ran = emails(url)
    jobs = [app.enqueue("work", 1), app.find_task("work").options(priority=5).enqueue(2)]
    gone = app.find_task("work").options(delay=600).enqueue(3)
    assert gone.status() == "delayed"
    assert gone.cancel()
    asyncio.run(Consumer(app, BURST, IsolatedRunner).run())
    assert ran[:2] == [2, 1]
    assert jobs[1].result(WAIT_S) is None
    assert jobs[0].cancel() in (True, False)
    app.close()


@pytest.mark.parametrize(
    "password", ["p@ss", "a:b", "a/b", "#1", "what?", "100%", "two words", "pässwörd", "%40", "+&="]
)
async def test_a_password_of_any_characters_works_percent_encoded(
    guarded: EmbeddedServer, password: str
) -> None:
    with Redis(port=guarded.port) as redis:
        redis.acl_setuser("odd", enabled=True, passwords=[f"+{password}"], reset_passwords=True)
        redis.execute_command("ACL", "SETUSER", "odd", "~*", "+@all")
    for access in (f"odd:{quote(password, safe='')}@",):
        url = guarded.url.replace("//", f"//{access}")
        assert probe(url)
        store, astore = Store(url), AsyncStore(url)
        assert store.run(PING) == await astore.run(PING) == b"PONG"
        store.close()
        await astore.close()


async def test_the_blocking_api_works_inside_a_loop_that_runs(url: str) -> None:
    app = Headrace(url)  # as in a notebook, where both are at hand
    app.task(name="work", result_ttl=60)(lambda: None)
    job = app.enqueue("work")
    assert job.status() == await job.astatus() == "pending"
    again = await app.aenqueue("work")
    assert again.status() == "pending"
    assert again.cancel()
    assert await job.acancel()
    await app.aclose()


def test_the_least_permissions_that_are_documented_are_enough(guarded: EmbeddedServer) -> None:
    text = (ROOT / "docs" / "operators.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("ACL SETUSER"))
    with Redis(port=guarded.port) as redis:
        redis.execute_command(*line.replace("PASSWORD", "secret").split())
    url = guarded.url.replace("//", "//headrace:secret@")
    use_everything(url)
    store = Store(url)
    found = store.follow(check_up(["emails"], LeasePolicy(), sample=10))
    store.close()
    assert found.server.refused == ()


def test_without_config_all_goes_on(tmp_path: Path) -> None:
    with private_server(tmp_path, extra_args=("--rename-command", "CONFIG", "")) as server:
        use_everything(server.url)


@pytest.mark.parametrize("name", ["EVALSHA", "CLIENT"])
def test_without_a_command_that_is_needed_the_error_names_it(tmp_path: Path, name: str) -> None:
    with private_server(tmp_path, extra_args=("--rename-command", name, "")) as server:
        app, _ = emails(server.url)
        with pytest.raises(NotPermitted, match=f"(?i)unknown command.*{name}"):
            app.enqueue("work", 1)
        with pytest.raises(NotPermitted, match=f"(?i)unknown command.*{name}"):
            asyncio.run(Consumer(app, BURST, IsolatedRunner).run())
        app.close()
