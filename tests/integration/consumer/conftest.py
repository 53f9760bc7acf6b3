"""A queue on the session's server for each test, and servers of a test's own.

HEADRACE_TEST_LOOP says on which event loop the tests run: ``uvloop``, as consumers do where it
installs, or asyncio's own, which complains of whatever is left open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from headrace import Headrace
from headrace.consumer.claimed import ClaimedJob
from headrace.embedded import EmbeddedServer
from headrace.scripts import script
from tests.integration.consumer import hostile_tasks
from tests.support.consuming import Site, lent
from tests.support.phases import CheckedPhase
from tests.support.proxy import Proxy, proxied
from tests.support.servers import private_server

SCRIPTS = [
    "adopt",
    "claim",
    "enqueue",
    "extend",
    "lead",
    "promote",
    "push",
    "reclaim",
    "settle",
    "sweep",
]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if os.environ.get("HEADRACE_TEST_LOOP") == "uvloop":
        import uvloop

        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def _phases_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClaimedJob, "phase", CheckedPhase())


@pytest.fixture
async def site(url: str, redis: Redis, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Site]:
    site = Site(url, redis)
    yield site
    await site.close()
    assert_quiet_loop(caplog)


@pytest.fixture
async def hostile(site: Site) -> AsyncIterator[Site]:
    """Give the queue of the hostile application, which new processes find, and forget it afterwards."""
    async with lent(site, hostile_tasks.app):
        yield site


@pytest.fixture
def proxy(site: Site) -> Iterator[Proxy]:
    """Give a proxy before the session's server, which knows all scripts already."""
    for name in SCRIPTS:
        site.redis.script_load(script(name).source)
    with proxied(site.url) as proxy:
        yield proxy


@pytest.fixture
def app(site: Site, proxy: Proxy) -> Headrace:
    """Give the application as its consumers behind the proxy know it."""
    app = site.another_app()
    distant = Headrace(proxy.url, queue=app.queue)
    distant.tasks = site.app.tasks
    return distant


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Give a server that the test may kill, stop and fill; what it has answered, it has written."""
    with private_server(tmp_path / "server", appendfsync="always") as server:
        yield server


@pytest.fixture
async def own_site(
    own_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Site]:
    """Give a queue on the test's own server."""
    with Redis.from_url(own_server.url) as redis:
        site = Site(own_server.url, redis)
        yield site
        await site.close()
    assert_quiet_loop(caplog)


def assert_quiet_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Fail on what asyncio complains of: a task that failed unseen, a callback that raised."""
    said = [
        r.getMessage()
        for when in ("setup", "call")
        for r in caplog.get_records(when)
        if r.name == "asyncio" and r.levelname in ("ERROR", "CRITICAL")
    ]
    assert not said, said
