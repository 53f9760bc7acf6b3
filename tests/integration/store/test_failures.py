"""What both stores promise when Redis does not answer: whether anything may have happened."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from redis import Redis
from redis.asyncio.connection import Connection

from headrace import operations as op
from headrace.errors import ReplyLost, StoreError, StoreRefused, StoreUnavailable
from headrace.operations import Operation
from headrace.store import AsyncStore
from tests.integration.store.stores import A, B, C, K, Open, OpenStore, echo, insist
from tests.support.invariants import check
from tests.support.proxy import Fault, Proxy
from tests.support.wait import WAIT_S, await_until, bound

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def run_with_a_peer(
    ask: Callable[[AsyncStore, socket.socket], Coroutine[Any, Any, None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Run ``ask`` with a store, and with the listener that it connects to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        store = AsyncStore(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(ask(store, listener))


def reset_at_close(peer: socket.socket) -> None:
    """Let no FIN go out: what the next writer finds is a connection that was reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class TestUnavailable:
    def test_where_nothing_listens_nothing_happened(
        self, closed_url: str, open_store: Open
    ) -> None:
        store = open_store(closed_url)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="no Redis at .*redis-server") as caught:
                store.run(op.enqueue(K, [A]))
            assert not caught.value.may_have_happened

    def test_what_accepts_and_ends_is_unavailable(
        self, proxy: Proxy, redis: Redis, open_store: Open
    ) -> None:
        store = open_store(proxy.url, name="headrace:test")  # so that it greets before it asks
        proxy.fail_next("cut")
        with pytest.raises(StoreUnavailable) as caught:
            store.run(op.enqueue(K, [A]))
        assert not caught.value.may_have_happened
        assert check(redis).pending == []
        assert store.run(op.enqueue(K, [A])).word == "ok"

    def test_what_accepts_and_is_silent_is_unavailable_after_the_timeout(
        self, open_store: Open
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            store = open_store(url, name="headrace:test", timeout_s=0.05)
            with pytest.raises(StoreUnavailable):
                store.run(echo("1"))

    def test_a_server_that_loads_refuses_each_request_of_a_trip(self, open_store: Open) -> None:
        loading = b"-LOADING Redis is loading the dataset in memory\r\n"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            store = open_store(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
            answered = threading.Event()

            def refuse() -> None:
                with listener.accept()[0] as peer:
                    peer.recv(1 << 16)
                    peer.sendall(3 * loading)
                    answered.wait()

            thread = threading.Thread(target=refuse)
            thread.start()
            try:
                answers = store.run_all([echo("1"), echo("2"), echo("3")])
            finally:
                answered.set()
                thread.join()
        assert [type(answer) for answer in answers] == [StoreRefused] * 3

    @LOOPS
    def test_a_connection_that_was_reset_is_unavailable_on_every_loop(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        async def ask(store: AsyncStore, listener: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            asked = asyncio.create_task(store.run(echo("1")))
            peer, _ = await loop.sock_accept(listener)
            with peer:
                await loop.sock_recv(peer, 1 << 16)
                await loop.sock_sendall(peer, b"$1\r\n1\r\n")
                assert await asked == b"1"
                reset_at_close(peer)
            [(connection, _)] = store.server.nodes()[0].idle
            writer = connection._writer
            assert writer
            await await_until(writer.transport.is_closing)
            with pytest.raises(StoreError):
                await store.run(echo("2"))
            await store.close()

        run_with_a_peer(ask, new_loop)

    @LOOPS
    def test_a_connection_that_is_reset_while_it_is_made_is_unavailable_on_every_loop(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        async def greet(connection: Connection) -> None:
            assert connection._writer
            await await_until(connection._writer.transport.is_closing)
            await connection.send_command("ROLE")

        async def ask(store: AsyncStore, listener: socket.socket) -> None:
            store.address._options["redis_connect_func"] = greet
            asked = asyncio.create_task(store.run(echo("1")))
            peer, _ = await asyncio.get_running_loop().sock_accept(listener)
            with peer:
                reset_at_close(peer)
            with pytest.raises(StoreUnavailable):
                await asked
            await store.close()

        run_with_a_peer(ask, new_loop)


class TestReplyLost:
    def lose(self, store: OpenStore, *operations: Operation[Any]) -> None:
        with pytest.raises(ReplyLost, match=f"the answer to {operations[0].name}.* from") as caught:
            store.run_all(operations)
        assert caught.value.may_have_happened

    def test_a_request_that_was_cut_is_not_sent_again(
        self, proxy: Proxy, redis: Redis, open_store: Open
    ) -> None:
        store = open_store(proxy.url)
        store.run(op.enqueue(K, [A]))
        proxy.fail_next("cut")
        self.lose(store, op.enqueue(K, [B]))
        assert check(redis).pending == [A]

    def test_a_request_whose_answer_was_lost_happened_once(
        self, proxy: Proxy, redis: Redis, open_store: Open
    ) -> None:
        store = open_store(proxy.url)
        store.run(op.enqueue(K, [A]))
        proxy.fail_next("swallow")
        self.lose(store, op.enqueue(K, [B]), op.enqueue(K, [C]))
        assert check(redis).pending == [C, B, A]

    def test_an_answer_that_never_comes_is_lost_after_the_timeout(
        self, proxy: Proxy, redis: Redis, open_store: Open
    ) -> None:
        store = open_store(proxy.url, timeout_s=bound(0.1))
        insist(store, op.enqueue(K, [A]))  # so that its script is known
        proxy.fail_next("hold")
        self.lose(store, op.enqueue(K, [B]))
        assert check(redis).pending == [B, A]

    def test_an_answer_within_the_timeout_is_waited_for(
        self, proxy: Proxy, open_store: Open
    ) -> None:
        store = open_store(proxy.url, timeout_s=WAIT_S)
        proxy.delay_s = 0.05
        assert store.run(echo("1")) == b"1"

    @pytest.mark.parametrize("fault", ["cut", "swallow", "hold"])
    def test_the_next_call_has_a_connection_of_its_own_and_its_own_answer(
        self, proxy: Proxy, open_store: Open, fault: Fault
    ) -> None:
        store = open_store(proxy.url, timeout_s=bound(0.1) if fault == "hold" else WAIT_S)
        insist(store, echo("1"))
        before = proxy.connections
        proxy.fail_next(fault)
        self.lose(store, echo("lost"))
        assert insist(store, echo("2"), echo("3")) == [b"2", b"3"]
        # With a timeout as short as that, it may have taken more than one try.
        assert proxy.connections == before + 1 or (fault == "hold" and proxy.connections > before)

    def test_a_lost_answer_to_a_blocking_move_moved_one_job(
        self, proxy: Proxy, redis: Redis, open_store: Open
    ) -> None:
        store = open_store(proxy.url)
        store.run(op.enqueue(K, [A, B]))
        proxy.fail_next("swallow")
        self.lose(store, op.blocking_move(K, 1))
        assert check(redis, bare=1).processing == [A]
