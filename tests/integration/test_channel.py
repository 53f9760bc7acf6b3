"""A blocking request can be ended, and no job is lost over that."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis

from headrace import operations as op
from headrace.errors import ReplyLost, StoreRefused, StoreUnavailable
from headrace.keys import keys_of
from headrace.store import AsyncStore, Channel, exchange
from tests.support.proxy import proxied
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, await_until, bound

K = keys_of("queue")
A = b'{"id":"a","task":"t"}'
NAME = "headrace:test-channel"


@pytest.fixture
async def channel(store: AsyncStore) -> AsyncIterator[Channel]:
    channel = Channel(store, NAME)
    yield channel
    await channel.close()


def move(channel: Channel, wait_s: float = WAIT_S) -> asyncio.Task[bytes | None]:
    return asyncio.create_task(channel.run(op.blocking_move(K, wait_s)))


async def look_too(channel: Channel) -> tuple[bytes | None, bool | None]:
    """Run a blocking move, and see whether the queue is paused then."""
    answers: list[tuple[bytes | None, bool | None]] = []
    await channel.run_and_look(op.blocking_move(K, WAIT_S), op.is_paused(K), answers.append)
    [answer] = answers
    return answer


async def blocked(redis: Redis) -> None:
    await await_until(lambda: redis.info("clients")["blocked_clients"] == 1)


async def test_a_request_is_answered(channel: Channel, redis: Redis) -> None:
    redis.lpush(K.pending, A)
    assert await channel.run(op.blocking_move(K, WAIT_S)) == A


async def test_what_comes_later_is_answered_at_once(channel: Channel, redis: Redis) -> None:
    moving = move(channel)
    await blocked(redis)
    redis.lpush(K.pending, A)
    assert await moving == A


async def test_a_wait_that_is_over_is_answered_with_none(channel: Channel) -> None:
    assert await channel.run(op.blocking_move(K, 0.01)) is None
    assert await channel.end() is None


async def test_its_connection_bears_its_name(channel: Channel, redis: Redis) -> None:
    await channel.run(op.blocking_move(K, 0.01))
    assert NAME in {client["name"] for client in redis.client_list()}


async def test_what_came_while_a_task_kept_the_loop_to_itself_is_answered(
    channel: Channel, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await channel.run(op.blocking_move(K, 0.01))  # to connect may take longer than the time below
    monkeypatch.setattr(exchange, "TIMEOUT_S", bound(0.1))
    moving = move(channel, bound(0.2))
    await blocked(redis)
    redis.lpush(K.pending, A)
    time.sleep(bound(0.4))  # noqa: ASYNC251  beyond all timeouts
    assert await moving == A


class TestEnd:
    async def test_where_nothing_is_under_way_there_is_none(self, channel: Channel) -> None:
        assert await channel.end() is None

    async def test_a_blocked_move_ends_with_none(self, channel: Channel, redis: Redis) -> None:
        moving = move(channel)
        await blocked(redis)
        assert await channel.end() is None
        assert await moving is None

    async def test_a_move_that_is_not_even_connected_ends_too(self, channel: Channel) -> None:
        moving = move(channel)
        await asyncio.sleep(0)  # it has been called, and that is all
        assert await channel.end() is None
        assert await moving is None

    async def test_the_channel_goes_on_afterwards(self, channel: Channel, redis: Redis) -> None:
        for _ in range(3):
            moving = move(channel)
            await blocked(redis)
            await channel.end()
            await moving
        redis.lpush(K.pending, A)
        assert await channel.run(op.blocking_move(K, WAIT_S)) == A

    async def test_several_may_end_it(self, channel: Channel, redis: Redis) -> None:
        moving = move(channel)
        await blocked(redis)
        answers = [*await asyncio.gather(channel.end(), channel.end())]
        assert answers == [None, None]
        assert await moving is None

    async def test_close_gives_the_answer_too(self, channel: Channel, redis: Redis) -> None:
        moving = move(channel)
        await blocked(redis)
        redis.lpush(K.pending, A)
        await await_until(lambda: redis.llen(K.processing) == 1)
        assert await channel.close() in {A, None}  # None: run() has given it already
        assert await moving == A


class TestCancelledWaiter:
    async def test_a_blocked_move_is_still_to_be_ended(
        self, channel: Channel, redis: Redis
    ) -> None:
        moving = move(channel)
        await blocked(redis)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        assert redis.info("clients")["blocked_clients"] == 1
        assert await channel.end() is None

    async def test_the_job_that_came_is_given_by_end(self, channel: Channel, redis: Redis) -> None:
        moving = move(channel)
        await blocked(redis)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        redis.lpush(K.pending, A)
        assert await channel.end() == A
        assert await channel.end() is None

    async def test_the_job_that_came_is_given_also_when_nobody_can_be_asked_to_unblock(
        self, channel: Channel, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def no_more_connections(*_: object) -> None:
            raise StoreUnavailable("max number of clients reached")

        moving = move(channel)
        await blocked(redis)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        monkeypatch.setattr(AsyncStore, "run", no_more_connections)
        redis.lpush(K.pending, A)
        assert await channel.end() == A

    async def test_one_cancelled_before_it_began_moves_nothing(
        self, channel: Channel, redis: Redis
    ) -> None:
        moving = move(channel)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        assert await channel.end() is None
        redis.lpush(K.pending, A)
        assert redis.llen(K.pending) == 1


async def test_in_200_races_between_a_push_and_the_end_no_job_is_lost(
    channel: Channel, store: AsyncStore, redis: Redis
) -> None:
    chance = random.Random(1)
    given = 0
    for n in range(200):
        job = b'{"id":"%d","task":"t"}' % n
        moving = move(channel)
        await asyncio.sleep(0)
        if n % 10:  # else the end may come before the request
            await blocked(redis)
        if n % 3 == 0:
            moving.cancel()
        pushing = asyncio.create_task(store.run(op.enqueue(K, [job])))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        ended = await channel.end()
        await pushing
        moved = (await asyncio.gather(moving, return_exceptions=True))[0]
        assert redis.lrange(K.processing, 0, -1) + redis.lrange(K.pending, 0, -1) == [job]
        was_given = job in {moved, ended}
        assert was_given == bool(redis.llen(K.processing))
        given += was_given
        redis.delete(K.pending, K.processing)
    assert 0 < given < 200, "one side always won: that was no race"


class TestLook:
    async def test_it_tells_how_things_stand_when_the_request_is_answered(
        self, channel: Channel, redis: Redis
    ) -> None:
        for paused in (False, True):
            moving = asyncio.create_task(look_too(channel))
            await blocked(redis)
            if paused:
                redis.hset(K.meta, "paused", 1)
            redis.lpush(K.pending, A)
            assert await moving == (A, paused)

    async def test_when_it_is_refused_the_job_is_given(
        self, channel: Channel, redis: Redis
    ) -> None:
        redis.set(K.meta, "no hash")
        redis.lpush(K.pending, A)
        assert await look_too(channel) == (A, None)
        redis.delete(K.meta)
        redis.lpush(K.pending, A)
        assert await look_too(channel) == (A, False)

    async def test_when_the_connection_ends_before_it_the_job_is_given(
        self, url: str, redis: Redis
    ) -> None:
        with proxied(url) as proxy:
            store = AsyncStore(proxy.url)
            channel = Channel(store, NAME)
            redis.lpush(K.pending, A, A)
            proxy.fail_next("break", b"BLMOVE")
            assert await look_too(channel) == (A, None)
            assert await look_too(channel) == (A, False)
            await channel.close()
            await store.close()

    async def test_the_end_of_both_gives_the_job(self, channel: Channel, redis: Redis) -> None:
        moving = asyncio.create_task(look_too(channel))
        await blocked(redis)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        redis.lpush(K.pending, A)
        assert await channel.end() == A

    async def test_what_comes_when_the_caller_is_gone_is_taken(
        self, channel: Channel, redis: Redis
    ) -> None:
        answers: list[tuple[bytes | None, bool | None]] = []
        asked = channel.run_and_look(op.blocking_move(K, 30), op.is_paused(K), answers.append)
        moving = asyncio.create_task(asked)
        await blocked(redis)
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        redis.lpush(K.pending, A)
        await await_until(lambda: answers)
        assert answers == [(A, False)]

    async def test_a_refused_request_leaves_nothing_to_be_read(
        self, channel: Channel, redis: Redis
    ) -> None:
        redis.set(K.pending, "no list")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await look_too(channel)
        redis.delete(K.pending)
        redis.lpush(K.pending, A)
        assert await channel.run(op.blocking_move(K, WAIT_S)) == A


class TestFailure:
    async def test_a_server_killed_under_a_blocked_move_is_an_error_until_it_is_back(
        self, tmp_path: Path
    ) -> None:
        with private_server(tmp_path / "data") as server:
            store = AsyncStore(server.url)
            channel = Channel(store, NAME)
            with Redis.from_url(server.url) as redis:
                moving = move(channel)
                await blocked(redis)
                server.kill()
                with pytest.raises(ReplyLost) as caught:
                    await moving
                assert caught.value.may_have_happened
                with pytest.raises(StoreUnavailable) as refused:
                    await channel.run(op.blocking_move(K, WAIT_S))
                assert not refused.value.may_have_happened
                assert await channel.end() is None
                server.restart()
                redis.lpush(K.pending, A)
                assert await channel.run(op.blocking_move(K, WAIT_S)) == A
            await channel.close()
            await store.close()

    async def test_the_end_comes_also_when_the_server_hangs(self, tmp_path: Path) -> None:
        with private_server(tmp_path / "data") as server:
            store = AsyncStore(server.url, timeout_s=bound(0.1))
            channel = Channel(store, NAME)
            with Redis.from_url(server.url) as redis:
                moving = move(channel)
                await blocked(redis)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                assert await asyncio.wait_for(channel.end(), WAIT_S) is None
                with pytest.raises(ReplyLost):
                    await moving
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await channel.close()
            await store.close()

    async def test_unblocked_by_a_change_of_role_is_refused_and_the_channel_goes_on(
        self, channel: Channel, redis: Redis
    ) -> None:
        moving = move(channel)
        await blocked(redis)
        [me] = [client["id"] for client in redis.client_list() if client["name"] == NAME]
        redis.client_unblock(int(me), error=True)
        with pytest.raises(StoreRefused, match="UNBLOCKED"):
            await moving
        redis.lpush(K.pending, A)
        assert await channel.run(op.blocking_move(K, WAIT_S)) == A

    async def test_a_refused_request_is_an_error_and_the_channel_goes_on(
        self, channel: Channel, redis: Redis
    ) -> None:
        redis.set(K.pending, "no list")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await channel.run(op.blocking_move(K, WAIT_S))
        redis.delete(K.pending)
        redis.lpush(K.pending, A)
        assert await channel.run(op.blocking_move(K, WAIT_S)) == A

    async def test_an_error_is_not_an_answer_to_the_end(
        self, channel: Channel, redis: Redis
    ) -> None:
        redis.set(K.pending, "no list")
        moving = move(channel)
        await asyncio.gather(moving, return_exceptions=True)
        assert await channel.end() is None
