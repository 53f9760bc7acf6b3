"""Hosts of a laboratory: network namespaces with addresses of their own, and one process that is the wire.

All that leaves a host comes to the wire as packets, through a TUN device. The wire carries them to the
servers, and the answers back: late, only some of them, or none, as it was told. So above IP everything is the
kernel's own. What is cut is cut silently, as when a switch dies: no reset tells of it, and what was lost is
sent again, with the kernel's patience.

The servers stay where the laboratory is, and listen at the address of its end of the wire, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.faults.namespaces import MTU, OWN, bring_up, enter, leave, tun
from tests.faults.network import take_orders, tell, until_told
from tests.faults.roles import Role

_NUMBERS: Final = range(
    77, 177
)  # of the networks 10.N.0.0/24 that laboratories side by side may take


@dataclass(frozen=True)
class Line:
    """What becomes of packets between one host and the servers.

    Attributes:
        requests: the share of those to the servers that is lost …
        answers: … and of those back.
        delay_s: how long each is on its way.
    """

    requests: float = 0.0
    answers: float = 0.0
    delay_s: float = 0.0


class Wire:
    """Carries packets between the hosts and the servers.

    Args:
        hosts: how many hosts there are.
        rng: decides which packets are lost.

    Attributes:
        number: its network is 10.NUMBER.0.0/24.
        lost: how many packets were lost.
    """

    def __init__(self, hosts: int, rng: random.Random) -> None:
        self._rng, self.lost = rng, 0
        self._lines: dict[tuple[int, int], Line] = {}  # by host, and port of the server, 0 for all
        self.number, self._servers = _first_free()
        bring_up(f"headrace{self.number}", f"10.{self.number}.0.1")
        here = os.open(OWN, os.O_RDONLY)
        self._hosts, self._namespaces = list[int](), list[int]()
        for host in range(hosts):
            leave()
            self._hosts.append(tun("wire"))
            self._namespaces.append(os.open(OWN, os.O_RDONLY))
            bring_up("wire", f"10.{self.number}.0.{host + 2}")
        enter(here)

    async def run(self, control: Path) -> None:
        """Carry until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._servers, self._from_servers)
        for host, fd in enumerate(self._hosts):
            loop.add_reader(fd, self._from_host, host)
        orders = await take_orders(control, self._obey)
        try:
            await asyncio.Event().wait()
        finally:
            orders.close()

    def _from_host(self, host: int) -> None:
        for packet in _packets(self._hosts[host]):
            line = self._line(host, _port(packet, 2))
            self._carry(packet, self._servers, line.requests, line.delay_s)

    def _from_servers(self) -> None:
        for packet in _packets(self._servers):
            host = packet[19] - 2  # the last byte of the address where it goes
            if 0 <= host < len(self._hosts):
                line = self._line(host, _port(packet, 0))
                self._carry(packet, self._hosts[host], line.answers, line.delay_s)

    def _line(self, host: int, port: int) -> Line:
        return self._lines.get((host, port)) or self._lines.get((host, 0)) or Line()

    def _carry(self, packet: bytes, to: int, lost: float, delay_s: float) -> None:
        if lost and self._rng.random() < lost:
            self.lost += 1
        elif delay_s:
            asyncio.get_running_loop().call_later(delay_s, _write, to, packet)
        else:
            _write(to, packet)

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what the bench says, one line: what becomes of packets; answer where the hosts are."""
        order: dict[str, Any] = json.loads(await reader.readline())
        if order.pop("heal", False):
            self._lines.clear()
        elif order:
            at = order.pop("host"), order.pop("port")
            self._lines[at] = Line(**order)
        places = {f"host {host}": fd for host, fd in enumerate(self._namespaces)}
        writer.write(
            json.dumps({"number": self.number, "lost": self.lost, **places}).encode() + b"\n"
        )
        await writer.drain()
        writer.close()


def _first_free() -> tuple[int, int]:
    for number in _NUMBERS:
        try:
            return number, tun(f"headrace{number}")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
    raise AssertionError("a hundred laboratories run side by side")


def _packets(fd: int) -> list[bytes]:
    """Read what has come, IPv4 alone: systems say hello in IPv6."""
    packets = list[bytes]()
    with contextlib.suppress(BlockingIOError):
        while len(packets) < 100:
            packet = os.read(fd, MTU)
            if packet[0] >> 4 == 4:
                packets.append(packet)
    return packets


def _port(packet: bytes, offset: int) -> int:
    start = (packet[0] & 15) * 4 + offset
    return int.from_bytes(packet[start : start + 2])


def _write(fd: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # it is full: a packet is lost, as in any network
        os.write(fd, packet)


@dataclass(frozen=True)
class WireRole(Role):
    """The process of a wire.

    Attributes:
        hosts: how many it has.
        control: the path of its control socket.
        seed: decides which packets are lost.
    """

    hosts: int = 0
    control: Path = Path()
    seed: int = 0

    def run(self) -> int:
        wire = Wire(self.hosts, random.Random(self.seed))
        return until_told(partial(wire.run, self.control))


@dataclass(frozen=True)
class Hosts:
    """The bench's end of a wire.

    Attributes:
        pid: the wire's process.
        control: its control socket.
    """

    pid: int
    control: Path

    @property
    def address(self) -> str:
        """Where the servers are, for the hosts."""
        return f"10.{tell(self.control)['number']}.0.1"

    def namespace(self, host: int) -> str:
        """Where a process of a host has to be: see ``enter``."""
        return f"/proc/{self.pid}/fd/{tell(self.control)[f'host {host}']}"

    @property
    def lost(self) -> int:
        """How many packets were lost."""
        return tell(self.control)["lost"]

    def spoil(self, host: int, line: Line, port: int = 0) -> None:
        """Let this become of a host's packets, with one server or with all."""
        tell(self.control, host=host, port=port, **vars(line))

    def heal(self) -> None:
        """Let all packets come through again."""
        tell(self.control, heal=True)
