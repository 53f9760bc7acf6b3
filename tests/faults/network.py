"""A network that fails on purpose: a proxy process that knows which transition a request is.

It tells requests apart by the SHA of their script and by BLMOVE, and injects what its plan asks for:

    cut        the connection ends before the server has seen the request
    lost       the server acts, its answer is read and thrown away, then the connection is reset
    half-open  the same, but the connection stays, silent
    late       the answer comes after a while

and whatever its role names beside these: such a request goes to another server, whose answer is
passed on. For a client that is the same as a role that changed in that instant.

For ``lost`` it waits for the server's answer: a reset that is sent at once can destroy the request
too, and then nothing was lost but a request. An answer that says that nothing was done (no job came,
NOSCRIPT) is passed on, and does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis

from headrace.scripts import script
from tests.faults.coverage import SCRIPTS
from tests.faults.history import Journal
from tests.faults.roles import Role

_CHUNK: Final = 1 << 20
_SHAS: Final = {script(name).sha.encode(): name for name in SCRIPTS}

Quota = dict[tuple[str, str], int]


def transition(command: list[Any]) -> str | None:
    """Name the transition that a command is, if it is one."""
    if command[0] == b"EVALSHA":
        return _SHAS.get(command[1])
    return {b"BLMOVE": "BLMOVE", b"GETEX": "lead"}.get(command[0])


@dataclass(frozen=True)
class ProxyRole(Role):
    """A proxy before ``url``.

    Attributes:
        port: where it listens, on loopback.
        control: the path of its control socket.
        plan: how often each fault is to hit each transition.
        seed: decides when.
        gap_s: the least time between two faults.
        late_s: how late an answer may come.
        elsewhere: for more faults, the URL of the server that gets the request.
    """

    port: int = 0
    control: Path = Path()
    plan: tuple[tuple[str, str, int], ...] = ()
    seed: int = 0
    gap_s: float = 0.02
    late_s: float = 1.0
    elsewhere: tuple[tuple[str, str], ...] = ()

    def run(self) -> int:
        journal = Journal(self.history, self.name)
        return until_told(Proxy(self, journal).run)


@dataclass
class Proxy:
    """The proxy itself, on the running loop."""

    role: ProxyRole
    journal: Journal
    quota: Quota = field(default_factory=Counter)
    links: set[_Link] = field(default_factory=set)
    refusing_until: float = 0.0
    last_fault_at: float = 0.0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.role.seed)
        self.quota = {(fault, name): count for fault, name, count in self.role.plan}
        self.target = _address(self.role.url)
        self.elsewhere = {fault: _address(url) for fault, url in self.role.elsewhere}

    async def run(self) -> None:
        """Forward until cancelled."""
        clients = await asyncio.start_server(
            self._accept, "127.0.0.1", self.role.port, limit=_CHUNK
        )
        # The second one: who sees it knows that both are there.
        orders = await take_orders(self.role.control, self._obey)
        try:
            await asyncio.Event().wait()
        finally:
            orders.close()
            clients.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if time.monotonic() < self.refusing_until:
            self.journal.write("fault", "refused connection", "connect")
            _reset(writer)
            return
        try:
            upstream = await asyncio.open_connection(*self.target, limit=_CHUNK)
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), upstream)
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)

    def choose(self, names: list[str]) -> str | None:
        """Decide whether a request of these transitions fails now, and how."""
        now = time.monotonic()
        if not names or now - self.last_fault_at < self.role.gap_s:
            return None
        wanted = sorted(
            fault
            for fault in {fault for fault, _ in self.quota}
            if any(self.quota.get((fault, name), 0) > 0 for name in names)
        )
        if not wanted or self.rng.random() < 0.5:
            return None
        self.last_fault_at = now
        return self.rng.choice(wanted)

    def injected(self, fault: str, names: list[str]) -> None:
        """Write down a fault, for each transition that it hit."""
        for name in dict.fromkeys(names):
            self.journal.write("fault", fault, name)
        self.done(fault, names)

    def done(self, fault: str, names: list[str]) -> None:
        """Take a fault off the plan."""
        for name in dict.fromkeys(names):
            if (fault, name) in self.quota:
                self.quota[fault, name] -= 1

    async def ask_elsewhere(self, fault: str, request: bytes, count: int) -> bytes:
        """Send ``count`` commands to the server that a fault has for them; gives its answers."""
        reader, writer = await asyncio.open_connection(*self.elsewhere[fault], limit=_CHUNK)
        writer.write(request)
        replies, answer = hiredis.Reader(notEnoughData=Ellipsis), b""
        while count:
            data = await reader.read(_CHUNK)
            assert data, "a server that only refuses stays"
            answer += data
            replies.feed(data)
            while replies.gets() is not Ellipsis:
                count -= 1
        writer.close()
        return answer

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what the bench says, one line: refuse, reset, heal."""
        order = json.loads(await reader.readline())
        if "refuse_s" in order:
            self.refusing_until = time.monotonic() + order["refuse_s"]
        if order.get("heal"):
            self.quota.clear()
            for link in list(self.links):  # also those that are silent
                link.reset()
        if order.get("reset"):
            for link in list(self.links):
                self.injected("reset", link.under_way or ["idle"])
                link.reset()
        left = {f"{fault} {name}": n for (fault, name), n in self.quota.items() if n > 0}
        writer.write(json.dumps(left).encode() + b"\n")
        await writer.drain()
        writer.close()


class _Link:
    """One client's connection, and ours to the server for it."""

    def __init__(self, proxy: Proxy, client: Any, server: Any) -> None:
        self._proxy = proxy
        self._client, self._to_client = client
        self._server, self._to_server = server
        self._fault: str | None = None
        self._replies = hiredis.Reader(notEnoughData=Ellipsis)
        self._asked = self._awaited = 0
        self._swallowed = b""
        self._refused = False
        self.under_way: list[str] = []  # transitions of the request that waits for its answer

    async def run(self) -> None:
        both = [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for writer in (self._to_client, self._to_server):
                writer.close()

    def reset(self) -> None:
        _reset(self._to_client)
        _reset(self._to_server)

    async def _up(self) -> None:
        requests, raw = hiredis.Reader(notEnoughData=Ellipsis), b""
        names: list[str] = []
        count = 0
        while data := await self._client.read(_CHUNK):
            raw += data
            requests.feed(data)
            while (command := requests.gets()) is not Ellipsis:
                count += 1
                if (name := transition(command)) is not None:
                    names.append(name)
            if requests.has_data():
                continue  # the rest of the request is under way
            fault = self._proxy.choose(names)
            if fault == "cut":
                self._proxy.injected("cut", names)
                self.reset()
                return
            if fault in self._proxy.elsewhere:
                self._proxy.done(fault, names)  # who hears it writes it down
                self._to_client.write(await self._proxy.ask_elsewhere(fault, raw, count))
            else:
                self._fault, self.under_way = fault, names
                self._asked = self._awaited = count
                self._to_server.write(raw)
                await self._to_server.drain()
            raw, names, count = b"", [], 0

    async def _down(self) -> None:
        while data := await self._server.read(_CHUNK):
            if self._fault is None:
                self.under_way = []
                self._to_client.write(data)
                await self._to_client.drain()
            elif await self._swallow(data):
                return

    async def _swallow(self, data: bytes) -> bool:
        """Take a part of an answer that is to fail; tell whether the connection is over."""
        self._swallowed += data
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not Ellipsis:
            # A move that brought nothing; behind it stands the answer to a look at the queue.
            nothing = (
                reply is None and self.under_way == ["BLMOVE"] and self._awaited == self._asked
            )
            self._awaited -= 1
            self._refused |= nothing or isinstance(reply, hiredis.HiredisError)
        if self._awaited > 0:
            return False
        fault, names, answer = self._fault, self.under_way, self._swallowed
        refused = self._refused
        self._fault, self.under_way, self._swallowed, self._refused = None, [], b"", False
        if not refused:
            assert fault is not None
            self._proxy.injected(fault, names)
            if fault == "lost":
                self.reset()
                return True
            if fault == "half-open":
                # Not even the server's end shows: whoever waits has to give up by itself.
                await asyncio.Event().wait()
            await asyncio.sleep(self._proxy.rng.uniform(0.1, 1.0) * self._proxy.role.late_s)
        self._to_client.write(answer)
        await self._to_client.drain()
        return False


def _address(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, as a machine that has lost its state does."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def until_told(run: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run this on a loop until SIGTERM; gives the exit code."""

    async def main() -> None:
        me = asyncio.current_task()
        assert me is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
        await run()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
    return 0


async def take_orders(
    control: Path, obey: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
) -> asyncio.Server:
    """Listen for orders. The socket gets its name when it listens: before, whoever sees it is refused."""
    orders = await asyncio.start_unix_server(obey, f"{control}.new")
    Path(f"{control}.new").rename(control)
    return orders


def tell(control: Path, **order: Any) -> dict[str, int]:
    """Give a proxy an order; answers what is left of its plan."""
    with socket.socket(socket.AF_UNIX) as to_proxy:
        to_proxy.settimeout(30)
        to_proxy.connect(str(control))
        to_proxy.sendall(json.dumps(order).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            got = to_proxy.recv(_CHUNK)
            assert got, "it has failed to do so: its log tells why"
            answer += got
    left: dict[str, int] = json.loads(answer)
    return left
