"""The connections of the HTTP server: how many there may be, and how long each may keep us waiting.

uvicorn knows how long a connection may be idle between two requests, and can answer 503 to whoever
comes last. That would be the probe that asks whether we are ready, while hundreds of half-sent
requests stay. So here whoever has kept us waiting longest leaves first, and nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import socket
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from headrace.clock import monotonic
from headrace.web.answers import encode
from headrace.web.guard import SEALS
from headrace.web.limits import MAX_BODY
from headrace.web.problems import MEDIA_TYPE, content_of

HEAD_S: Final = 10.0  # until a connection has sent the head of a request
BODY_S: Final = 30.0  # and then its body: 8 MiB at 280 kB/s
READ_S: Final = 20.0  # that it may leave an answer unread

MAX_HEAD: Final = 64 << 10  # bytes of a request's head
MAX_SIZE: Final = (
    4 * MAX_BODY
)  # bytes of all that follows it: chunks have heads, too, and trailers no bound
_END: Final = b"\r\n\r\n"
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
"""Java's client asks for HTTP/2 with its first request, by default. As RFC 9110, 7.8, has it, a server may
pass that over; the parser would drop the body instead."""

ACCEPTED_AT_ONCE: Final = 8
"""Connections that are accepted before any of them is looked at. asyncio takes as many as the backlog
is long, and they all have descriptors by then."""

_MOST: Final = 768
_LEAST: Final = 16
# Redis (16 requests and a few of our own), files, and four turns of the loop full of new connections:
# one that leaves keeps its descriptor for so long.
_RESERVED: Final = 96

_SAID: Final = 5  # lines of one kind …
_SAID_WITHIN_S: Final = 60.0  # … in so long


def most_connections() -> int:
    """Return how many connections there may be, so that descriptors are left for the rest."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(_LEAST, min(_MOST, soft - _RESERVED))


class Connection(HttpToolsProtocol):
    """One connection, with one request at a time. uvicorn's ``limit_concurrency`` says how many there may be.

    What follows a request before its answer is not read: the connection closes with that answer, and
    whoever sends requests ahead sends the others again (RFC 9112, 9.3.2).

    Attributes:
        since: since when it has been in the state that it is in (monotonic).
    """

    def __init__(
        self,
        config: Any,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most = self.limit_concurrency
        self.limit_concurrency: int | None = None  # we say no, not uvicorn
        self.since: float = 0.0
        self._head: bytes | None = b""  # what has come of a head; None: it is whole
        self._size = 0  # bytes of the request that is read
        self._deaf = False  # nothing more is read
        self._body_since: float | None = None
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; where it is one too many, another leaves, or this one."""
        super().connection_made(transport)
        # Else the second part of an answer waits 40 ms for word of the first. asyncio does so by itself
        # only where a socket says that it is TCP, which those of ``socket.create_server`` do not.
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = monotonic()
        if self._most is not None and len(self.connections) > self._most:
            others = (one for one in _ours(self.connections) if one is not self)
            min(others, key=lambda one: one.patience, default=self).make_room(self)

    def data_received(self, data: bytes) -> None:
        """Read what has come, and note since when a request waits for its body."""
        if self._deaf:
            return
        if self._head is not None:
            self._head += data
            # Whole, before the parser sees any of it: so it is certain what belongs to it.
            head, end, data = self._head.partition(_END)
            if len(head) > MAX_HEAD:
                self._refuse(f"the head of a request is over {MAX_HEAD:,} bytes")
            elif end:
                self._head = b""
                super().data_received(_UPGRADE.sub(b"", head) + end)
            if not end or self._deaf:
                return
        self._size += len(data)
        if self._size > MAX_SIZE:
            self._refuse(f"a request is over {MAX_SIZE:,} bytes")
        elif data:
            super().data_received(data)
        self._body_since = (self._body_since or monotonic()) if self._awaits_body else None

    def on_message_begin(self) -> None:
        """Begin to read a request.

        Raises:
            ValueError: the one before is not answered yet.
        """
        if self._answers:
            raise ValueError("one request at a time")
        self._size = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those that follow a body are passed over."""
        if self._head is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with a request.

        Raises:
            ValueError: it is not for us (CONNECT): the parser would drop its body.
        """
        if self.parser.should_upgrade():
            raise ValueError("another protocol")
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the head of another."""
        super().on_message_complete()
        self._head = b""

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.since, self._body_since = monotonic(), None
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that nobody reads what was sent."""
        super().pause_writing()
        self._unread_since = monotonic()

    def resume_writing(self) -> None:
        """Note that somebody reads again."""
        super().resume_writing()
        self._unread_since = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is answered.

        A request that has come whole is answered first, and then the connection closes.
        """
        self._deaf = True
        if self._answers and not self.cycle.more_body:
            self.cycle.keep_alive = False
            return
        if self._answers:  # its body has no end: who reads it hears that, and nothing has happened
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not (self._answers and self.cycle.response_started):
            body = encode(content_of("invalid", msg))
            headers = {
                **SEALS,
                b"content-type": MEDIA_TYPE.encode(),
                b"content-length": b"%d" % len(body),
                b"connection": b"close",
            }
            lines = [b"%b: %b\r\n" % header for header in headers.items()]
            self.transport.write(b"".join([STATUS_LINE[400], *lines, b"\r\n", body]))
        self.transport.close()

    def _refuse(self, says: str) -> None:
        self.logger.warning("Invalid HTTP request received.")
        self.send_400_response(says)

    @property
    def _answers(self) -> bool:
        """Whether a request is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _awaits_body(self) -> bool:
        return self._answers and self.cycle.more_body

    @property
    def patience(self) -> tuple[int, float]:
        """How late its turn to leave comes: whoever waits for less, and has for longer, goes first."""
        if not self._answers:
            return 0, self.since
        if self._body_since is not None:
            return 1, self._body_since
        if self._unread_since is not None:
            return 2, self._unread_since
        return 3, 0.0

    def make_room(self, newcomer: Connection) -> None:
        """Leave, unless a request is being worked on: then the newcomer leaves."""
        working = self.patience[0] == 3
        (newcomer if working else self).leave()

    def leave_when_late(self, now: float) -> None:
        """Leave if the peer has kept us waiting for too long."""
        state, since = self.patience
        if state < 3 and now - since > (HEAD_S, BODY_S, READ_S)[state]:
            self.leave()

    def leave(self) -> None:
        """Close at once, whatever is still to be sent."""
        self.connections.discard(self)  # it is counted no more, though it closes a turn later
        self.transport.abort()


def hurry(connections: Iterable[Any]) -> None:
    """Let all leave that have kept us waiting for too long."""
    now = monotonic()
    for one in list(_ours(connections)):
        one.leave_when_late(now)


def _ours(connections: Iterable[Any]) -> Iterable[Connection]:
    return (one for one in connections if isinstance(one, Connection))


class Sparing(logging.Filter):
    """Lets pass a few lines of one kind a minute, and then says how many it kept back."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        kind = (record.name, str(record.msg)[:100])
        now = monotonic()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since > _SAID_WITHIN_S:
            if count > _SAID:
                record.msg = f"{record.msg} ({count - _SAID} more of these since the last)"
            since, count = now, 0
        self._kinds[kind] = (since, count + 1)
        return count < _SAID
