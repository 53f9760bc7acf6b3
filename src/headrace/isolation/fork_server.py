"""The fork server: a small process that forks a child for each request, and tells how each ended.

To start Python takes a third of a second, to fork this process a few milliseconds; and after a host
that lost power there may be thousands of suspects. It imports no application, has no thread and runs
no job, so that a fork of it is as good as a new process.

With each request come the ends of three pipes: one over which this process tells of the child, and two
that the child gets. So nothing of one child is ever left over for another.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Final

from headrace.isolation import child

_IDLE_S: Final = 60.0  # it ends when nothing was requested for so long: it takes 40 MB
_PR_SET_PDEATHSIG: Final = 1
_PIPES: Final = 3


@dataclass(frozen=True, slots=True)
class Started:
    """A child was forked: its process."""

    pid: int


@dataclass(frozen=True, slots=True)
class NotStarted:
    """No child was forked, for this machine does not let us: why."""

    why: str


@dataclass(frozen=True, slots=True)
class Exited:
    """Its process has ended.

    Attributes:
        exit_code: as everywhere; negative: a signal.
        peak_kib: the most memory it held, KiB.
        cpu_s: the processor time it took, seconds.
    """

    exit_code: int
    peak_kib: int
    cpu_s: float


def main(requests: Connection) -> None:
    """Serve until the consumer closes its end, or is gone, or requests nothing for a while."""
    os.setpgid(0, 0)  # Ctrl-C reaches the consumer alone
    # Service managers send it to all processes at once: the consumer decides who ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    children: dict[int, Connection] = {}
    exits, gone = _awake_at_exits(), _consumer_gone()
    with suppress(EOFError, OSError):  # the consumer has closed its end
        while (ready := wait([requests, exits, *gone], _IDLE_S)) or children:
            if not gone.isdisjoint(ready):
                break
            with suppress(BlockingIOError):
                exits.recv(1024)
            _reap(children)
            if requests.poll():
                _fork(requests, exits, children)
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _consumer_gone() -> set[int]:
    """Give what can be read when the consumer's process is gone, where there is such a thing.

    A fork that an application makes keeps the consumer's end of ``requests`` open. PR_SET_PDEATHSIG
    comes too early: when the thread has ended that started this process.
    """
    with suppress(AttributeError, OSError):  # Linux before 5.3, and other systems
        return {os.pidfd_open(os.getppid())}
    return set()


def _awake_at_exits() -> socket.socket:
    """Give what can be read when a child has ended."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # else nothing would be written
    signal.set_wakeup_fd(there.detach(), warn_on_full_buffer=False)
    return here


def _fork(requests: Connection, exits: socket.socket, children: dict[int, Connection]) -> None:
    request: child.ChildRequest = requests.recv()
    control, messages, stacks = [Connection(pipe) for pipe in _receive(requests)]
    try:
        pid = os.fork()
    except OSError as error:  # those that run go on
        with messages, stacks, control, suppress(OSError):
            control.send(NotStarted(str(error)))
        return
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Open in a child, they would hide from the consumer that this server is gone.
        for mine in (requests, control, *children.values()):
            mine.close()
        exits.close()
        _die_with_parent()
        child.main(request, messages, stacks)
    messages.close()
    stacks.close()
    children[pid] = control
    with suppress(OSError):  # the consumer waits for it no more
        control.send(Started(pid))


def _reap(children: dict[int, Connection]) -> None:
    while children:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        with suppress(KeyError, OSError), children.pop(pid) as control:
            peak_kib = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
            cpu_s = usage.ru_utime + usage.ru_stime
            control.send(Exited(os.waitstatus_to_exitcode(status), peak_kib, cpu_s))


def send_pipes(requests: Connection, pipes: list[Connection]) -> None:
    """Hand the ends of pipes to the fork server, behind a request."""
    with socket.socket(fileno=os.dup(requests.fileno())) as channel:
        socket.send_fds(channel, [b"p"], [pipe.fileno() for pipe in pipes])


def _receive(requests: Connection) -> list[int]:
    with socket.socket(fileno=os.dup(requests.fileno())) as channel:
        _, pipes, _, _ = socket.recv_fds(channel, 1, _PIPES)
    if len(pipes) != _PIPES:
        raise EOFError  # the consumer is gone; or this process may have no more open files
    return pipes


def _die_with_parent() -> None:
    """End at once with the fork server, however that ends: nobody else would end this child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
