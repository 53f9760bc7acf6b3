"""A network of its own for a test that needs the default port and must not meet anybody there.

Linux gives a network namespace to a thread, and its child processes inherit it. That takes root (or
CAP_SYS_ADMIN); elsewhere the test runs on the machine's own loopback, and only if the port is free.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import socket
import struct
import sys
import threading
from collections.abc import Callable

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x41


def _enter_own_network() -> bool:
    """Put this thread into a new network with a loopback; False where that is not allowed."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return False
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def alone_on_port(port: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test where nothing listens on a port: in its own network, or if it is free here."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def alone(**fixtures: object) -> None:
            outcome: list[BaseException] = []

            def body() -> None:
                try:
                    if not _enter_own_network() and not _is_free(port):
                        pytest.skip(f"port {port} is in use, and no network of our own may be made")
                    test(**fixtures)
                except BaseException as error:
                    outcome.append(error)

            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
            if outcome:
                raise outcome[0]

        return alone

    return decorate
