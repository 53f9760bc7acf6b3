"""Clients that keep the server waiting: it stays ready, says little, and is well when they leave.

By hand, on a server that runs already: ``python -m tests.integration.test_web_limits 127.0.0.1 8390``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from headrace.web import connections, limits, server, updates
from tests.support.serving import descriptors_of, served, server_process
from tests.support.wait import WAIT_S, await_until, wait_until

DESCRIPTORS = 256
HALF_HEAD = b"GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nX-Half: "
HALF_BODY = (
    b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 100000\r\n\r\n{"task": "a", "args": ["'
)
POLL = "/api/v1/claims"
UNREAD = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
SENT = [HALF_HEAD] * 4 + [HALF_BODY, UNREAD]


@contextlib.contextmanager
def crowd(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that send half a head, half a body, or read nothing."""
    with contextlib.ExitStack() as stack:
        opened = []
        for i in range(count):
            one = stack.enter_context(socket.create_connection((host, port), timeout=WAIT_S))
            one.sendall(SENT[i % len(SENT)])
            opened.append(one)
        yield opened


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_it_is_ready_while_three_hundred_half_open_connections_keep_it_waiting(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with server_process(url, log, descriptors=DESCRIPTORS) as (running, port):
        base = f"http://127.0.0.1:{port}"
        before = descriptors_of(running.pid)
        with crowd("127.0.0.1", port, 300):
            # New connections, as a probe makes them; each is there at once or not at all.
            for _ in range(20):
                assert httpx.get(f"{base}/readyz", timeout=WAIT_S).json() == {"ready": True}
                assert httpx.get(f"{base}/healthz", timeout=WAIT_S).is_success
            assert descriptors_of(running.pid) < DESCRIPTORS
            assert httpx.get(f"{base}/api/v1/queues", timeout=WAIT_S).is_success
        wait_until(lambda: descriptors_of(running.pid) <= before + 8, what="they have left")
        assert (
            httpx.post(f"{base}/api/v1/jobs", json={"task": "a"}, timeout=WAIT_S).status_code == 202
        )
        assert log.stat().st_size < 10_000, log.read_text()
        running.terminate()
        assert running.wait(WAIT_S) == 0
    assert log.stat().st_size < 10_000, log.read_text()
    assert b"Traceback" not in log.read_bytes()


async def asked(port: int, *sent: bytes) -> str:
    """Send all of it, piece by piece, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    with contextlib.suppress(ConnectionError):  # it may close before all is sent
        for part in sent:
            writer.write(part)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            while some := await reader.read(65_536):
                answer += some
    writer.close()
    return answer.decode()


async def test_a_head_without_an_end_is_refused(url: str) -> None:
    async with served(url) as (client, port):
        line = b"x-more: " + b"m" * 1_000 + b"\r\n"
        answer = await asked(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n", *[line] * 400)
        assert answer == "" or answer.startswith(
            "HTTP/1.1 400"
        )  # what was unread may have reset it
        assert (await client.get("/readyz")).is_success


async def test_no_part_of_an_answer_waits_for_word_of_another(url: str) -> None:
    """Nagle's algorithm and delayed acknowledgements make 40 ms of it."""
    made: list[int] = []

    class Noting(connections.Connection):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            sock = transport.get_extra_info("socket")
            made.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Connection", Noting)
        async with served(url) as (client, _):
            assert (await client.get("/readyz")).is_success
    assert made
    assert all(made)


async def test_what_is_sent_ahead_is_to_be_sent_again(url: str) -> None:
    async with served(url) as (client, port):
        one = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        answer = await asked(port, one * 5_000)
        assert re.findall(r"HTTP/1\.1 (\d+)", answer) in (
            ["200"],
            [],
        )  # [] if what was unread has reset it
        assert (await client.get("/readyz")).is_success


@pytest.mark.parametrize("sent", [b"", HALF_HEAD, HALF_BODY])
async def test_who_does_not_finish_a_request_is_left(
    url: str, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.01)
    monkeypatch.setattr(connections, "BODY_S", 0.01)
    async with served(url) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_who_is_served_is_not_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.01)
    monkeypatch.setattr(connections, "READ_S", 0.01)
    monkeypatch.setattr(updates, "BEAT_S", 0.6)
    async with served(url) as (client, _), client.stream("GET", "/api/v1/events") as stream:
        lines = stream.aiter_lines()
        beats = 0
        while beats < 4:  # two looks at who is late lie between the first and the last
            beats += await anext(lines) == "event: beat"


async def test_what_is_no_http_is_refused_like_everything_else(url: str) -> None:
    async with served(url) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nonsense\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
    assert answer.startswith("HTTP/1.1 400")
    assert "nosniff" in answer
    assert "Invalid HTTP request received." in answer


async def test_streams_are_bounded_and_the_answer_says_so(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_STREAMS", 2)
    async with served(url) as (client, _):
        async with client.stream("GET", "/api/v1/events"), client.stream("GET", "/api/v1/events"):
            refused = await client.get("/api/v1/events")
            assert refused.status_code == 503
            assert "2 streams already" in refused.json()["detail"]
            assert (await client.get("/readyz")).is_success

        async def admitted() -> bool:
            async with client.stream("GET", "/api/v1/events") as stream:
                return stream.is_success

        await await_until(admitted, what="there is room again")


class Slow:
    """An application that answers when it is let."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in limits.PROBES:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.go.wait()
            self.inside -= 1
        await Response("done")(scope, receive, send)


def client_of(app: Slow) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(limits.Limits(app)),
        base_url="http://localhost",
        timeout=WAIT_S,
    )


async def test_requests_wait_for_their_turn_and_probes_do_not() -> None:
    app = Slow()
    async with client_of(app) as client:
        asked = [asyncio.create_task(client.get("/a")) for _ in range(3 * limits.MAX_REQUESTS)]
        await await_until(lambda: app.inside == limits.MAX_REQUESTS, what="all turns are taken")
        assert (await client.get("/readyz")).is_success
        app.go.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert app.most == limits.MAX_REQUESTS


async def test_who_waits_too_long_for_a_turn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REQUESTS", 1)
    monkeypatch.setattr(limits, "WAIT_S", 0.01)
    app = Slow()
    async with client_of(app) as client:
        first = asyncio.create_task(client.get("/a"))
        await await_until(lambda: app.inside, what="the turn is taken")
        refused = await client.post("/a", content=b"x")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["accepted"] == []
        app.go.set()
        assert (await first).is_success


async def test_all_bodies_together_are_bounded() -> None:
    taken = 0

    async def half() -> AsyncIterator[bytes]:
        nonlocal taken
        yield b" " * limits.MAX_BODY
        taken += 1
        await app.go.wait()

    app = Slow()
    async with client_of(app) as client:
        share = limits.MAX_BODY - limits.SMALL_BODY  # of each counts
        count = limits.MAX_BODIES // share
        rest = b" " * (limits.MAX_BODIES - count * share + limits.SMALL_BODY + 1)
        asked = [asyncio.create_task(client.post("/a", content=half())) for _ in range(count)]

        await await_until(lambda: taken == count, what="their bodies fill what there is")
        assert (await client.post("/a", content=rest)).status_code == 503
        small = asyncio.create_task(client.post("/a", content=b"x"))
        await await_until(lambda: app.inside == 1, what="a small one has come in all the same")
        app.go.set()
        assert {answer.status_code for answer in await asyncio.gather(small, *asked)} == {200}
        assert (await client.post("/a", content=rest)).is_success


async def test_bodies_count_until_there_is_an_answer() -> None:
    app = Slow()
    async with client_of(app) as client:
        count = limits.MAX_BODIES // limits.MAX_BODY
        body = b" " * limits.MAX_BODY
        asked = [asyncio.create_task(client.post("/a", content=body)) for _ in range(count)]
        await await_until(lambda: app.inside == count, what="they are worked on")
        assert (await client.post("/a", content=body)).status_code == 503
        app.go.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert (await client.post("/a", content=body)).is_success


@pytest.mark.parametrize(
    ("path", "turns"),
    [
        ("/a", limits.MAX_REQUESTS),
        ("/readyz", limits.MAX_PROBES),
        ("/api/v1/jobs", limits.MAX_ENQUEUES),
        (POLL, limits.MAX_POLLS),
    ],
)
async def test_who_does_not_read_his_answer_keeps_nobody_waiting(path: str, turns: int) -> None:
    app, unread = limits.Limits(Response("done")), asyncio.Event()
    sent = 0

    async def nobody_reads(_: Message) -> None:
        nonlocal sent
        sent += 1
        await unread.wait()

    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    asked = [asyncio.create_task(app(scope, _nothing, nobody_reads)) for _ in range(turns)]
    await await_until(lambda: sent == turns, what="each has an answer")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get(path)).is_success
    unread.set()
    await asyncio.gather(*asked)


async def _nothing() -> Message:
    return await asyncio.Future()


def test_of_one_kind_of_line_a_few_are_written_and_the_rest_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(connections, "monotonic", lambda: now)
    sparing = connections.Sparing()

    def line(message: str) -> logging.LogRecord:
        return logging.LogRecord("asyncio", logging.ERROR, "", 0, message, (), None)

    assert sum(sparing.filter(line("no descriptor")) for _ in range(1_000)) == 5
    assert sparing.filter(line("another"))
    now = 61.0
    later = line("no descriptor")
    assert sparing.filter(later)
    assert later.getMessage() == "no descriptor (995 more of these since the last)"


def main(host: str, port: str, count: str = "300") -> None:
    """Open a crowd on a server that runs, and tell how long it takes to be ready meanwhile."""
    with crowd(host, int(port), int(count)):
        for _ in range(10):
            answer = httpx.get(f"http://{host}:{port}/readyz", timeout=WAIT_S)
            sys.stdout.write(f"{answer.status_code} in {answer.elapsed.total_seconds():.3f} s\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
