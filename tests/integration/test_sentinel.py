"""Behind Sentinels, everybody finds the primary, leaves it when it is demoted, and goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    InvalidSetting,
    NotReplicated,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from headrace import operations as op
from headrace.embedded import EmbeddedServer, ensure_server
from headrace.keys import keys_of
from headrace.policy import LeasePolicy
from headrace.settings import redis_url
from headrace.store import AsyncStore, Channel, Store, probe
from tests.support.consuming import consuming
from tests.support.processes import clean_environment, processes
from tests.support.producing import Stream
from tests.support.sentinels import SERVICE, Sentinel, SentinelGroup, sentinel_group
from tests.support.servers import engine_under_test
from tests.support.wait import WAIT_S, await_until, bound, wait_until

K = keys_of("queue")
PASSWORD = "s3cret"
QUICK = {"down-after-milliseconds": 500, "failover-timeout": 2_000}


@pytest.fixture(scope="module")
def module_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    with sentinel_group(tmp_path_factory.mktemp("group")) as group:
        yield group


@pytest.fixture
def group(module_group: SentinelGroup) -> Iterator[SentinelGroup]:
    """Give a whole, empty group; one that a test leaves in pieces is mended for the next."""
    module_group.await_healthy()
    yield module_group
    for server in module_group.servers:
        if not server.running:
            module_group.restart(server)
    with module_group.client() as client:
        client.flushall()


@pytest.fixture
def store(group: SentinelGroup) -> Iterator[Store]:
    store = Store(group.url)
    yield store
    store.close()


@pytest.fixture
async def astore(group: SentinelGroup) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(group.url)
    yield store
    await store.close()


@contextmanager
def stopped(server: EmbeddedServer) -> Iterator[None]:
    """Have a server stand still: it is there, and answers nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def hosts(*ports: int) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """Give a port where nothing listens, and keep it so: bound, it is nobody else's."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def port_of(store: Store) -> int:
    return int(store.run(op.command("CONFIG", "GET", "port", parse=lambda raw: raw[1])))


async def aport_of(store: AsyncStore) -> int:
    return int(await store.run(op.command("CONFIG", "GET", "port", parse=lambda raw: raw[1])))


# — who is found —


async def test_stores_reach_the_primary(
    group: SentinelGroup, store: Store, astore: AsyncStore
) -> None:
    assert port_of(store) == await aport_of(astore) == group.primary.port


async def test_the_database_is_the_last_number_of_the_url(group: SentinelGroup) -> None:
    store = Store(f"{group.url}/2")
    store.run(op.register("there"))
    store.close()
    with group.client() as client:
        client.select(2)
        assert client.dbsize() == 1


async def test_a_dead_sentinel_is_passed_over(group: SentinelGroup, dead_port: int) -> None:
    live = group.sentinels[0].port
    url = f"redis+sentinel://{hosts(dead_port, live)}/{SERVICE}"
    blocking, awaited = Store(url), AsyncStore(url)
    assert port_of(blocking) == await aport_of(awaited) == group.primary.port
    blocking.close()
    await awaited.close()


async def test_a_silent_sentinel_is_passed_over(group: SentinelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = silent.getsockname()[1], group.sentinels[0].port
        store = AsyncStore(f"redis+sentinel://{hosts(*ports)}/{SERVICE}")
        assert await aport_of(store) == group.primary.port
        await store.close()


async def test_without_any_sentinel_it_is_said_who_was_asked(dead_port: int) -> None:
    url = f"redis+sentinel://user:{PASSWORD}@{hosts(dead_port)}/{SERVICE}"
    with pytest.raises(
        StoreUnavailable, match=f"Sentinels of .*{dead_port}.* do not answer: .*refused"
    ) as caught:
        Store(url).run(op.queues())
    assert caught.value.timed_out  # the primary may be alive for others
    assert PASSWORD not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="do not answer"):
        await AsyncStore(url).run(op.queues())
    with pytest.raises(StoreUnavailable, match="do not answer"):
        probe(url)


async def test_a_service_that_no_sentinel_knows_is_named(group: SentinelGroup) -> None:
    url = group.url.replace(SERVICE, "other")
    with pytest.raises(StoreRefused, match="know no service 'other'.*sentinel monitor"):
        Store(url).run(op.queues())
    with pytest.raises(StoreRefused, match="know no service 'other'"):
        await AsyncStore(url).run(op.queues())
    with pytest.raises(StoreRefused, match="know no service 'other'"):
        probe(url)


async def test_the_servers_want_another_password_than_the_sentinels(group: SentinelGroup) -> None:
    ours, theirs = f"ours:{PASSWORD}@", f"?sentinel_username=theirs&sentinel_password={PASSWORD}"
    url = group.url.replace("//", f"//{ours}") + theirs
    with ExitStack() as stack:
        for server in group.servers:
            client = stack.enter_context(group.client(server))
            client.acl_setuser(
                "ours", enabled=True, passwords=f"+{PASSWORD}", keys="*", commands=["+@all"]
            )
            stack.callback(client.acl_deluser, "ours")
        with pytest.raises(StoreRefused, match=r"refuse: .*\?sentinel_username=USER"):
            Store(url).run(op.queues())  # the Sentinels do not know theirs yet
        for sentinel in group.sentinels:
            sentinel.ask("ACL", "SETUSER", "theirs", "on", f">{PASSWORD}", "+@all")
            stack.callback(sentinel.ask, "ACL", "DELUSER", "theirs")
        store = Store(url)
        assert port_of(store) == group.primary.port
        store.close()
        with pytest.raises(StoreRefused, match="WRONGPASS|invalid username") as caught:
            Store(url.replace(ours, f"ours:not-{PASSWORD}@")).run(op.queues())
        assert PASSWORD not in str(caught.value)
        with pytest.raises(StoreRefused, match="does not let us in"):
            probe(url.replace(ours, f"ours:not-{PASSWORD}@"))


async def test_a_replica_that_a_sentinel_names_is_left(
    group: SentinelGroup, tmp_path: Path
) -> None:
    late = Sentinel(
        tmp_path / "late", group.replicas[0].port, quorum=2, times=QUICK, service="late"
    )
    url = f"redis+sentinel://{hosts(late.port)}/late"
    store, astore = Store(url), AsyncStore(url)
    channel = Channel(astore, "test")
    try:
        with pytest.raises(StoreUnavailable, match="no primary"):
            store.run(op.queues())
        with pytest.raises(StoreUnavailable, match="no primary"):
            await astore.run(op.queues())
        with pytest.raises(StoreUnavailable, match="no primary"):
            await channel.run(op.blocking_move(K, WAIT_S))
    finally:
        await channel.close()
        late.kill()


async def test_a_sentinel_that_is_cut_off_does_not_mislead_for_long(
    group: SentinelGroup, tmp_path: Path, dead_port: int
) -> None:
    lone = Sentinel(tmp_path / "lone", dead_port, quorum=2, times=QUICK)
    live = [sentinel.port for sentinel in group.sentinels]
    store = Store(f"redis+sentinel://{hosts(lone.port, *live)}/{SERVICE}")
    try:
        with pytest.raises(StoreUnavailable, match="another server will soon take its place"):
            store.run(op.queues())
        assert port_of(store) == group.primary.port
    finally:
        store.close()
        lone.kill()


def test_the_primary_is_probed_and_no_server_is_started(
    group: SentinelGroup, tmp_path: Path
) -> None:
    info = probe(group.url)
    assert info is not None
    assert info.port == group.primary.port
    assert ensure_server(redis_url(group.url), tmp_path / "data") is None
    with pytest.raises(StoreRefused):
        ensure_server(redis_url(group.url.replace(SERVICE, "other")), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_command_line_works_behind_sentinels(group: SentinelGroup, tmp_path: Path) -> None:
    environment = clean_environment(HEADRACE_URL=group.url)

    def headrace(*words: str) -> str:
        command = (sys.executable, "-m", "headrace", *words)
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with processes(tmp_path) as start:
        server = start(sys.executable, "-m", "headrace", "serve", "--port", "0", env=environment)
        headrace("produce", "echo", "hi")
        headrace("consume", "headrace.demo.tasks", "--burst")
        with group.client() as client:
            assert client.hget(K.stats, "done") == "1"
        assert str(group.primary.engine) in headrace("info")
        wait_until(lambda: f"{group.primary.engine} at {group.url}" in server.output)
        assert server.end() == 0


# — confirmed enqueue —


@pytest.fixture
def careful(group: SentinelGroup) -> Iterator[Headrace]:
    app = Headrace(group.url, confirm_replicas=1, confirm_timeout=bound(0.3))
    yield app
    app.close()


async def test_an_enqueue_is_confirmed_when_a_replica_has_it(
    group: SentinelGroup, careful: Headrace
) -> None:
    ids = {careful.enqueue("t").id, (await careful.aenqueue("t")).id}
    ids |= {job.id for job in careful.enqueue_many(careful.call("t", n) for n in range(3_000))}
    await careful.aclose()
    with group.client(group.replicas[0]) as replica:
        assert replica.llen(K.pending) == len(ids) == 3_002


async def test_an_enqueue_that_no_replica_confirms_raises_until_one_does(
    group: SentinelGroup, careful: Headrace
) -> None:
    calls = [careful.call_with("t", (n,), {}, {"key": f"k{n}"}) for n in range(2)]
    careful.enqueue("t", 0)  # its connection is there, and its script is known
    with stopped(group.replicas[0]):
        for _ in range(2):  # a repeat finds its job there, and asks again
            with pytest.raises(
                NotReplicated, match=r"0 of 1 replicas .* within [\d.]+ s"
            ) as caught:
                careful.enqueue_many(calls)
            assert caught.value.may_have_happened
            assert caught.value.accepted == ()
            careful.close()  # also on another connection
        with pytest.raises(NotReplicated):
            await careful.aenqueue("t", 1)
    ids = [job.id for job in careful.enqueue_many(calls)]
    await careful.aclose()
    with group.client(group.replicas[0]) as replica:
        waiting = replica.lrange(K.pending, 0, -1)
    assert len(waiting) == 1 + 2 + 1
    assert all(any(job_id in job for job in waiting) for job_id in ids)


def test_a_job_whose_script_had_to_be_loaded_is_confirmed_too(
    group: SentinelGroup, careful: Headrace
) -> None:
    careful.enqueue("t")
    with group.client() as client:
        client.script_flush()
        client.config_resetstat()
        careful.enqueue("t")
        assert client.info("commandstats")["cmdstat_wait"]["calls"] == 2


@pytest.mark.parametrize(
    "options", [{"confirm_replicas": -1}, {"confirm_replicas": True}, {"confirm_timeout": 0}]
)
def test_a_confirmation_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match=r"confirm_\w+="):
        Headrace(**options)


def test_without_replicas_an_enqueue_is_not_confirmed(url: str) -> None:
    app = Headrace(url, confirm_replicas=1, confirm_timeout=0.05)
    with pytest.raises(NotReplicated, match="the primary has the job, but 0 of 1 replicas"):
        app.enqueue("t")
    app.close()


# — failover —


async def test_a_demoted_primary_is_left_by_stores_and_channels(
    group: SentinelGroup, store: Store, astore: AsyncStore
) -> None:
    old, channel = group.primary, Channel(astore, "test")
    assert port_of(store) == await aport_of(astore) == old.port
    moving = asyncio.create_task(channel.run(op.blocking_move(K, WAIT_S)))
    with group.client() as client:
        await await_until(lambda: client.info("clients")["blocked_clients"] == 1)
    coordinated = engine_under_test().name == "valkey"  # then connections outlive the demotion
    with group.patient():
        new = await asyncio.to_thread(group.failover, coordinated=coordinated)
        with pytest.raises(StoreError):  # -UNBLOCKED, or the end of the connection
            await moving
        with suppress(
            StoreError
        ):  # READONLY, where the connection lives; reads would do there still
            store.run(op.register("queue"))
        with suppress(StoreError):
            await astore.run(op.register("queue"))
        assert port_of(store) == await aport_of(astore) == new.port != old.port
        store.run(op.enqueue(K, [b'{"id":"a","task":"t"}']))
        assert await channel.run(op.blocking_move(K, WAIT_S)) == b'{"id":"a","task":"t"}'
    await channel.close()


@pytest.mark.parametrize("how", ["asked", "killed"])
async def test_consumers_and_producers_go_on_after_a_failover(
    group: SentinelGroup, how: str
) -> None:
    app, ran = Headrace(group.url), set[tuple[str, int]]()

    @app.task
    async def note(queue: str, n: int) -> None:
        ran.add((queue, n))

    lease = LeasePolicy(lease_s=2.0, bare_lease_s=2.0)
    async with consuming(app, lease=lease), AsyncExitStack() as patience:
        stream = Stream(group.url, confirm_replicas=1, confirm_timeout=0.5)
        await stream.more()
        old = group.primary
        if how == "asked":
            patience.enter_context(group.patient())
            await asyncio.to_thread(group.failover)
        else:
            old.kill()
            await asyncio.to_thread(group.await_new_primary, old)
            await asyncio.to_thread(group.restart, old)  # without it there is no replica to confirm
        await stream.more()
        await stream.end()
        await await_until(lambda: ran >= stream.acknowledged, "all ran that was acknowledged")
        assert group.primary is not old
