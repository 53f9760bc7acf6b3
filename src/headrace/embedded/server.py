"""The server process: started, waited for, stopped, killed, started again."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Literal, Self

from headrace.clock import monotonic
from headrace.embedded.directory import (
    LOG,
    TakenError,
    locked,
    made,
    read_marker,
    tighten,
    write_marker,
)
from headrace.embedded.engine import Engine, find_engine
from headrace.errors import EmbeddedServerError, StoreError
from headrace.store.probe import probe

HOST = "127.0.0.1"
PORT = 6379

START_S = 10.0  # a start takes 35 ms; a machine under load may take a hundred times that
# Each look at the starting server waits so long for its answer: when the port is someone else's who
# does not answer, this is how long we take to notice that ours has ended.
LOOK_S = 0.5
# Below the ports that systems give to outgoing connections (32768 and up). In there, a client that
# tries to reach a stopped server again and again is in the end given its target as its own port,
# connects to itself, and keeps the server from coming back.
PRIVATE_PORTS = range(20_000, 32_000)

# Anybody on this machine reaches a server on loopback: what Headrace and redis-cli need to work with
# queues, and nothing that administers the server, its other users or its files.
HARDENED = (
    *("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-@admin", "-@dangerous"),
    *("+info", "+role", "+keys", "+client|list", "+client|kill", "+client|unblock", "+config|get"),
    *("--enable-protected-configs", "no", "--enable-module-command", "no"),
    *("--enable-debug-command", "no"),
)

# exec keeps the pid, so what we start is the server. The parent may have died before prctl.
_DIE_WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

logger: logging.Logger = logging.getLogger("headrace.embedded")


class PortTakenError(TakenError):
    """The port has another server."""


_OTHER_WRITER = (
    "The data was written by a newer server, or by one of another make: install that one, or choose "
    "another data directory for an empty queue."
)
_DAMAGED = (
    "The data is damaged, or was written by a server of another make: install that one, repair it "
    "as said below, or choose another data directory for an empty queue."
)
_NO_WRITING = "It may not write its data there: choose another data directory."
_PORT_TAKEN = "Another program has the port: end it or, if it is a Redis, give its URL."
# What a server says as it gives up, and what to do then.
_CAUSES: dict[str, tuple[type[EmbeddedServerError], str]] = {
    "Address already in use": (PortTakenError, _PORT_TAKEN),
    "RDB format version": (EmbeddedServerError, _OTHER_WRITER),
    "Bad file format": (EmbeddedServerError, _DAMAGED),
    "Permission denied": (EmbeddedServerError, _NO_WRITING),
    "Read-only file system": (EmbeddedServerError, _NO_WRITING),
}
_UNKNOWN_CAUSE = (EmbeddedServerError, "What it said last may tell why.")


class EmbeddedServer:
    """A server process that we started; stop it, or leave it to whoever comes next.

    Attributes:
        data_dir: where its data, its log and its lock are.
        port: the TCP port on 127.0.0.1.
        engine: the binary it runs.
        url: how to reach it.
        scheme: what that begins with.
    """

    scheme: ClassVar[str] = "redis"

    def __init__(
        self,
        data_dir: Path,
        engine: Engine,
        port: int,
        args: Sequence[str],
        *,
        die_with_parent: bool,
    ) -> None:
        self.data_dir = data_dir
        self.engine = engine
        self.port = port
        self.url: str = f"{self.scheme}://{HOST}:{port}/0"
        self._args = args
        self._die_with_parent = die_with_parent
        self._process = self._launch()

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        host: str = HOST,
        port: int = PORT,
        appendfsync: Literal["always", "everysec", "no"] = "everysec",
        extra_args: Sequence[str] = (),
        engine: Engine | None = None,
        die_with_parent: bool = False,
        hardened: bool = False,
    ) -> Self:
        """Start a server on ``data_dir`` and wait until it answers, its data loaded.

        Args:
            data_dir: its directory, made if missing.
            host: 127.0.0.1; there is no choice, for the server has no password.
            port: its TCP port; 0 for a free one.
            appendfsync: when a write is on disk: before its reply, each second, or when the system
                likes.
            extra_args: more of the server's own options; no password.
            engine: the binary; None to choose one.
            die_with_parent: kill the server when this process ends, however it ends. Linux only,
                and only from the main thread (the system takes the end of the starting thread for
                that of the process); ignored elsewhere.
            hardened: let nobody administer it: for servers that run beside other users.

        Raises:
            EmbeddedServerError: it cannot start here; the message says why and what to do.
        """
        if host not in {HOST, "localhost"}:
            raise EmbeddedServerError(
                f"The embedded server has no password, so it listens on {HOST} and never on {host}. "
                "Run a Redis of your own there and give its URL."
            )
        data_dir = made(data_dir)
        engine = find_engine(read_marker(data_dir), (engine,) if engine else None)
        args = ("--appendfsync", appendfsync, *extra_args, *(HARDENED if hardened else ()))
        while True:
            try:
                return cls(
                    data_dir, engine, port or free_port(), args, die_with_parent=die_with_parent
                )
            except PortTakenError:
                if port:
                    raise

    @property
    def pid(self) -> int:
        """The server's process id, also when it has ended."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask the server to end, and wait until it has; kill it after ``timeout_s`` seconds."""
        if not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logger.warning("server %d did not end within %g s: killed", self.pid, timeout_s)
            self.kill()

    def kill(self) -> None:
        """Kill the server and the children that write its files, as a crash would."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)  # it leads its own session, so the group is its own
            self._process.wait()

    def restart(self) -> None:
        """Start it again on the same port and directory; stop it before, if it runs.

        Raises:
            EmbeddedServerError: it cannot start again.
        """
        self.stop()
        self._process = self._launch()

    def __str__(self) -> str:
        """Return the engine and its version, as people write them."""
        return str(self.engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        lock = locked(self.data_dir)
        try:
            with (self.data_dir / LOG).open("ab") as log:
                log_start = log.tell()
                process = self._spawn(lock, log)
                try:
                    os.write(lock, b"%d\n" % process.pid)
                    self._await_ready(process, log_start)
                    write_marker(self.data_dir, self.engine)
                    tighten(self.data_dir)
                except BaseException:
                    process.kill()
                    process.wait()
                    raise
        except OSError as error:
            raise EmbeddedServerError(
                f"{self.engine} ({self.engine.path}) cannot run on {self.data_dir}: {error}"
            ) from error
        finally:
            os.close(lock)  # the server has its own copy, and with it the lock
        return process

    def _spawn(self, lock: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  a binary we chose, options of our own
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            umask=0o077,
            start_new_session=True,  # Ctrl-C in our terminal is for us to hand on
        )

    def _command(self) -> list[str]:
        command = [
            *(str(self.engine.path), "--bind", HOST, "--port", str(self.port)),
            *("--dir", str(self.data_dir), "--daemonize", "no", "--save", ""),
            *("--appendonly", "yes", "--maxmemory-policy", "noeviction", *self._args),
        ]
        on_main_thread = threading.current_thread() is threading.main_thread()
        if self._die_with_parent and sys.platform == "linux" and on_main_thread:
            # Not preexec_fn: it runs Python between fork and exec, unsafe beside other threads.
            return [sys.executable, "-IS", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        return command

    def _await_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        answer: object = "no answer"
        deadline = monotonic() + START_S
        while monotonic() < deadline:
            try:
                answer = info = probe(self.url, LOOK_S)
            except StoreError as error:
                answer, info = error, None
            # Another pid: the port is someone else's, and ours is about to find out.
            if info and info.pid == process.pid:
                if not info.loading:
                    return
                deadline = monotonic() + START_S  # however much there is to load, it is alive
            try:
                process.wait(0.005)
            except subprocess.TimeoutExpired:
                continue
            raise self._failure(f"ended with status {process.returncode}", log_start)
        raise self._failure(f"is not ready after {START_S:g} s ({answer})", log_start)

    def _failure(self, what: str, log_start: int) -> EmbeddedServerError:
        """Say why the server did not start, from what it wrote since ``log_start``."""
        path = self.data_dir / LOG
        with path.open("rb") as log:
            log.seek(log_start)
            said = log.read().decode(errors="replace")
        known = (cause for words, cause in _CAUSES.items() if words in said)
        kind, advice = next(known, _UNKNOWN_CAUSE)
        last = "\n".join(said.splitlines()[-6:])
        return kind(
            f"{self.engine} on {HOST}:{self.port} {what}. {advice}\nThe end of {path}:\n{last}"
        )


def free_port() -> int:
    """Return a port on 127.0.0.1 where nothing listens, and none of those for outgoing connections.

    Raises:
        EmbeddedServerError: a hundred of them are taken.
    """
    # The system's own randomness: programs that seed theirs alike must not meet at one port.
    for port in random.SystemRandom().sample(PRIVATE_PORTS, 100):
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port
    raise EmbeddedServerError(f"No free port on {HOST} between 20000 and 32000: give one.")
