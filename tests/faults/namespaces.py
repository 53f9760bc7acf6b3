"""Network namespaces and TUN devices: what the kernel is asked for so that there are hosts.

It needs Linux and the right to make them (CAP_SYS_ADMIN and CAP_NET_ADMIN).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from typing import Final

OWN: Final = "/proc/self/ns/net"
MTU: Final = 9_000  # a packet costs whoever carries it the same, however many bytes it has

_CLONE_NEWNET: Final = 0x4000_0000
_TUNSETIFF: Final = 0x4004_54CA
_TUN_WITHOUT_HEADER: Final = 0x0001 | 0x1000  # IFF_TUN | IFF_NO_PI


def why_not() -> str:
    """Return why there can be no hosts here; "" if there can."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return "hosts are network namespaces: they need Linux and iproute2"
    pid = os.fork()
    if not pid:
        try:
            leave()
            tun("headrace")
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return "hosts are network namespaces: they need root" if status else ""


def enter(namespace: str | int) -> None:
    """Make this process one of a host, with all that it starts from now on."""
    fd = os.open(namespace, os.O_RDONLY) if isinstance(namespace, str) else namespace
    _call("setns", fd, _CLONE_NEWNET)


def leave() -> None:
    """Be alone, in a new namespace."""
    _call("unshare", _CLONE_NEWNET)


def _call(name: str, *args: int) -> None:
    # Python's own come with 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def tun(name: str) -> int:
    """Make a device whose packets come to this process."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
    except OSError:
        os.close(fd)
        raise
    return fd


def bring_up(device: str, address: str) -> None:
    for words in (
        ("link", "set", "lo", "up"),
        ("address", "add", f"{address}/24", "dev", device),
        ("link", "set", device, "mtu", str(MTU), "up"),
    ):
        subprocess.run(["ip", *words], check=True)
