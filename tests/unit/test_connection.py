"""One connection of the server, fed byte by byte: what belongs to a request, and what becomes of all else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from headrace.web import connections
from headrace.web.connections import Connection
from tests.support.wait import await_until

BODY = b'{"a": "\r\nUpgrade: x\r\n\r\n"}'
UPGRADE = (
    b"POST /jobs HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: localhost\r\n"
    b"Content-Length: %d\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: h2c\r\nX-Last: 1\r\n\r\n"
    % len(BODY)
)
GET = b"GET /look HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport with nobody at the other end: it keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = self.aborted = False
        self.connection: Connection

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
        self.connection.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Heard:
    """An application that notes what it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, dict[bytes, bytes]]] = []
        self.left = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            body += message["body"]
            more = message["more_body"]
        self.asked.append((scope["path"], body, dict(scope["headers"])))
        waiting = asyncio.ensure_future(receive())
        answering = asyncio.ensure_future(self.may_answer.wait())
        await asyncio.wait({waiting, answering}, return_when=asyncio.FIRST_COMPLETED)
        self.left += waiting.done()
        for one in (waiting, answering):
            one.cancel()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def heard() -> Heard:
    return Heard()


def connected(heard: Heard) -> tuple[Connection, Wire]:
    config = uvicorn.Config(heard, lifespan="off", log_config=None, ws="none")
    connection, wire = Connection(config, ServerState(), {}), Wire()
    wire.connection = connection
    connection.connection_made(wire)
    return connection, wire


def count(wire: Wire, status: int) -> int:
    return wire.written.count(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("cut", range(len(UPGRADE + BODY)))
async def test_who_asks_for_another_protocol_is_answered_wherever_the_bytes_are_cut(
    heard: Heard, cut: int
) -> None:
    connection, wire = connected(heard)
    sent = UPGRADE + BODY
    connection.data_received(sent[:cut])
    connection.data_received(sent[cut:])
    await await_until(lambda: count(wire, 200))
    [(path, body, headers)] = heard.asked
    assert (path, body) == ("/jobs", BODY)
    assert b"upgrade" not in headers
    assert headers[b"x-last"] == b"1"
    connection.data_received(GET)
    await await_until(lambda: count(wire, 200) == 2)
    assert not wire.closed


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_what_is_sent_ahead_is_not_run_and_the_connection_closes_with_the_answer(
    heard: Heard, size: int
) -> None:
    heard.may_answer.clear()
    connection, wire = connected(heard)
    sent = UPGRADE + BODY + GET + UPGRADE + BODY
    for start in range(0, len(sent), size):
        connection.data_received(sent[start : start + size])
        await asyncio.sleep(0)
    heard.may_answer.set()
    await await_until(lambda: wire.closed)
    assert [path for path, _, _ in heard.asked] == ["/jobs"]
    assert (count(wire, 200), count(wire, 400)) == (1, 0)


async def test_garbage_behind_a_request_does_not_take_its_answer(heard: Heard) -> None:
    connection, wire = connected(heard)
    connection.data_received(GET + b"GARBAGE\r\n\r\n")
    await await_until(lambda: wire.closed)
    assert (count(wire, 200), count(wire, 400)) == (1, 0)


async def test_garbage_in_a_body_ends_it_and_nothing_is_run(heard: Heard) -> None:
    connection, wire = connected(heard)
    connection.data_received(
        b"POST /jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    connection.data_received(b"2\r\n{}\r\nnonsense\r\n")
    await await_until(lambda: heard.left)
    assert wire.closed
    assert heard.asked == []
    assert count(wire, 400) == 1


async def test_trailers_are_no_headers_and_have_a_bound(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_SIZE", 10_000)
    head = b"POST /jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    connection, wire = connected(heard)
    connection.data_received(head + b"Authorization: me\r\n\r\n")
    await await_until(lambda: count(wire, 200))
    [(_, body, headers)] = heard.asked
    assert body == b"{}"
    assert b"authorization" not in headers
    connection.data_received(head)
    for _ in range(2_000):
        connection.data_received(b"a: b\r\n")
    await await_until(lambda: wire.closed)
    assert len(heard.asked) == 1


@pytest.mark.parametrize("whole", [False, True])
async def test_a_head_has_a_bound(heard: Heard, whole: bool) -> None:
    connection, wire = connected(heard)
    head = GET[:-2] + b"x: y\r\n" * 20_000 + b"\r\n"
    connection.data_received(head if whole else head[:-4])
    assert wire.closed
    assert count(wire, 400) == 1
    assert heard.asked == []


async def test_connect_is_refused(heard: Heard) -> None:
    connection, wire = connected(heard)
    connection.data_received(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    await await_until(lambda: wire.closed)
    assert (heard.asked, count(wire, 400)) == ([], 1)


async def test_who_waits_for_an_answer_and_leaves_is_missed_also_with_more_behind(
    heard: Heard,
) -> None:
    heard.may_answer.clear()
    connection, _ = connected(heard)
    connection.data_received(GET + GET)
    await await_until(lambda: heard.asked)
    connection.connection_lost(None)
    await await_until(lambda: heard.left)


async def test_who_sends_no_body_is_left_also_behind_another_request(heard: Heard) -> None:
    connection, wire = connected(heard)
    connection.data_received(GET)
    await await_until(lambda: count(wire, 200))
    connection.data_received(b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    connection.leave_when_late(1e12)
    assert wire.aborted


async def test_who_does_not_read_is_left(heard: Heard) -> None:
    heard.may_answer.clear()
    connection, wire = connected(heard)
    connection.data_received(GET)
    connection.pause_writing()
    connection.resume_writing()
    connection.leave_when_late(1e12)
    assert not wire.aborted
    connection.pause_writing()
    connection.leave_when_late(1e12)
    assert wire.aborted
