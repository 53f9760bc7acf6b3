"""One look tells what listens at an address, or says what is wrong with it and what to do."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from redis import Redis

from headrace.embedded import EmbeddedServer
from headrace.errors import InvalidSetting, StoreRefused, StoreUnavailable, StoreUnsuitable
from headrace.store.probe import probe
from tests.support.servers import private_server
from tests.support.wait import wait_until

PASSWORD = "s3cret"


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[str]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="stub")
        thread.start()
        try:
            assert isinstance(server, socketserver.TCPServer)
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
            thread.join()


class SilentHTTP(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def old_server(info: str) -> socketserver.TCPServer:
    """Speak as a server whose INFO is such: no stand-in for the store, but one to be turned away."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while header := self.rfile.readline():
                words = [self.word() for _ in range(int(header[1:]))]
                asked = words[0].upper() == b"INFO"
                reply = f"${len(info)}\r\n{info}\r\n" if asked else "-ERR unknown command\r\n"
                self.wfile.write(reply.encode())

        def word(self) -> bytes:
            return self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2]

    return socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def free_url() -> Iterator[str]:
    """Give a URL where nothing listens, and keep it so: bound, a port is nobody else's."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{holder.getsockname()[1]}/0"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Start a server that wants a password, which its own URL does not have."""
    with private_server(tmp_path / "data") as server:
        with Redis(port=server.port) as redis:
            redis.acl_setuser("watcher", enabled=True, passwords=f"+{PASSWORD}", commands=["+get"])
            redis.config_set("requirepass", PASSWORD)
        yield server


def test_a_server_says_what_it_is(server: EmbeddedServer, url: str) -> None:
    info = probe(url)
    assert info is not None
    assert (info.engine, info.version) == (server.engine.name, server.engine.version)
    assert (info.pid, info.port) == (server.pid, server.port)
    assert (info.aof_enabled, info.maxmemory_policy, info.loading) == (True, "noeviction", False)
    assert str(info) == str(server.engine)


def test_a_unix_socket_is_probed_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    # A socket's path may have 107 bytes, and that of tmp_path grows with the test's name.
    folder = tmp_path_factory.mktemp("s")
    with private_server(folder, extra_args=("--unixsocket", str(folder / "s"))) as server:
        info = probe(f"unix://{folder / 's'}")
        assert info is not None
        assert info.pid == server.pid


def test_nothing_listens(free_url: str, tmp_path: Path) -> None:
    assert probe(free_url) is None
    assert probe(free_url.replace("redis:", "rediss:")) is None
    assert probe(f"unix://{tmp_path / 'missing'}") is None


def test_a_host_without_an_address_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        probe("redis://no-such-host.invalid/0")


def test_an_http_server_is_unsuitable() -> None:
    with served(HTTPServer(("127.0.0.1", 0), SilentHTTP)) as url:
        with pytest.raises(StoreUnsuitable, match=r"does not speak as a Redis.*check the port"):
            probe(url)


def test_what_never_answers_is_unsuitable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(StoreUnsuitable, match=r"does not answer within 0\.05 s"):
            probe(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout_s=0.05)


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ("redis_version:6.2.14", "Redis 6.2.14"),
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.1.9", "Valkey 7.1.9"),
    ],
)
def test_an_old_server_is_named_and_unsuitable(info: str, found: str) -> None:
    with served(old_server(info)) as url:
        with pytest.raises(StoreUnsuitable, match=f"{found}, which is too old.*Redis >= 7.0"):
            probe(url)


def test_a_server_without_a_version_is_unsuitable() -> None:
    with served(old_server("uptime:3")) as url:
        with pytest.raises(StoreUnsuitable, match="does not say its version"):
            probe(url)


def test_the_right_password_opens(guarded: EmbeddedServer) -> None:
    assert probe(f"redis://:{PASSWORD}@127.0.0.1:{guarded.port}/0") is not None


def test_without_a_password_the_message_says_where_to_put_it(guarded: EmbeddedServer) -> None:
    with pytest.raises(StoreRefused, match=r"redis://USER:PASSWORD@HOST"):
        probe(guarded.url)


def test_a_wrong_password_is_refused_and_not_shown(guarded: EmbeddedServer) -> None:
    with pytest.raises(StoreRefused, match=r"does not let us in") as caught:
        probe(f"redis://:wrong-{PASSWORD}@127.0.0.1:{guarded.port}/0")
    assert PASSWORD not in str(caught.value)


def test_a_user_who_may_not_ask_is_told_what_to_grant(guarded: EmbeddedServer) -> None:
    with pytest.raises(StoreRefused, match=r"\+info") as caught:
        probe(f"redis://watcher:{PASSWORD}@127.0.0.1:{guarded.port}/0")
    assert PASSWORD not in str(caught.value)


def test_a_database_that_is_not_there_is_refused(url: str) -> None:
    with pytest.raises(StoreRefused, match="out of range"):
        probe(url.removesuffix("/0") + "/9999")


@pytest.mark.parametrize("option", ["db=x", "no_such_option=1"])
def test_an_option_without_meaning_is_refused_and_not_shown(free_url: str, option: str) -> None:
    with pytest.raises(InvalidSetting, match="is not understood.*options") as caught:
        probe(f"{free_url}?{option}")
    assert option not in str(caught.value)


def test_a_password_that_breaks_the_url_is_not_shown() -> None:
    with pytest.raises(InvalidSetting, match="%2F") as caught:
        probe(f"redis://:{PASSWORD}/tail@host/0")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__  # nor in a traceback


def test_a_server_that_loads_its_data_says_so(tmp_path: Path) -> None:
    slowly = (
        *("--key-load-delay", "2000"),  # microseconds a key
        *("--loading-process-events-interval-bytes", "1024"),  # how often it answers meanwhile
    )
    with private_server(tmp_path / "data", extra_args=slowly) as server:
        with Redis(port=server.port, decode_responses=True) as redis:
            redis.mset({f"key:{i}": "x" * 100 for i in range(200)})
            redis.bgrewriteaof()  # into the part of the file where the delay works
            wait_until(lambda: not redis.info()["aof_rewrite_in_progress"], what="rewritten")
        server.stop()
        restarting = threading.Thread(target=server.restart, name="restart")
        restarting.start()
        try:
            wait_until(lambda: (info := probe(server.url)) and info.loading, what="it says so")
        finally:
            restarting.join()
        info = probe(server.url)
        assert info is not None
        assert not info.loading  # restart waited for the end of it
