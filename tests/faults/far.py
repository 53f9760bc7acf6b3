"""Consumers over HTTP, servers at a known port, and a proxy between that loses requests and answers.

A consumer has nothing of Headrace: ``http.client`` and the three requests of the API. It takes several
jobs at once, extends them while they run, and sends a settle until there is an answer. It writes down what
it got, ran and settled, as all consumers of the laboratory do; the servers write down nothing of that.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from headrace import web
from headrace.operations import Operation
from tests.faults import lab_app, network
from tests.faults.failpoints import Tap
from tests.faults.history import Journal
from tests.faults.roles import QUEUE, Role, ServerRole

RETRY_S: Final = 0.05
"""How long a job that failed waits: its consumer says so."""

_FAILS: Final = {"flaky": 1, "failing": 1 << 30}  # tasks and their attempts that fail

LATE_S: Final = 1.5
"""So long an answer may take, beyond what was asked for."""


class _Silent(Tap):
    """Fails where it is to, and writes nothing down: what a server does it does for others."""

    def answered(
        self,
        operations: Sequence[Operation[Any]],
        answers: Sequence[Any],
        sent_ns: int,
        *,
        repeat: bool = False,
    ) -> None:
        pass

    def lost(self, operations: Sequence[Operation[Any]], sent_ns: int) -> None:
        pass


@dataclass(frozen=True)
class FarServerRole(ServerRole):
    """A ``headrace serve`` for consumers over HTTP.

    Attributes:
        port: where it listens; it comes back there.
        bug: put into it, for the museum.
    """

    port: int = 0
    bug: Callable[[], None] | None = None

    def tap(self, journal: Journal) -> Tap:
        return _Silent(journal, self.points)

    def run(self) -> int:
        self.begin()
        if self.bug is not None:
            self.bug()
        asyncio.run(web.serve(lab_app.app, port=self.port, policy=self.lease))
        return 0


@dataclass
class _Running:
    """A job that a consumer has."""

    job: dict[str, Any]
    ends_at: float
    how: str
    lost: bool = False

    @property
    def ticket(self) -> dict[str, str]:
        return {name: self.job[name] for name in ("queue", "id", "claim")}


@dataclass(frozen=True)
class FarConsumerRole(Role):
    """A consumer over HTTP.

    Attributes:
        ports: where servers, or proxies before them, listen; each request goes to any of them.
        lease_s: what it asks for.
        count: how many jobs it takes at once.
        seed: which of them.
    """

    ports: tuple[int, ...] = ()
    lease_s: float = 1.5
    count: int = 10
    seed: int = 0

    def run(self) -> int:
        consumer = _FarConsumer(self)
        signal.signal(signal.SIGTERM, lambda *_: consumer.told.append(1))
        while not consumer.told:
            consumer.turn()
        return 0


class _FarConsumer:
    """What a consumer over HTTP does, again and again: claim, run, extend, settle."""

    def __init__(self, role: FarConsumerRole) -> None:
        self._role = role
        self._journal = role.begin()
        self._rng = random.Random(role.seed)
        self.told: list[int] = []  # to end: then there may be no server any more

    def turn(self) -> None:
        """Take some jobs, and end them."""
        wanted = {"consumer": self._role.name, "queues": [QUEUE], "count": self._role.count}
        answer = self._ask("", wanted | {"wait": 1, "lease": self._role.lease_s}, 1)
        if answer is None:
            time.sleep(0.1)
            return
        jobs = answer["claims"]
        if jobs:
            self._journal.write("held", [(job["id"], job["delivery"]) for job in jobs])
        running = [self._begin(job) for job in jobs]
        extend_at = time.monotonic() + self._role.lease_s / 3
        while running:
            next_at = min(extend_at, *(0.0 if one.lost else one.ends_at for one in running))
            time.sleep(max(0.0, next_at - time.monotonic()))
            # Who stood still tells first of what has ended meanwhile, and learns then that it is late.
            over = [one for one in running if one.lost or one.ends_at <= time.monotonic()]
            running = [one for one in running if one not in over]
            self._end(over)
            if running and time.monotonic() >= extend_at:
                self._extend(running)
                extend_at = time.monotonic() + self._role.lease_s / 3

    def _begin(self, job: dict[str, Any]) -> _Running:
        number = job["args"][0]
        who = (job["id"], job["delivery"], job["attempt"], self._role.name)
        self._journal.write("start", number, *who)
        takes_s = job["args"][2] if len(job["args"]) > 2 else 0.0
        how = "error" if job["attempt"] <= _FAILS.get(job["task"], 0) else "ok"
        return _Running(job, time.monotonic() + takes_s, how)

    def _extend(self, running: list[_Running]) -> None:
        asked = {"claims": [one.ticket for one in running], "lease": self._role.lease_s}
        answer = self._ask("/extend", asked)
        for one in running:
            one.lost = answer is not None and one.job["id"] in answer["lost"]

    def _end(self, over: list[_Running]) -> None:
        for one in over:
            how = "stopped" if one.lost else one.how
            self._journal.write("end", one.job["id"], one.job["delivery"], how)
        told = [one for one in over if not one.lost]
        if not told:
            return
        ends: dict[str, dict[str, Any]] = {
            "ok": {"end": "ack"},
            "error": {"end": "retry", "delay": RETRY_S},
        }
        outcomes = [one.ticket | ends[one.how] for one in told]
        while True:
            sent_ns = time.monotonic_ns()
            answer = self._ask("/settle", {"outcomes": outcomes})
            lost = None if answer is None else {one["id"] for one in answer["lost"]}
            self._journal.write("settled", sent_ns, [_record(one, lost) for one in told], False)
            if lost is not None or self.told:
                return
            time.sleep(0.1)

    def _ask(self, path: str, body: dict[str, Any], wait_s: float = 0) -> Any:
        """Ask any of the servers; None if there is no answer, or one that says that it was not done."""
        port = self._rng.choice(self._role.ports)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=wait_s + LATE_S)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            client.request("POST", f"/api/v1/claims{path}", json.dumps(body), headers)
            answer = client.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            client.close()
        assert answer.status in (200, 503), content
        return json.loads(content) if answer.status == 200 else None


def _record(one: _Running, lost: set[str] | None) -> tuple[str, int, str, float, bool | None]:
    verb, delay_s = ("done", 0.0) if one.how == "ok" else ("retry", RETRY_S)
    job_id = one.job["id"]
    return job_id, one.job["delivery"], verb, delay_s, None if lost is None else job_id not in lost


@dataclass(frozen=True)
class HttpProxyRole(Role):
    """A proxy before a server: of each kind of request, some fail, one way after the other; until SIGUSR1.

    Attributes:
        port: where it listens.
        to: the server's port.
        every: one of so many requests of each kind fails.
    """

    port: int = 0
    to: int = 0
    every: int = 8
    _ways: tuple[str, ...] = field(default=("lost", "cut", "lost", "half-open"), repr=False)

    def run(self) -> int:
        journal = self.begin()
        passed, ways, healed = Counter[str](), dict[str, Iterator[str]](), list[int]()
        signal.signal(signal.SIGUSR1, lambda *_: healed.append(1))

        def fault(kind: str) -> str:
            """Say how a request of a kind fails; "" if it does not."""
            passed[kind] += 1
            if healed or passed[kind] % self.every != 2:
                return ""
            return next(ways.setdefault(kind, itertools.cycle(self._ways)))

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                request, kind = await _request(reader)
                how = fault(kind)
                if how != "cut":
                    answer = await self._answer(request)
                if how:
                    journal.write("fault", how, kind)
                if how == "half-open":
                    await asyncio.sleep(2 * LATE_S)
                if how:
                    network._reset(writer)
                else:
                    writer.write(answer)
                    await writer.drain()
            writer.close()

        async def run() -> None:
            await asyncio.start_server(forward, "127.0.0.1", self.port)
            await asyncio.Event().wait()

        return network.until_told(run)

    async def _answer(self, request: bytes) -> bytes:
        """Let the server act, and read all that it says."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.to)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """Read a request; give it, and which of the three it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        line.partition(b":")[2]
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    kind = head.split(b" ", 2)[1].decode().rpartition("/")[2]
    return head + await reader.readexactly(int(length)), f"HTTP {kind}"
