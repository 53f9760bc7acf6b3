"""A primary, its replicas and three Sentinels, all real: to be killed, failed over and brought back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace.embedded import EmbeddedServer
from headrace.embedded.server import _DIE_WITH_PARENT, HOST, free_port
from tests.support.servers import engine_under_test, private_server
from tests.support.wait import WAIT_S, bound, wait_until

T = TypeVar("T")

SERVICE = "headrace"

# A replica that connects is served at once, and not after 5 s in case there come others.
_QUICK_REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "10")
# Sentinels find one another in 2 s and look at servers every 10 s; a stalled machine makes them wait
# for 30 s (TILT). Tests have no such time. But a replica about which nothing was heard in five
# ping-periods is not chosen, and it is asked once a second.
_QUICK_SENTINELS = {
    "info-period": 200,
    "publish-period": 200,
    "ping-period": 400,
    "ask-period": 100,
    "tilt-period": 1_000,
    "min-link-reconnect-period": 200,
}


def _client(port: int) -> Redis:
    return Redis(
        port=port,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=bound(5),
        protocol=2,
    )


class Sentinel:
    """One Sentinel process.

    Attributes:
        port: its TCP port on 127.0.0.1.
    """

    def __init__(
        self,
        folder: Path,
        primary_port: int,
        *,
        quorum: int,
        times: dict[str, int],
        service: str = SERVICE,
    ) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {folder}",
            f"sentinel monitor {service} {HOST} {primary_port} {quorum}",
            *(f"sentinel {name} {service} {value}" for name, value in times.items()),
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        self._launch()

    def _launch(self) -> None:
        command = [str(engine_under_test().path), str(self._folder / "sentinel.conf"), "--sentinel"]
        if sys.platform == "linux":
            parent = str(os.getpid())
            command = [sys.executable, "-IS", "-c", _DIE_WITH_PARENT, parent, *command]
        with (self._folder / "sentinel.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._hurried, f"Sentinel on {self.port} answers: {self.said()}")

    def _hurried(self) -> bool:
        with suppress(redis.ConnectionError):
            self.ask(
                "SENTINEL", "DEBUG", *(word for pair in _QUICK_SENTINELS.items() for word in pair)
            )
            return True
        return False

    def ask(self, *words: Any) -> Any:
        """Run one command."""
        with _client(self.port) as client:
            return client.execute_command(*words)

    def state(self) -> dict[str, str]:
        """Give what it knows of the primary."""
        return _pairs(self.ask("SENTINEL", "MASTER", SERVICE))

    def said(self) -> str:
        return (self._folder / "sentinel.log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)

    def restart(self) -> None:
        """Start it again, on what it has written into its configuration."""
        self.kill()
        self._launch()


class SentinelGroup:
    """A service that fails over.

    Attributes:
        servers: the first primary, then the first replicas; who is what now, say the properties.
        sentinels: the Sentinels.
        url: how Headrace reaches the service.
    """

    def __init__(self, servers: Sequence[EmbeddedServer], sentinels: Sequence[Sentinel]) -> None:
        self.servers = list(servers)
        self.sentinels = list(sentinels)
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def primary(self) -> EmbeddedServer:
        """Whom the Sentinels name, dead or alive."""
        for sentinel in self.sentinels:
            with suppress(redis.ConnectionError):
                port = int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
                return next(server for server in self.servers if server.port == port)
        raise AssertionError("no Sentinel answers")

    @property
    def replicas(self) -> list[EmbeddedServer]:
        """All others, dead or alive."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def client(self, server: EmbeddedServer | None = None) -> Redis:
        """Give a plain client of a server, by default of the primary; the caller closes it."""
        return _client((server or self.primary).port)

    def role(self, server: EmbeddedServer) -> str:
        """Ask a server what it takes itself for: master or slave; "" when it does not answer."""
        with suppress(redis.ConnectionError, redis.TimeoutError), self.client(server) as client:
            return str(client.execute_command("ROLE")[0])
        return ""

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Have the Sentinels take nobody for dead: the primary is another only when somebody asks.

        Else a server that is busy for a moment, as one is that has just been promoted, is taken for
        dead, and a failover of their own undoes the one that was asked for.
        """
        with ExitStack() as stack:
            for sentinel in self.sentinels:
                words = ("SENTINEL", "SET", SERVICE, "down-after-milliseconds")
                stack.callback(sentinel.ask, *words, sentinel.state()["down-after-milliseconds"])
                sentinel.ask(*words, round(WAIT_S * 1_000))
            yield

    def failover(self, *, coordinated: bool = False) -> EmbeddedServer:
        """Have the Sentinels change the primary, as an operator would; give the new one.

        The old one has been demoted when this returns, and follows the new one.

        Args:
            coordinated: the primary hands over when its replica has everything. Valkey >= 9.
        """
        old = self.primary
        words = ["SENTINEL", "FAILOVER", SERVICE, *(["COORDINATED"] if coordinated else [])]

        def asked() -> bool:
            with suppress(redis.ResponseError):  # INPROG, or the replica is not good yet
                return bool(self.sentinels[0].ask(*words))
            return False

        self._wait(asked, "a failover can begin")
        new = self.await_new_primary(old)
        self._wait(lambda: self.role(old) == "slave", "the old primary is demoted")
        self.await_healthy()
        return new

    def await_new_primary(self, old: EmbeddedServer) -> EmbeddedServer:
        """Wait until all Sentinels name another primary, and it takes itself for one."""

        def named() -> EmbeddedServer | None:
            ports = set()
            for sentinel in self.sentinels:
                with suppress(redis.ConnectionError):
                    answer = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                    ports.add(int(answer[1]))
            new = self.primary
            agreed = ports == {new.port} and new is not old
            return new if agreed and self.role(new) == "master" else None

        new = self._wait(named, "there is a new primary")
        assert new is not None
        return new

    def restart(self, server: EmbeddedServer) -> None:
        """Start a server again: as a replica of the present primary, unless it is the primary.

        So would one whose configuration the Sentinels have rewritten.
        """
        primary = self.primary
        if server is not primary:
            server._args = _replica_args(server._args, primary.port)
        server.restart()

    def await_healthy(self) -> None:
        """Wait until every server that runs follows the primary, and all Sentinels see it so."""
        running = [server for server in self.servers if server.running]
        alive = [sentinel for sentinel in self.sentinels if sentinel.process.poll() is None]

        def healthy() -> bool:
            with suppress(redis.ConnectionError, redis.TimeoutError), self.client() as client:
                info = client.info("replication")
                linked = [
                    info[f"slave{i}"]["state"] == "online" for i in range(info["connected_slaves"])
                ]
                states = [sentinel.state() for sentinel in alive]
                good = [self._good_replicas(sentinel) for sentinel in alive]
                return (
                    info["role"] == "master"
                    and linked == [True] * (len(running) - 1)
                    and good == [len(running) - 1] * len(alive)
                    and all(state["flags"] == "master" for state in states)
                    and all(
                        int(s["num-other-sentinels"]) == len(self.sentinels) - 1 for s in states
                    )
                )
            return False

        self._wait(healthy, "the group is whole")

    def _wait(self, predicate: Callable[[], T], what: str) -> T:
        try:
            return wait_until(predicate)
        except AssertionError as error:
            logs = "\n".join(sentinel.said() for sentinel in self.sentinels)
            raise AssertionError(f"{error}. What the Sentinels said last:\n{logs}") from None

    def _good_replicas(self, sentinel: Sentinel) -> int:
        listed = map(_pairs, sentinel.ask("SENTINEL", "REPLICAS", SERVICE))
        good = [one for one in listed if one["flags"] == "slave"]
        return sum(one["master-link-status"] == "ok" for one in good)


def _pairs(listed: Any) -> dict[str, str]:
    return dict(listed) if isinstance(listed, dict) else dict(zip(listed[::2], listed[1::2]))


def _replica_args(args: Sequence[str], primary_port: int) -> tuple[str, ...]:
    at = args.index("--replicaof") if "--replicaof" in args else len(args)
    return (*args[:at], *args[at + 3 :], "--replicaof", HOST, str(primary_port))


@contextmanager
def sentinel_group(
    folder: Path,
    *,
    replicas: int = 1,
    sentinels: int = 3,
    down_after_ms: int = round(bound(350)),
    failover_timeout_ms: int = round(bound(700)),
    server_args: Sequence[str] = (),
    **options: Any,
) -> Iterator[SentinelGroup]:
    """Run a primary, replicas and Sentinels; they are whole when the block begins, gone when it ends.

    Args:
        folder: where all of them write; it must exist.
        replicas: how many.
        sentinels: how many; more than half of them must agree that a server is down.
        down_after_ms: how long a server may be silent. With less, a busy machine makes a new
            primary look dead, and the next failover undoes the last.
        failover_timeout_ms: how long a failover may take; the next one waits twice as long.
        server_args: more options of all servers, as ``--min-replicas-to-write 1``.
        options: as of ``EmbeddedServer.start``, for all servers.
    """
    extra = (*_QUICK_REPLICATION, *server_args)
    with ExitStack() as stack:
        servers: list[EmbeddedServer] = []
        for number in range(1 + replicas):
            args = _replica_args(extra, servers[0].port) if servers else extra
            server = private_server(folder / f"server-{number}", extra_args=args, **options)
            stack.callback(server.kill)
            servers.append(server)
        times = {"down-after-milliseconds": down_after_ms, "failover-timeout": failover_timeout_ms}
        running = []
        for number in range(sentinels):
            place = folder / f"sentinel-{number}"
            quorum = sentinels // 2 + 1
            running.append(Sentinel(place, servers[0].port, quorum=quorum, times=times))
            stack.callback(running[-1].kill)
        group = SentinelGroup(servers, running)
        group.await_healthy()
        yield group
