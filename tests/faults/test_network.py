"""The laboratory's proxy does to requests what it says that it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import operations as op
from headrace.embedded.server import free_port
from headrace.errors import ReplyLost, StoreRefused
from headrace.keys import keys_of
from headrace.store import AsyncStore, Channel
from tests.faults import history
from tests.faults.history import Journal
from tests.faults.network import Proxy, ProxyRole
from tests.support.servers import private_server
from tests.support.wait import await_until

K = keys_of("queue")
JOB = b'{"id":"job-1","task":"quick","args":[1,2]}'


@asynccontextmanager
async def proxied(
    url: str, folder: Path, *plan: tuple[str, str, int], **options: Any
) -> AsyncIterator[AsyncStore]:
    """Give a store that reaches the server through a proxy with a plan."""
    role = ProxyRole(
        "proxy", url, folder, port=free_port(), control=folder / "c", plan=plan, gap_s=0, **options
    )
    proxy = Proxy(role, Journal(folder, "proxy"))
    proxy.rng.random = lambda: 1.0  # type: ignore[method-assign]  # whenever the plan has it
    task = asyncio.create_task(proxy.run())
    await await_until(role.control.exists, what="the proxy listens")
    store = AsyncStore(f"redis://127.0.0.1:{role.port}/0", timeout_s=0.5)
    try:
        yield store
    finally:
        await store.close()
        await await_until(lambda: not proxy.links, what="its links end")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def injected(folder: Path) -> list[tuple[str, str]]:
    return [(fault.fault, fault.transition) for fault in history.read(folder).faults]


@pytest.mark.parametrize(
    ("fault", "arrived"), [("cut", 0), ("lost", 1), ("half-open", 1)], ids=lambda value: str(value)
)
async def test_an_enqueue_fails_once_and_the_server_has_acted_or_not(
    url: str, redis: Redis, tmp_path: Path, fault: str, arrived: int
) -> None:
    async with proxied(url, tmp_path, (fault, "enqueue", 1)) as store:
        await store.run(op.snapshot(K))  # no part of the plan
        redis.script_load(op.enqueue(K, [JOB]).script.source)  # type: ignore[union-attr]
        with pytest.raises(ReplyLost):
            await store.run(op.enqueue(K, [JOB]))
        assert redis.llen(K.pending) == arrived
        await store.run(op.enqueue(K, [JOB]))
        assert redis.llen(K.pending) == arrived + 1
    assert injected(tmp_path) == [(fault, "enqueue")]


async def test_a_request_is_refused_by_the_server_that_gets_it_instead(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    with private_server(tmp_path / "replica") as server, Redis.from_url(server.url) as replica:
        replica.script_load(op.enqueue(K, [JOB]).script.source)  # type: ignore[union-attr]
        replica.replicaof("127.0.0.1", redis.connection_pool.connection_kwargs["port"])
        elsewhere = ((fault := "refused READONLY"), server.url)
        plan = (fault, "enqueue", 1)
        async with proxied(url, tmp_path, plan, elsewhere=(elsewhere,)) as store:
            with pytest.raises(StoreRefused, match="read.only replica"):
                await store.run(op.enqueue(K, [JOB]))
            assert redis.llen(K.pending) == 0
            await store.run(op.enqueue(K, [JOB]))
            assert redis.llen(K.pending) == 1
    assert injected(tmp_path) == []  # who hears the answer writes it down


async def test_an_answer_that_says_nothing_happened_is_passed_on(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    async with proxied(url, tmp_path, ("lost", "BLMOVE", 1), ("lost", "claim", 1)) as store:
        channel = Channel(store, "test")
        assert await channel.run(op.blocking_move(K, 0.05)) is None
        redis.lpush(K.pending, JOB)
        with pytest.raises(ReplyLost):
            await channel.run(op.blocking_move(K, 0.05))
        assert redis.lrange(K.processing, 0, -1) == [JOB], "it was moved, and nobody was told"
        redis.script_flush()
        claim = op.claim(K, 1, lease_ms=1000, consumer="c1", first=1)
        with pytest.raises(ReplyLost):  # not of the NOSCRIPT, but of what follows it
            await store.run(claim)
        await channel.close()
    assert injected(tmp_path) == [("lost", "BLMOVE"), ("lost", "claim")]


async def test_a_late_answer_comes(url: str, redis: Redis, tmp_path: Path) -> None:
    async with proxied(url, tmp_path, ("late", "lead", 1)) as store:
        store._timeout_s = 5.0
        assert await store.run(op.lead("me", 1000)) in ("me",)
        assert await store.run(op.lead("me", 1000)) == "me"
    assert injected(tmp_path) == [("late", "lead")]
