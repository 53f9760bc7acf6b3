"""The embedded server is a real one: it keeps what it was told, whoever dies, and says what is wrong."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from headrace.embedded import EmbeddedServer, ensure_server, find_engine
from headrace.embedded.directory import LOCK, MARKER, read_marker
from headrace.embedded.engine import Engine, Release, engine_at, engine_in_wheel
from headrace.embedded.server import PRIVATE_PORTS, free_port
from headrace.errors import EmbeddedServerError, StoreError, StoreUnavailable, StoreUnsuitable
from headrace.settings import RedisUrl
from headrace.store.probe import probe
from tests.support.servers import engine_under_test, private_server
from tests.support.wait import wait_until


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def own_server(data_dir: Path) -> Iterator[EmbeddedServer]:
    server = private_server(data_dir)
    yield server
    server.kill()  # 100 ms faster than to ask it


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory which is all of the PATH."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(path: Path, says: str) -> Path:
    """Make a program that does nothing but say its version."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def default_url(port: int) -> RedisUrl:
    """Give the URL of which nobody spoke, but at a port of the test's own."""
    return RedisUrl(f"redis://127.0.0.1:{port}/0", given=False)


# Life and death


def all_is_written(redis: Redis) -> None:
    """Wait until what a server has answered is in its file: it waits where a sync is not over yet."""
    wait_until(lambda: not redis.info("persistence")["aof_buffer_length"], "all is written")


def test_it_answers_at_its_url_once_started(own_server: EmbeddedServer) -> None:
    with Redis.from_url(own_server.url) as redis:
        assert redis.ping()
    assert own_server.running
    assert own_server.port in PRIVATE_PORTS


def test_it_keeps_jobs_and_waits_with_new_ones_rather_than_drop_them(
    own_server: EmbeddedServer,
) -> None:
    with Redis.from_url(own_server.url, decode_responses=True) as redis:
        settings = redis.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }


def test_it_listens_on_one_loopback_address_only(own_server: EmbeddedServer) -> None:
    with Redis.from_url(own_server.url, decode_responses=True) as redis:
        assert redis.config_get("bind") == {"bind": "127.0.0.1"}
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", own_server.port), timeout=1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_another_address_than_loopback_is_refused(data_dir: Path, host: str) -> None:
    with pytest.raises(EmbeddedServerError, match=f"never on {host}"):
        EmbeddedServer.start(data_dir, host=host, port=0)
    assert not data_dir.exists()


def test_what_was_written_survives_kill_9_and_a_restart(own_server: EmbeddedServer) -> None:
    with Redis.from_url(own_server.url) as redis:
        redis.rpush("queue", *range(1_000))
        all_is_written(redis)
    first_pid, port = own_server.pid, own_server.port
    own_server.kill()
    own_server.restart()
    assert own_server.pid != first_pid
    assert own_server.port == port
    with Redis.from_url(own_server.url) as redis:
        assert redis.lrange("queue", 0, -1) == [str(i).encode() for i in range(1_000)]


def test_a_crash_while_the_file_is_rewritten_does_not_hinder_a_restart(data_dir: Path) -> None:
    slowly = ("--rdb-key-save-delay", "100000")  # microseconds a key: the child outlives the test
    with private_server(data_dir, extra_args=slowly) as server:
        with Redis.from_url(server.url) as redis:
            redis.mset({f"key:{i}": "" for i in range(1_000)})
            redis.bgrewriteaof()
            wait_until(lambda: redis.info("persistence")["aof_rewrite_in_progress"], what="child")
            all_is_written(redis)
        server.kill()
        server.restart()
        with Redis.from_url(server.url) as redis:
            assert redis.dbsize() == 1_000


def test_a_restart_of_a_running_server_keeps_its_data(own_server: EmbeddedServer) -> None:
    with Redis.from_url(own_server.url) as redis:
        redis.set("key", "value")
    own_server.restart()
    with Redis.from_url(own_server.url) as redis:
        assert redis.get("key") == b"value"


def test_a_stop_leaves_no_process_and_no_listener(data_dir: Path) -> None:
    with private_server(data_dir) as server:
        pass
    assert not server.running
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    assert probe(server.url) is None


def test_stop_and_kill_may_be_repeated(own_server: EmbeddedServer) -> None:
    own_server.stop()
    own_server.stop()
    own_server.kill()


def test_a_server_that_hangs_is_killed_after_the_timeout(
    own_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(own_server.pid, signal.SIGSTOP)
    own_server.stop(timeout_s=0.05)
    assert not own_server.running
    assert "did not end within 0.05 s" in caplog.text


def test_a_directory_with_spaces_and_none_of_its_parents_will_do(tmp_path: Path) -> None:
    with private_server(tmp_path / "not yet" / 'there "at all"') as server:
        assert (server.data_dir / "appendonlydir").is_dir()


# A program that starts one and is killed

STARTER = """
import sys
from pathlib import Path
from headrace.embedded import EmbeddedServer
from headrace.embedded.engine import engine_at
server = EmbeddedServer.start(
    Path(sys.argv[1]), port=0, engine=engine_at(Path(sys.argv[2])), die_with_parent=sys.argv[3] == "yes"
)
print(server.pid, server.url, flush=True)
sys.stdin.read()
"""


def start_and_be_killed(data_dir: Path, *, die_with_parent: bool) -> tuple[int, str]:
    """Start a server in a program of its own, kill that, and give the server's pid and URL."""
    with subprocess.Popen(
        [
            *(sys.executable, "-c", STARTER, str(data_dir), str(engine_under_test().path)),
            "yes" if die_with_parent else "no",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as starter:
        assert starter.stdout is not None
        pid, url = starter.stdout.readline().split()
        starter.kill()
    return int(pid), url


def test_it_outlives_its_starter_and_so_does_the_lock(data_dir: Path) -> None:
    pid, url = start_and_be_killed(data_dir, die_with_parent=False)
    try:
        info = probe(url)
        assert info is not None
        assert info.pid == pid
        with pytest.raises(EmbeddedServerError, match=f"process {pid}"):
            private_server(data_dir)
    finally:
        os.kill(pid, signal.SIGKILL)
    with private_server(data_dir):  # the lock file is still there, and nobody holds it
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_private_one_dies_with_its_starter(data_dir: Path) -> None:
    _, url = start_and_be_killed(data_dir, die_with_parent=True)

    def gone() -> bool:
        try:
            return probe(url) is None
        except StoreError:  # it dies while it is asked
            return False

    wait_until(gone, what="the server is gone")


# Two that want the same


def test_a_second_server_on_a_directory_is_refused_and_told_of_the_first(
    own_server: EmbeddedServer,
) -> None:
    with pytest.raises(EmbeddedServerError, match=f"in use .* process {own_server.pid}"):
        private_server(own_server.data_dir)


def test_a_stale_lock_file_is_no_obstacle(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / LOCK).write_text(f"{os.getpid()}\nand more than a pid\n")
    with private_server(data_dir) as server:
        assert (data_dir / LOCK).read_text() == f"{server.pid}\n"


def test_a_port_that_another_server_has_is_named(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    with pytest.raises(EmbeddedServerError, match=f":{own_server.port} .*has the port: end it"):
        private_server(tmp_path / "other", port=own_server.port)
    assert own_server.running


def test_a_port_that_a_plain_socket_has_is_named(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f":{port} .*has the port"):
            private_server(data_dir, port=port)


# What it cannot run on


def test_data_of_a_format_from_the_future_is_refused_with_advice(data_dir: Path) -> None:
    with private_server(data_dir) as server, Redis.from_url(server.url) as redis:
        redis.set("key", "value")
    (data_dir / MARKER).unlink()
    base = next((data_dir / "appendonlydir").glob("*.base.rdb"))
    magic = b"REDIS0999"
    base.write_bytes(magic + base.read_bytes()[len(magic) :])
    with pytest.raises(EmbeddedServerError, match="written by a newer server"):
        private_server(data_dir)
    assert read_marker(data_dir) is None


def test_damaged_data_is_refused_with_advice(data_dir: Path) -> None:
    with private_server(data_dir):
        pass
    base = next((data_dir / "appendonlydir").glob("*.base.rdb"))
    base.write_bytes(b"anything" + base.read_bytes()[8:])
    with pytest.raises(
        EmbeddedServerError, match=r"damaged(.|\n)*server\.log:\n(.|\n)*appendonly\.aof"
    ):
        private_server(data_dir)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"file/data cannot be used.*choose another"):
        private_server(tmp_path / "file" / "data")


def test_a_directory_that_cannot_be_written_is_named(data_dir: Path) -> None:
    (data_dir / LOCK).mkdir(parents=True)  # for root, whom permissions do not stop
    with pytest.raises(EmbeddedServerError, match="cannot be used"):
        private_server(data_dir)


def test_an_option_it_does_not_know_is_shown(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"ended with status 1(.|\n)*no-such-option"):
        private_server(data_dir, extra_args=("--no-such-option", "1"))


def test_a_failed_start_leaves_the_directory_free(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError):
        private_server(data_dir, extra_args=("--no-such-option", "1"))
    with private_server(data_dir):
        pass


def test_a_binary_that_does_not_run_is_named(data_dir: Path, tmp_path: Path) -> None:
    missing = Engine("valkey", (9, 0, 0), tmp_path / "missing")
    with pytest.raises(EmbeddedServerError, match=r"missing\) cannot run on"):
        private_server(data_dir, engine=missing, die_with_parent=False)


# Which engine


def test_the_wheel_serves_when_the_path_has_nothing(commands: Path) -> None:
    engine = find_engine()
    assert engine == engine_in_wheel()
    assert engine.path.name == "valkey-server"
    assert engine.name == "valkey"


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_server_on_the_path_comes_before_the_wheel(commands: Path, name: str) -> None:
    wheel = engine_in_wheel()
    assert wheel is not None
    (commands / name).symlink_to(wheel.path)
    assert find_engine() == Engine("valkey", wheel.version, commands / name)


def test_redis_comes_before_valkey_on_the_path(commands: Path) -> None:
    install(commands / "valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=libc bits=64")
    install(commands / "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0")
    assert str(find_engine()) == "Redis 7.0.15"


@pytest.mark.parametrize(
    "says", ["Redis server v=6.2.14 sha=0", "Valkey server v=7.1.0 sha=0", "no version", ""]
)
def test_a_server_on_the_path_that_will_not_do_is_passed_over(
    commands: Path, caplog: pytest.LogCaptureFixture, says: str
) -> None:
    caplog.set_level(logging.INFO, "headrace.embedded")
    path = install(commands / "redis-server", says)
    assert find_engine() == engine_in_wheel()
    assert f"{path} is passed over" in caplog.text


def test_valkey_7_2_is_known_though_it_does_not_say_its_name(commands: Path) -> None:
    path = install(commands / "valkey-server", "Server v=7.2.14 sha=00000000:0 malloc=jemalloc")
    assert str(engine_at(path)) == "Valkey 7.2.14"


def test_a_server_on_the_path_that_does_not_run_is_passed_over(commands: Path) -> None:
    path = commands / "redis-server"
    path.write_bytes(b"\x7fELF and then nothing")
    path.chmod(0o755)
    assert engine_at(path) is None
    assert find_engine() == engine_in_wheel()


def test_with_no_engine_at_all_the_message_says_what_to_install() -> None:
    with pytest.raises(EmbeddedServerError, match="apt install redis-server"):
        find_engine(among=())


def test_the_engine_that_wrote_the_data_comes_before_the_path(commands: Path) -> None:
    install(commands / "redis-server", "Redis server v=8.2.3 sha=00000000:0")
    wheel = engine_in_wheel()
    assert wheel is not None
    assert find_engine(Release("valkey", wheel.version)) == wheel


def test_a_later_release_of_the_engine_that_wrote_the_data_will_do(commands: Path) -> None:
    install(commands / "valkey-server", "Valkey server v=7.2.0 sha=00000000:0")
    # The one on the PATH is older than the data, the wheel's is not.
    assert find_engine(Release("valkey", (8, 0, 0))) == engine_in_wheel()


@pytest.mark.parametrize("version", [(7, 2, 0), (8, 0, 0)])
def test_data_of_a_newer_release_is_not_opened(
    commands: Path, version: tuple[int, int, int]
) -> None:
    install(commands / "redis-server", "Redis server v=7.0.15 sha=00000000:0")
    with pytest.raises(EmbeddedServerError, match=r"by Redis \d.*here is only Redis 7.0.15 and V"):
        find_engine(Release("redis", version))


def test_a_newer_last_number_is_no_obstacle(commands: Path) -> None:
    install(commands / "redis-server", "Redis server v=7.0.15 sha=00000000:0")
    assert find_engine(Release("redis", (7, 0, 99))).version == (7, 0, 15)


def test_a_directory_remembers_who_wrote_it(own_server: EmbeddedServer) -> None:
    assert read_marker(own_server.data_dir) == Release(
        own_server.engine.name, own_server.engine.version
    )


def test_a_directory_of_a_newer_engine_is_refused_and_left_alone(data_dir: Path) -> None:
    data_dir.mkdir()
    marker = '{"engine": "valkey", "version": "99.0.0"}'
    (data_dir / MARKER).write_text(marker)
    with pytest.raises(EmbeddedServerError, match=r"written by Valkey 99\.0\.0.*Install Valkey 99"):
        private_server(data_dir)
    assert [path.name for path in data_dir.iterdir()] == [MARKER]
    assert (data_dir / MARKER).read_text() == marker


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"engine": "kvrocks", "version": "1.2.3"}',
        '{"engine": "redis", "version": 7}',
        '{"engine": "redis", "version": "7.2"}',
    ],
)
def test_a_marker_that_makes_no_sense_is_named(data_dir: Path, text: str) -> None:
    data_dir.mkdir()
    (data_dir / MARKER).write_text(text)
    with pytest.raises(EmbeddedServerError, match=r"engine\.json cannot be understood"):
        private_server(data_dir)


# Is one needed?


def test_with_no_url_and_nothing_there_one_is_started_and_said(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headrace.embedded")
    port = free_port()
    server = ensure_server(default_url(port), data_dir)
    assert server is not None
    with server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        (said,) = [record.getMessage() for record in caplog.records if "started" in record.msg]
        assert f"at 127.0.0.1:{port}: started {server.engine} there" in said
        assert said.endswith(f"data in {data_dir.resolve()}")


def test_with_no_url_a_server_that_is_there_is_used(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    assert ensure_server(default_url(own_server.port), tmp_path / "unused") is None
    assert not (tmp_path / "unused").exists()


def test_with_no_url_something_else_at_the_port_is_unsuitable(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        hang_up = threading.Thread(target=lambda: other.accept()[0].close())
        hang_up.start()
        with pytest.raises(StoreUnsuitable):
            ensure_server(default_url(other.getsockname()[1]), data_dir)
        hang_up.join()
    assert not data_dir.exists()


def test_with_a_url_and_nothing_there_none_is_started(data_dir: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"redis://127.*Start a Redis there"):
        ensure_server(RedisUrl(f"redis://:s3cret@127.0.0.1:{free_port()}", given=True), data_dir)
    assert not data_dir.exists()


def test_with_a_url_the_server_there_is_used(own_server: EmbeddedServer, tmp_path: Path) -> None:
    assert ensure_server(RedisUrl(own_server.url, given=True), tmp_path / "unused") is None


def test_a_server_of_others_that_may_lose_jobs_is_warned_of(
    own_server: EmbeddedServer, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Redis.from_url(own_server.url) as redis:
        redis.config_set("appendonly", "no")
        redis.config_set("maxmemory-policy", "allkeys-lru")
    ensure_server(RedisUrl(own_server.url, given=True), data_dir)
    assert "keeps no append-only file" in caplog.text
    assert "maxmemory-policy is allkeys-lru" in caplog.text


@pytest.mark.parametrize("one_directory", [True, False])
def test_of_four_that_start_at_once_one_starts_it_and_all_may_use_it(
    tmp_path: Path, *, one_directory: bool
) -> None:
    url = default_url(free_port())
    together = threading.Barrier(4)

    def ensure(number: int) -> EmbeddedServer | None:
        together.wait()
        return ensure_server(url, tmp_path / ("all" if one_directory else str(number)))

    with ThreadPoolExecutor(4) as pool:
        started = [server for server in pool.map(ensure, range(4)) if server]
    try:
        assert len(started) == 1
        info = probe(url.url)
        assert info is not None
        assert info.pid == started[0].pid
    finally:
        for server in started:
            server.stop()
