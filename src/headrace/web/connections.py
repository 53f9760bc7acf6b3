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
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from headrace.clock import monotonic
from headrace.web.answers import encode
from headrace.web.guard import SECURITY_HEADERS
from headrace.web.problems import MEDIA_TYPE, content_of

HEAD_S: Final = 10.0  # until a connection has sent the head of a request
BODY_S: Final = 30.0  # and then its body: 8 MiB at 280 kB/s
READ_S: Final = 20.0  # that it may leave an answer unread

MAX_HEAD: Final = 64 << 10  # bytes of a request's head, and what came at once with its end
MAX_PIPELINED: Final = 32  # requests of a connection that wait for the answer to another one
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

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
    """One connection. uvicorn's ``limit_concurrency`` says how many there may be.

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
        self._head: int | None = 0  # bytes of a head that has begun; None: it is whole
        self._body_since: float | None = None
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; where it is one too many, another leaves, or this one."""
        super().connection_made(transport)
        self.since = monotonic()
        if self._most is not None and len(self.connections) > self._most:
            others = (one for one in _ours(self.connections) if one is not self)
            min(others, key=lambda one: one.patience, default=self).make_room(self)

    def data_received(self, data: bytes) -> None:
        """Read what has come, and note since when a request waits for its body.

        Whoever asks for another protocol (Java's client asks for HTTP/2, by default) is answered in
        this one: as RFC 9110 section 7.8 has it, that is ignored. Else the parser would drop the body.
        """
        if self._head is not None:
            self._head += len(data)
            head, end, body = data.partition(b"\r\n\r\n")
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(b"", head) + end + body
        super().data_received(data)
        if (self._head or 0) > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"the head of a request is over {MAX_HEAD:,} bytes")
        waits = self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body
        self._body_since = (self._body_since or monotonic()) if waits else None

    def on_message_begin(self) -> None:
        """Begin to read a request.

        Raises:
            ValueError: very many wait for the answer to the first: nothing else would run meanwhile.
        """
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin with a request."""
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for the head of another."""
        super().on_message_complete()
        self._head = 0

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
        """Answer what is no HTTP as everything else is answered; unless another answer is on its way."""
        answers = self.cycle is not None and not self.cycle.response_complete
        if not self.pipeline and not (answers and self.cycle.response_started):
            body = encode(content_of("invalid", msg))
            headers = {**SECURITY_HEADERS, "Content-Type": MEDIA_TYPE, "Connection": "close"}
            headers["Content-Length"] = str(len(body))
            lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
            self.transport.write(b"".join([STATUS_LINE[400], *lines, b"\r\n", body]))
        self.transport.close()

    @property
    def patience(self) -> tuple[int, float]:
        """How late its turn to leave comes: whoever waits for less, and has for longer, goes first."""
        if self.cycle is None or self.cycle.response_complete:
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
