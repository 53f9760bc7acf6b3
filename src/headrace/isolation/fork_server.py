"""The fork server: a small process that forks one child for each request, and tells how it ended.

To start Python takes a third of a second, to fork this process a few milliseconds; and after a host
that lost power there may be thousands of suspects. It imports no application, has no thread and runs
no job, so that a fork of it is as good as a new process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from headrace.isolation import child

_IDLE_S: Final = 60.0  # it ends when nothing was requested for so long: it takes 40 MB
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Started:
    """A child was forked: its process."""

    pid: int


@dataclass(frozen=True, slots=True)
class Exited:
    """Its process has ended.

    Attributes:
        exit_code: as everywhere; negative: a signal.
        peak_kib: the most memory it held, KiB.
    """

    exit_code: int
    peak_kib: int


def main(requests: Connection, messages: Connection, stacks: Connection) -> None:
    """Serve until the consumer closes its end, or is gone, or requests nothing for a while."""
    os.setpgid(0, 0)  # Ctrl-C reaches the consumer alone
    # Service managers send it to all processes at once: the consumer decides who ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    with suppress(EOFError, OSError):  # the consumer has closed its ends
        while requests.poll(_IDLE_S):
            request = requests.recv()
            while messages.poll():  # what the last one was told too late
                messages.recv()
            pid = os.fork()
            if pid == 0:
                requests.close()
                _die_with_parent()
                child.main(request, messages, stacks)
            requests.send(Started(pid))
            _, status, usage = os.wait4(pid, 0)
            peak_kib = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
            requests.send(Exited(os.waitstatus_to_exitcode(status), peak_kib))


def _die_with_parent() -> None:
    """End at once with whoever started this one, however that ends: nobody else would end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
