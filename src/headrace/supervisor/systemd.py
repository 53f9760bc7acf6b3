"""What systemd hears of a consumer: it is ready, it ends, it is healthy, what it does (sd_notify).

The protocol is one datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names. The
libraries for it on PyPI have had no release for years, or need libsystemd to be compiled; the
protocol is stable by systemd's promise, so it is spoken here.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from headrace.clock import monotonic
from headrace.settings import variable
from headrace.supervisor.health import Health

log: logging.Logger = logging.getLogger("headrace.consumer")

_LOOK_S: Final = 0.5
_SEND_S: Final = 1.0  # a datagram waits for so long where systemd does not read


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Who has started this program, and wants to hear of it.

    Attributes:
        address: of its socket: a path, or ``@`` and a name in Linux' abstract space.
        watchdog_s: it ends a program that has not said for so long that it is healthy; 0 for never.
    """

    address: str
    watchdog_s: float = 0.0

    @property
    def every_s(self) -> float:
        """How often to look: four times while it waits for a sign, so that one may come late."""
        return min(_LOOK_S, self.watchdog_s / 4) if self.watchdog_s else _LOOK_S

    def tell(self, *lines: str) -> None:
        """Send lines; a manager that is gone, or does not read, is none of the consumer's trouble."""
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.settimeout(_SEND_S)
                own.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.debug("NOTIFY_SOCKET=%s is not told %s: %s", self.address, lines, error)


def service_manager() -> ServiceManager | None:
    """Return the service manager that has started this program; None when it was somebody else."""
    address = variable("NOTIFY_SOCKET")
    if not address.startswith(("/", "@")):
        return None
    pid, watchdog_us = variable("WATCHDOG_PID"), variable("WATCHDOG_USEC")
    ours = watchdog_us.isdecimal() and pid in ("", str(os.getpid()))
    return ServiceManager(address, int(watchdog_us) / 1e6 if ours else 0.0)


@contextmanager
def telling(manager: ServiceManager, look: Callable[[], Health]) -> Iterator[None]:
    """Tell a service manager how the workers are, until the block is left.

    Args:
        manager: hears it.
        look: how they are now. Called in another thread.
    """
    teller, end = _Teller(manager), threading.Event()

    def tell() -> None:
        while not end.wait(manager.every_s):
            teller.tell(look())

    thread = threading.Thread(target=tell, name="headrace-systemd", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        teller.ended()


class _Teller:
    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._said: set[str] = set()  # what is said once
        self._line = ""
        self._alive_at = 0.0

    def tell(self, health: Health) -> None:
        """Say what is new."""
        lines = self._new("READY=1") if health.ready else []
        lines += self._new("STOPPING=1") if health.stopping else []
        if health.line != self._line:
            self._line = health.line
            lines.append(f"STATUS={self._line}")
        now, watchdog_s = monotonic(), self._manager.watchdog_s
        if watchdog_s and health.healthy and now - self._alive_at >= watchdog_s / 4:
            self._alive_at = now
            lines.append("WATCHDOG=1")
        if lines:
            self._manager.tell(*lines)

    def ended(self) -> None:
        """Say that it ends, if it was not said: a burst is over, or nothing was left to drain."""
        self._manager.tell(*self._new("STOPPING=1"), "STATUS=Ended")

    def _new(self, word: str) -> list[str]:
        """Return a word that is said once; nothing when it was."""
        if word in self._said:
            return []
        self._said.add(word)
        return [word]
