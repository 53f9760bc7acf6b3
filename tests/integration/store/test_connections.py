"""What both stores promise of their connections: kept, replaced, shared, and never with an answer left in."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from headrace import operations as op
from headrace.errors import ReplyLost, StoreUnavailable
from headrace.operations import command
from headrace.store import AsyncStore, Store, exchange
from tests.integration.store.stores import A, B, K, Open, OpenStore, client_id, echo
from tests.support.invariants import check
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, await_until, wait_until


def named(redis: Redis, name: str) -> int:
    """Count the connections of this name."""
    return sum(client["name"] == name for client in redis.client_list())


class TestIdle:
    def test_a_connection_that_was_closed_meanwhile_is_replaced(
        self, store: OpenStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = store.run(client_id())
        redis.client_kill_filter(_id=str(before))
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", 0)
        assert store.run(op.enqueue(K, [A])).word == "ok"
        assert store.run(client_id()) != before
        assert check(redis).pending == [A]

    def test_one_that_lives_is_kept(
        self, store: OpenStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", 0)
        assert len({store.run(client_id()) for _ in range(5)}) == 1

    def test_one_used_a_moment_ago_is_not_looked_at(self, store: OpenStore, redis: Redis) -> None:
        redis.client_kill_filter(_id=str(store.run(client_id())))
        with pytest.raises(ReplyLost):  # it may have happened, for all that the store knows
            store.run(op.enqueue(K, [A]))
        assert store.run(op.enqueue(K, [B])).word == "ok"
        assert check(redis).pending == [B]

    def test_a_loop_that_was_busy_meanwhile_is_no_failure(
        self, url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", 0)

        async def work() -> None:
            store = AsyncStore(url)
            try:
                mine = await store.run(client_id())
                redis.client_kill_filter(_id=str(mine))
                assert await store.run(echo("1")) == b"1"
            finally:
                await store.close()

        asyncio.run(work())

    def test_a_server_that_was_restarted_meanwhile_is_no_failure(
        self, tmp_path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", 0)
        with private_server(tmp_path / "data", appendfsync="always") as server:
            store = open_store(server.url)
            store.run(op.enqueue(K, [A]))
            server.kill()
            with pytest.raises(StoreUnavailable):
                store.run(op.snapshot(K))
            server.restart()
            assert store.run(op.snapshot(K)).pending == 1
            server.restart()
            assert store.run(op.snapshot(K)).pending == 1


class TestThreadsAndProcesses:
    def test_threads_share_a_store(self, url: str, redis: Redis) -> None:
        store = Store(url)
        wrong: list[str] = []

        def work(thread: int) -> None:
            for n in range(50):
                text = f"{thread}:{n}"
                answers = store.run_all([echo(text), op.enqueue(K, [A]), echo(f"{text}!")])
                if answers != [text.encode(), op.Enqueued("ok"), f"{text}!".encode()]:
                    wrong.append(text)

        threads = [threading.Thread(target=work, args=(n,), name=f"user {n}") for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert redis.llen(K.pending) == 400
        store.close()

    def test_calls_of_one_loop_share_a_store(self, url: str) -> None:
        async def work() -> None:
            store = AsyncStore(url)
            texts = [str(n) for n in range(50)]
            answers = await asyncio.gather(*(store.run(echo(text)) for text in texts))
            assert answers == [text.encode() for text in texts]
            await store.close()

        asyncio.run(work())

    def test_a_cancelled_call_leaves_no_answer_to_another(self, url: str) -> None:
        async def work() -> None:
            store = AsyncStore(url)
            await store.run(echo("warm"))
            call = asyncio.ensure_future(store.run(op.blocking_move(K, 5)))
            while not (await store.run(command("INFO", "clients", parse=_blocked))):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.gather(*(store.run(echo(f"{n}")) for n in range(3))) == [
                *(b"0", b"1", b"2")
            ]
            await store.close()

        asyncio.run(work())

    def test_a_cancelled_look_at_an_idle_connection_closes_it(
        self, url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", -1)

        async def work() -> None:
            store = AsyncStore(url, name="looked-at")
            for turns in range(5):  # of the loop, until the call is cancelled
                await store.run(echo("warm"))
                call = asyncio.ensure_future(store.run(echo("cancelled")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait({call})
            await store.close()
            await await_until(lambda: not named(redis, "looked-at"), what="all are closed")

        asyncio.run(work())

    def test_a_store_that_is_closed_during_a_call_closes_its_connection_after_it(
        self, url: str, redis: Redis
    ) -> None:
        def blocks() -> bool:
            return bool(redis.info("clients")["blocked_clients"] == 1)

        def push(close: Callable[[], None]) -> None:
            wait_until(blocks, what="the call is under way")
            close()
            redis.lpush(K.pending, A)

        async def work() -> None:
            store = AsyncStore(url, name="busy")
            call = asyncio.ensure_future(store.run(op.blocking_move(K, WAIT_S)))
            await await_until(blocks, what="the call is under way")
            await store.close()
            redis.lpush(K.pending, B)
            assert await call == B
            await await_until(lambda: not named(redis, "busy"), what="it is closed")

        store = Store(url, name="busy")
        pushing = threading.Thread(target=push, args=(store.close,), name="pusher")
        pushing.start()
        assert store.run(op.blocking_move(K, WAIT_S)) == A
        pushing.join()
        wait_until(lambda: not named(redis, "busy"), what="it is closed")
        asyncio.run(work())

    def test_an_interrupted_call_leaves_no_answer_to_another(self, url: str) -> None:
        class Interrupt(BaseException):
            pass

        def interrupt(*_: object) -> None:
            raise Interrupt

        store = Store(url)
        store.run(echo("warm"))
        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with Redis.from_url(url) as watcher:
                me = threading.main_thread().ident
                assert me is not None

                def strike() -> None:
                    wait_until(lambda: watcher.info("clients")["blocked_clients"] == 1)
                    signal.pthread_kill(me, signal.SIGUSR1)

                striking = threading.Thread(target=strike, name="striker")
                striking.start()
                with pytest.raises(Interrupt):
                    store.run(op.blocking_move(K, 5))
                striking.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert store.run(echo("1")) == b"1"
        store.close()

    def test_a_forked_child_has_a_connection_of_its_own(self, url: str) -> None:
        store = Store(url)
        mine = store.run(client_id())
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # nothing of pytest may run in here
            try:
                os.write(writing, b"%d" % store.run(client_id()))
                store.close()
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            theirs = int(answer.read())
        os.waitpid(child, 0)
        assert theirs != mine
        assert store.run(client_id()) == mine
        store.close()


def _blocked(raw: Any) -> bool:
    return b"blocked_clients:1" in raw
