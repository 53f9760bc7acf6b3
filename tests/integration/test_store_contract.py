"""What both stores promise: the one that blocks, and the one that is awaited."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import uvloop
from redis import Redis
from redis.asyncio.connection import Connection

from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.errors import ReplyLost, StoreError, StoreRefused, StoreUnavailable
from headrace.flows import Flow
from headrace.keys import keys_of
from headrace.operations import Operation, command
from headrace.store import AsyncStore, Store, exchange
from tests.support.invariants import check
from tests.support.proxy import Fault, Proxy, proxied
from tests.support.servers import private_server
from tests.support.wait import WAIT_S, await_until, bound, wait_until

R = TypeVar("R")

K = keys_of("queue")
A, B, C = (b'{"id":"%b","task":"t"}' % name for name in (b"a", b"b", b"c"))
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
PASSWORD = "s3cret"
USER_PASSWORD = "0ther"


def named(redis: Redis, name: str) -> int:
    """Count the connections of this name."""
    return sum(client["name"] == name for client in redis.client_list())


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


class AnyStore(Protocol):
    def run(self, operation: Operation[R]) -> R: ...
    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]: ...
    def follow(self, flow: Flow[R]) -> R: ...
    def close(self) -> None: ...


class Looped:
    """An ``AsyncStore`` on a loop of its own, called as the other one is."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._store = AsyncStore(url, **options)

    def run(self, operation: Operation[R]) -> R:
        return self._run(self._store.run(operation))

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        return self._run(self._store.run_all(operations))

    def follow(self, flow: Flow[R]) -> R:
        return self._run(self._store.follow(flow))

    def close(self) -> None:
        self._run(self._store.close())
        self._runner.close()

    def _run(self, call: Coroutine[Any, Any, R]) -> R:
        async def turned() -> R:
            for _ in range(3):  # between two calls a program's loop turns, and sees what has closed
                await asyncio.sleep(0)
            return await call

        return self._runner.run(turned())


Open = Callable[..., AnyStore]


@pytest.fixture(params=[Store, Looped], ids=["sync", "async"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Give what opens a store; all that were opened are closed in the end."""
    opened: list[AnyStore] = []

    def open_one(url: str, **options: Any) -> AnyStore:
        opened.append(request.param(url, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(url: str, open_store: Open) -> AnyStore:
    return open_store(url)


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with proxied(url) as proxy:
        yield proxy


@pytest.fixture
def closed_url() -> Iterator[str]:
    """Give a URL where nothing listens, and keep it so: bound, a port is nobody else's."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{holder.getsockname()[1]}/0"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Start a server that wants a password, with a user ``worker`` who may not touch ``secret``."""
    with private_server(tmp_path_factory.mktemp("guarded")) as server:
        with Redis(port=server.port) as redis:
            redis.acl_setuser(
                *("worker", True, False, [f"+{USER_PASSWORD}"]),
                categories=["+@all"],
                keys=["queue*", "headrace:*"],
            )
            redis.config_set("requirepass", PASSWORD)
        yield server


def echo(text: str) -> Operation[bytes]:
    return command("ECHO", text, parse=lambda raw: raw)


def client_id() -> Operation[int]:
    return command("CLIENT", "ID", parse=int)


def with_password(server: EmbeddedServer, credentials: str) -> str:
    return server.url.replace("//", f"//{credentials}@")


class TestAnswers:
    def test_an_operation_is_run_and_its_answer_parsed(self, store: AnyStore) -> None:
        assert store.run(op.enqueue(K, [A])) == op.Enqueued("ok")
        claimed = store.run(op.claim(K, 1, lease_ms=60_000, consumer="c", first=1))
        assert claimed.jobs == [A]

    def test_operations_of_one_trip_are_answered_in_their_order(self, store: AnyStore) -> None:
        answers = store.run_all([echo("1"), op.enqueue(K, [A]), echo("2"), op.snapshot(K)])
        assert answers[:3] == [b"1", op.Enqueued("ok"), b"2"]
        assert answers[3].pending == 1

    def test_a_large_answer_and_a_large_request_come_through(self, store: AnyStore) -> None:
        large = "x" * 3_000_000
        assert store.run_all([echo(large), echo("1")]) == [large.encode(), b"1"]

    def test_an_error_is_raised(self, store: AnyStore, redis: Redis) -> None:
        redis.set(K.pending, "no list")
        with pytest.raises(StoreRefused, match=r"Redis refused snapshot: .*WRONGTYPE") as caught:
            store.run(op.snapshot(K))
        assert not caught.value.may_have_happened
        assert caught.value.__cause__ is not None

    def test_an_error_of_many_stands_in_its_place(self, store: AnyStore, redis: Redis) -> None:
        redis.set(K.dead, "no list")
        answers = store.run_all([echo("1"), op.snapshot(K), op.enqueue(K, [A]), echo("2")])
        assert isinstance(answers[1], StoreRefused)
        assert [answers[0], *answers[2:]] == [b"1", op.Enqueued("ok"), b"2"]

    def test_a_connection_is_used_again_after_an_error(self, store: AnyStore) -> None:
        before = store.run(client_id())
        with pytest.raises(StoreRefused):
            store.run(command("NO-SUCH-COMMAND", parse=bool))
        assert store.run(client_id()) == before

    def test_connections_bear_the_stores_name(
        self, url: str, redis: Redis, open_store: Open
    ) -> None:
        open_store(url, name="headrace:test").run(echo("1"))
        assert "headrace:test" in {client["name"] for client in redis.client_list()}

    def test_a_closed_store_can_be_used_again(self, url: str) -> None:
        store = Store(url)
        assert store.run(echo("1")) == b"1"
        store.close()
        assert store.run(echo("2")) == b"2"
        store.close()


class TestScripts:
    def test_a_script_that_the_server_does_not_know_is_loaded(
        self, store: AnyStore, redis: Redis
    ) -> None:
        redis.script_flush()
        assert store.run(op.enqueue(K, [A])) == op.Enqueued("ok")
        assert check(redis).pending == [A]

    def test_in_a_pipeline_only_what_was_not_run_is_sent_again(
        self, store: AnyStore, redis: Redis
    ) -> None:
        redis.script_flush()
        redis.script_load(op.enqueue(K, []).script.source)  # type: ignore[union-attr]
        answers = store.run_all(
            [
                *(op.enqueue(K, [A]), op.pause(K, paused=True), echo("1")),
                *(op.enqueue(K, [B]), op.pause(K, paused=True), op.snapshot(K)),
            ]
        )
        assert answers[:5] == [op.Enqueued("ok"), True, b"1", op.Enqueued("ok"), False]
        assert answers[5].pending == 2
        assert check(redis).pending == [B, A]

    def test_a_flush_between_two_calls_is_not_noticed(self, store: AnyStore, redis: Redis) -> None:
        for job in (A, B, C):
            store.run(op.enqueue(K, [job]))
            redis.script_flush()
        assert check(redis).pending == [C, B, A]

    def test_a_script_that_fails_after_it_was_loaded_is_an_error(
        self, store: AnyStore, redis: Redis
    ) -> None:
        redis.set(K.dead, "no list")
        redis.script_flush()
        first, second = store.run_all([op.snapshot(K), op.enqueue(K, [A])])
        assert isinstance(first, StoreRefused)
        assert second == op.Enqueued("ok")


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
            [(connection, _)] = store._idle
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
            store._address._options["redis_connect_func"] = greet
            asked = asyncio.create_task(store.run(echo("1")))
            peer, _ = await asyncio.get_running_loop().sock_accept(listener)
            with peer:
                reset_at_close(peer)
            with pytest.raises(StoreUnavailable):
                await asked
            await store.close()

        run_with_a_peer(ask, new_loop)


class TestReplyLost:
    def lose(self, store: AnyStore, *operations: Operation[Any]) -> None:
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
        store.run(op.enqueue(K, [A]))
        proxy.fail_next("hold")
        self.lose(store, op.enqueue(K, [B]))
        assert check(redis).pending == [B, A]

    def test_an_answer_within_the_timeout_is_waited_for(
        self, proxy: Proxy, open_store: Open
    ) -> None:
        store = open_store(proxy.url, timeout_s=WAIT_S)
        proxy.delay_s = 0.05
        assert store.run(echo("1")) == b"1"

    def test_the_next_call_has_a_connection_of_its_own_and_its_own_answer(
        self, proxy: Proxy, open_store: Open
    ) -> None:
        store = open_store(proxy.url, timeout_s=bound(0.1))
        store.run(echo("1"))
        faults: tuple[Fault, ...] = ("cut", "swallow", "hold")
        for fault in faults:
            proxy.fail_next(fault)
            self.lose(store, echo("lost"))
            assert store.run_all([echo("2"), echo("3")]) == [b"2", b"3"]
        assert proxy.connections == 4

    def test_a_lost_answer_to_a_blocking_move_moved_one_job(
        self, proxy: Proxy, redis: Redis, open_store: Open
    ) -> None:
        store = open_store(proxy.url)
        store.run(op.enqueue(K, [A, B]))
        proxy.fail_next("swallow")
        self.lose(store, op.blocking_move(K, 1))
        assert check(redis, bare=1).processing == [A]


class TestIdle:
    def test_a_connection_that_was_closed_meanwhile_is_replaced(
        self, store: AnyStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = store.run(client_id())
        redis.client_kill_filter(_id=str(before))
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", 0)
        assert store.run(op.enqueue(K, [A])).word == "ok"
        assert store.run(client_id()) != before
        assert check(redis).pending == [A]

    def test_one_that_lives_is_kept(self, store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exchange, "IDLE_CHECK_S", 0)
        assert len({store.run(client_id()) for _ in range(5)}) == 1

    def test_one_used_a_moment_ago_is_not_looked_at(self, store: AnyStore, redis: Redis) -> None:
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


class TestPasswords:
    def test_no_error_shows_a_password_of_the_urls_options(
        self, closed_url: str, open_store: Open
    ) -> None:
        store = open_store(f"{closed_url}?username=worker&password={PASSWORD}")
        with pytest.raises(StoreUnavailable) as caught:
            store.run(echo("1"))
        assert PASSWORD not in str(caught.value)

    @pytest.mark.parametrize("credentials", [f":{PASSWORD}", f"worker:{USER_PASSWORD}"])
    def test_the_urls_user_and_password_are_used(
        self, guarded: EmbeddedServer, open_store: Open, credentials: str
    ) -> None:
        store = open_store(with_password(guarded, credentials))
        assert store.run(op.snapshot(K)).pending == 0

    @pytest.mark.parametrize("credentials", [":wr0ng", "worker:wr0ng", "nobody:wr0ng"])
    def test_a_wrong_one_is_refused_with_what_to_do(
        self, guarded: EmbeddedServer, open_store: Open, credentials: str
    ) -> None:
        store = open_store(with_password(guarded, credentials))
        with pytest.raises(StoreRefused, match="redis://user:password@host") as caught:
            store.run(op.snapshot(K))
        assert "wr0ng" not in str(caught.value)
        assert not caught.value.may_have_happened

    def test_none_where_one_is_wanted_is_refused_with_what_to_do(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        with pytest.raises(StoreRefused, match="redis://user:password@host"):
            open_store(guarded.url).run(op.queues())

    def test_none_where_a_script_is_called_is_refused_with_what_to_do(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        with pytest.raises(StoreRefused, match="redis://user:password@host"):
            open_store(guarded.url).run(op.snapshot(K))

    def test_what_a_user_may_not_do_is_refused(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        store = open_store(with_password(guarded, f"worker:{USER_PASSWORD}"))
        with pytest.raises(StoreRefused, match="permission"):
            store.run(op.snapshot(keys_of("secret")))

    def test_no_error_shows_a_password(self, closed_url: str, open_store: Open) -> None:
        store = open_store(closed_url.replace("//", f"//worker:{PASSWORD}@"))
        with pytest.raises(StoreUnavailable) as caught:
            store.run(echo("1"))
        assert PASSWORD not in str(caught.value)
        assert "worker" not in str(caught.value)
        assert "redis://127.0.0.1" in str(caught.value)

    def test_no_error_shows_a_password_when_an_answer_is_lost(
        self, guarded: EmbeddedServer, open_store: Open
    ) -> None:
        with proxied(with_password(guarded, f":{PASSWORD}")) as proxy:
            url = proxy.url.replace("//", f"//:{PASSWORD}@")
            store = open_store(url)
            store.run(echo("1"))
            proxy.fail_next("cut")
            with pytest.raises(ReplyLost) as caught:
                store.run(echo("2"))
            assert PASSWORD not in str(caught.value)


class TestBlocking:
    def test_redis_may_block_for_longer_than_an_answer_may_take(
        self, url: str, open_store: Open
    ) -> None:
        # An idle server looks at its clock ten times a second: an answer may come 0.1 s late.
        store, wait_s = open_store(url, timeout_s=bound(0.2)), bound(0.25)
        requests: list[Operation[Any]] = [echo("1"), op.await_nudge([K.nudge], wait_s)]
        assert store.run(op.blocking_move(K, wait_s)) is None
        assert store.run_all(requests) == [b"1", False]  # the longest of a trip decides

    def test_the_next_call_has_the_usual_timeout_again(
        self, proxy: Proxy, open_store: Open
    ) -> None:
        store = open_store(proxy.url, timeout_s=bound(0.1))
        store.run(op.blocking_move(K, 0.01))
        proxy.fail_next("hold")
        with pytest.raises(ReplyLost):
            store.run(echo("1"))

    def test_what_comes_meanwhile_is_answered(
        self, store: AnyStore, redis: Redis, url: str
    ) -> None:
        def push() -> None:
            with Redis.from_url(url) as pusher:
                wait_until(lambda: pusher.info("clients")["blocked_clients"] == 1)
                pusher.lpush(K.pending, A)

        pushing = threading.Thread(target=push, name="pusher")
        pushing.start()
        assert store.run(op.blocking_move(K, WAIT_S)) == A
        pushing.join()
        check(redis, foreign=1, bare=1)


class TestFlows:
    def test_a_flow_is_driven_to_its_end(self, store: AnyStore) -> None:
        def flow() -> Flow[list[Any]]:
            one = yield echo("1")
            two, three = yield [echo("2"), echo("3")]
            return [one, two, three]

        assert store.follow(flow()) == [b"1", b"2", b"3"]

    def test_a_flow_without_a_step_ends(self, store: AnyStore) -> None:
        def flow() -> Flow[str]:
            yield from ()
            return "end"

        assert store.follow(flow()) == "end"

    def test_failures_are_raised_inside_it(self, store: AnyStore) -> None:
        def flow() -> Flow[bytes]:
            try:
                yield command("NO-SUCH-COMMAND", parse=bool)
            except StoreRefused:
                answer: bytes = yield echo("recovered")
                return answer
            raise AssertionError("it was not refused")

        assert store.follow(flow()) == b"recovered"

    def test_failures_of_many_stand_in_their_places(self, store: AnyStore) -> None:
        def flow() -> Flow[list[Any]]:
            answers: list[Any] = yield [command("NO-SUCH-COMMAND", parse=bool), echo("1")]
            return answers

        refused, answer = store.follow(flow())
        assert isinstance(refused, StoreRefused)
        assert answer == b"1"

    def test_a_lost_connection_is_raised_inside_a_step_of_many_too(
        self, closed_url: str, open_store: Open
    ) -> None:
        def flow() -> Flow[str]:
            try:
                yield [echo("1")]
            except StoreUnavailable:
                return "caught"
            raise AssertionError("it was available")

        assert open_store(closed_url).follow(flow()) == "caught"

    def test_failures_that_it_does_not_catch_come_out(self, store: AnyStore) -> None:
        def flow() -> Flow[None]:
            yield command("NO-SUCH-COMMAND", parse=bool)

        with pytest.raises(StoreError):
            store.follow(flow())


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
