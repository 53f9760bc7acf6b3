"""The nursery: one preloaded, single-threaded process from which all laboratory processes are forked.

Starting a Python that imports Headrace costs half a second of a core, a fork a few milliseconds; that
is what makes five hundred kills cheap. The nursery is their parent: it notes their deaths, continues
those that stopped themselves at a failpoint, and takes them along when it ends itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NoReturn, Protocol

from headrace import logs
from tests.faults.history import Journal

_TICK_S = 0.005
_PR_SET_PDEATHSIG = 1


class Work(Protocol):
    """What a laboratory process does."""

    @property
    def name(self) -> str: ...
    @property
    def stop_s(self) -> float: ...
    def run(self) -> int: ...


def fork(work: Work, folder: Path, parent: int) -> int:
    """Fork a process that does some work, its output in a file; gives its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent(parent)
        log = os.open(folder / f"{work.name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for fd, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(fd, target)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        forget_main()
        logs.configure("info", json=False)
        code = work.run()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def forget_main() -> None:
    """Let what is spawned from here import what it needs, and not the whole laboratory first."""
    main = sys.modules["__main__"]
    main.__spec__ = None
    main.__dict__.pop("__file__", None)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, however it ends; only Linux can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@dataclass
class _Nursery:
    """The loop of the nursery process."""

    pipe: Connection
    folder: Path
    journal: Journal
    works: dict[int, Work] = field(default_factory=dict)  # by pid
    continue_at: dict[int, float] = field(default_factory=dict)

    def run(self) -> NoReturn:
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                if self.pipe.poll(_TICK_S):
                    work = self.pipe.recv()
                    pid = fork(work, self.folder, os.getpid())
                    self.works[pid] = work
                    self.pipe.send(("born", pid, 0))
                self._look()
        os._exit(0)  # the children go with us

    def _look(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                self.continue_at[pid] = time.monotonic() + self.works[pid].stop_s
                self.pipe.send(("stopped", pid, 0))
                continue
            code = os.waitstatus_to_exitcode(status)
            self.journal.write("death", pid, self.works.pop(pid).name, code)
            self.continue_at.pop(pid, None)
            self.pipe.send(("died", pid, code))
        for pid, at in list(self.continue_at.items()):
            if time.monotonic() >= at:
                del self.continue_at[pid]
                os.kill(pid, signal.SIGCONT)


def end_strays(marker: str) -> None:
    """Kill what our processes started and left behind: those that have a marker in their environment.

    A consumer that is killed may leave a child that is just importing: it would end by itself, later.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


class Nursery:
    """The bench's end: asks for processes, and knows which are alive.

    To be made while the calling process has one thread.

    Args:
        folder: where the output of processes goes.
        history: where records go.
    """

    def __init__(self, folder: Path, history: Path) -> None:
        self._pipe, theirs = Pipe()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._pipe.close()
            die_with_parent(parent)
            _Nursery(theirs, folder, Journal(history, "nursery")).run()
        theirs.close()
        self._pid = pid
        self.alive: set[int] = set()
        self.stopped: set[int] = set()  # those that have stopped themselves at least once

    def start(self, work: Work) -> int:
        """Start a process; gives its pid."""
        self._pipe.send(work)
        while True:
            kind, pid, _ = self._pipe.recv()
            if kind == "born":
                self.alive.add(pid)
                return int(pid)
            self._take(kind, pid)

    def look(self) -> None:
        """Find out who has died, and who has stopped."""
        while self._pipe.poll(0):
            kind, pid, _ = self._pipe.recv()
            self._take(kind, pid)

    def still_alive(self) -> set[int]:
        """Find out who has died, and give who has not."""
        self.look()
        return self.alive

    def _take(self, kind: str, pid: int) -> None:
        if kind == "stopped":
            self.stopped.add(pid)
        else:
            self.alive.discard(pid)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of ours, if it is still there."""
        self.look()
        if pid in self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        """End everything."""
        self._pipe.close()
        os.waitpid(self._pid, 0)
