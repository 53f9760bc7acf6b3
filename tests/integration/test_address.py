"""Where connections lead: by a Unix socket too, and elsewhere once a server is not what it was."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import ReplyLost, StoreRefused
from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.keys import keys_of
from headrace.store import AsyncStore, Channel, Store, probe
from headrace.store.any_store import AnyStore
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, bound

K = keys_of("queue")
A = b'{"id":"a","task":"t"}'
ID = op.command("CLIENT", "ID", parse=int)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = private_server(tmp_path / "data", extra_args=("--unixsocket", str(tmp_path / "s")))
    yield server
    os.kill(server.pid, signal.SIGCONT)
    server.kill()


@pytest.fixture
def store(own: EmbeddedServer) -> Iterator[Store]:
    store = Store(own.url, timeout_s=bound(0.2))
    yield store
    store.close()


@pytest.fixture
async def astore(own: EmbeddedServer) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(own.url, timeout_s=bound(0.2))
    yield store
    await store.close()


def idle(store: AnyStore[Any]) -> int:
    """How many idle connections a store keeps."""
    return sum(len(node.idle) for node in store.server.nodes())


async def test_a_unix_socket_will_do(own: EmbeddedServer, tmp_path: Path) -> None:
    url = f"unix://{tmp_path / 's'}?db=3"
    store, astore = Store(url), AsyncStore(url)
    channel = Channel(astore, "test")
    store.run(op.enqueue(K, [A]))
    assert await channel.run(op.blocking_move(K, WAIT_S)) == A
    await astore.run(op.register("queue"))
    with Redis(port=own.port, db=3) as redis:
        assert redis.exists(K.processing)
    assert probe(url) is not None
    await channel.close()
    await astore.close()
    store.close()


async def test_who_refuses_for_want_of_replicas_is_left(
    own: EmbeddedServer, store: Store, astore: AsyncStore
) -> None:
    channel = Channel(astore, "test")
    ids = [store.run(ID), await astore.run(ID), await channel.run(ID)]
    with Redis(port=own.port) as redis:
        redis.config_set("min-replicas-to-write", 1)
    with pytest.raises(StoreRefused, match="NOREPLICAS"):
        store.run(op.enqueue(K, [A]))
    with pytest.raises(StoreRefused, match="NOREPLICAS"):
        await astore.run(op.enqueue(K, [A]))
    with pytest.raises(StoreRefused, match="NOREPLICAS"):
        await channel.run(op.blocking_move(K, 1))
    later = [store.run(ID), await astore.run(ID), await channel.run(ID)]
    assert all(new > old for new, old in zip(later, ids, strict=True))
    await channel.close()


async def test_a_frozen_server_costs_one_timeout_however_many_connections_there_are(
    own: EmbeddedServer, store: Store, astore: AsyncStore
) -> None:
    slow = op.command("BLPOP", "nothing", 0.1, parse=lambda raw: raw, wait_s=0.1)
    threads = [threading.Thread(target=store.run, args=(slow,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(astore.run(slow) for _ in range(3)))
    for thread in threads:
        thread.join()
    assert idle(store._store) == idle(astore) == 3
    os.kill(own.pid, signal.SIGSTOP)
    with pytest.raises(ReplyLost):
        store.run(ID)
    with pytest.raises(ReplyLost):
        await astore.run(ID)
    os.kill(own.pid, signal.SIGCONT)
    assert idle(store._store) == idle(astore) == 0
    assert store.run(ID) != await astore.run(ID)
