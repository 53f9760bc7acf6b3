"""Stores at their edges: nothing to do, a request under way, another process."""

from __future__ import annotations

import asyncio
import os

import pytest
from redis import Redis

from headrace import operations as op
from headrace.keys import keys_of
from headrace.operations import command
from headrace.store import AsyncStore, Channel, Store
from headrace.store.sync import complete
from tests.support.wait import await_until

K = keys_of("queue")
PING = command("PING", parse=bytes)


def test_nothing_to_run_needs_no_connection() -> None:
    store = Store("redis://127.0.0.1:1")  # nothing listens there
    assert store.run_all([]) == []
    store.close()


async def test_nothing_to_await_needs_none_either() -> None:
    store = AsyncStore("redis://127.0.0.1:1")
    assert await store.run_all([]) == []
    await store.close()


async def test_after_a_fork_the_parents_connections_are_left_alone(
    store: AsyncStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def number() -> int:
        return await store.run(command("CLIENT", "ID", parse=int))

    first = await number()
    assert await number() == first
    parents, child = [pair for node in store.server.nodes() for pair in node.idle], os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    assert await number() != first
    for connection, *_ in parents:
        await connection.disconnect()


async def test_a_channel_has_one_request_under_way(store: AsyncStore, redis: Redis) -> None:
    channel = Channel(store, name="test")
    running = asyncio.create_task(channel.run(op.blocking_move(K, 5)))
    await await_until(lambda: channel.busy, what="it is under way")
    with pytest.raises(RuntimeError, match="a request is under way"):
        await channel.run(PING)
    redis.lpush(K.pending, b"job")
    assert await running == b"job"
    assert await channel.run(PING) == b"PONG"
    await channel.close()


async def test_a_step_of_the_blocking_store_that_waited_for_a_loop_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="has waited for an event loop"):
        complete(asyncio.sleep(0))
