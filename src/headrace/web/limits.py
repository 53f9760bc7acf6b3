"""How much is worked on at once: requests, streams, bytes of bodies. Whoever comes later waits, or gets 503.

A request that asks Redis takes a connection to it, so a descriptor and memory for the answer. The
probes have turns of their own: they are answered also when everybody else has to wait; so have enqueues.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.web.problems import problem
from headrace.web.routing import path_of

MAX_BODY: Final = 8 << 20  # bytes: several jobs of the largest size, or very many small ones
MAX_BODIES: Final = 4 * MAX_BODY  # of all requests together …
SMALL_BODY: Final = 64 << 10
"""… so many bytes of each not counted: whoever sends a job is not refused because others send much."""

MAX_STREAMS: Final = 64
MAX_REQUESTS: Final = 16
MAX_PROBES: Final = 4
MAX_ENQUEUES: Final = 64
"""Their bodies are counted, and Redis answers with a word: the more travel together, the less each costs."""
MAX_POLLS: Final = 512
"""They may wait long, and ask Redis for hardly anything meanwhile."""

WAIT_S: Final = 5.0
"""How long a request waits for its turn."""

PROBES: Final = frozenset({"/healthz", "/readyz"})
ENQUEUES: Final = frozenset({"/api/v1/jobs"})
POLLS: Final = frozenset({"/api/v1/claims"})
STREAMS: Final = frozenset({"/api/v1/events"})


class Limits:
    """Lets so many requests in at a time, each with its whole body.

    Attributes:
        bytes: what counts of all bodies that are held.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(MAX_REQUESTS)
        self._turns_of: dict[str, asyncio.Semaphore] = {}
        for paths, most in ((PROBES, MAX_PROBES), (ENQUEUES, MAX_ENQUEUES), (POLLS, MAX_POLLS)):
            self._turns_of |= dict.fromkeys(paths, asyncio.Semaphore(most))
        self._streams = 0
        self.bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if path_of(scope) in STREAMS:
            await self._stream(scope, receive, send)
            return
        held = _Held(self)
        try:
            if scope["method"] in {"GET", "HEAD"}:
                await self._in_turn(scope, receive, send, held)
            else:
                await self._with_body(scope, receive, send, held)
        finally:
            held.give_back()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._streams >= MAX_STREAMS:
            says = (
                f"there are {MAX_STREAMS} streams already: close one, or ask /api/v1/queues instead"
            )
            await _busy(scope, says)(scope, receive, send)
            return
        self._streams += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._streams -= 1

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send, held: _Held) -> None:
        """Handle a request in its turn; what is held for it is given back when there is an answer.

        To be read may take an answer long, or for ever, and keeps nobody else waiting.
        """
        turns = self._turns_of.get(path_of(scope), self._turns)
        if not await _taken(turns):
            held.give_back()
            says = f"there are too many requests: nobody could look at it within {WAIT_S:g} s"
            await _busy(scope, f"{says}. Try again later")(scope, receive, send)
            return
        held.turns = turns

        async def answered(message: Message) -> None:
            held.give_back()
            await send(message)

        await self._app(scope, receive, answered)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, held: _Held) -> None:
        """Read the body before the request's turn: a slow sender keeps nobody else waiting."""
        body = bytearray()
        try:
            refused = await self._read(scope, receive, body, held)
        except ClientDisconnect:
            return
        if refused is not None:
            held.give_back()
            await refused(scope, receive, send)
            return
        given = _given(bytes(body), receive)
        body.clear()
        await self._in_turn(scope, given, send, held)

    async def _read(
        self, scope: Scope, receive: Receive, body: bytearray, held: _Held
    ) -> Response | None:
        """Read a body; give the answer that refuses it, if it is too much."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            if len(body) + len(part) > MAX_BODY:
                says = f"the body is over {MAX_BODY:,} bytes: send fewer jobs at a time"
                return problem("too-large", says)
            more = _large(len(body) + len(part)) - _large(len(body))
            if more and self.bytes + more > MAX_BODIES:
                return _busy(
                    scope, "there are too many requests with large bodies. Try again later"
                )
            body += part
            self.bytes += more
            held.bytes += more
            if not message.get("more_body", False):
                return None


class _Held:
    """What is held for one request until it has an answer: its turn, and what counts of its body."""

    __slots__ = ("_limits", "bytes", "turns")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.bytes = 0
        self.turns: asyncio.Semaphore | None = None

    def give_back(self) -> None:
        """Give it back; once, however often it is asked to."""
        self._limits.bytes -= self.bytes
        self.bytes = 0
        if self.turns is not None:
            self.turns.release()
            self.turns = None


async def _taken(turns: asyncio.Semaphore) -> bool:
    """Wait for a turn; return whether there was one in time."""
    if not turns.locked():  # it is taken at once: the bound would cost more than that
        return await turns.acquire()
    try:
        async with asyncio.timeout(WAIT_S):
            return await turns.acquire()
    except TimeoutError:
        return False


def _large(size: int) -> int:
    """Return what counts of a body of so many bytes."""
    return max(0, size - SMALL_BODY)


def _given(body: bytes, receive: Receive) -> Receive:
    """Return what a body that is here already is received by, and then what else comes."""
    whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def read() -> Message:
        nonlocal whole
        message, whole = whole, None
        return message or await receive()

    return read


def _busy(scope: Scope, says: str) -> Response:
    more: dict[str, Any] = {}
    if scope["method"] != "GET":  # as every 503 to jobs that were sent
        more = {"accepted": [], "may_have_been_accepted": False}
    response = problem("busy", says, **more)
    response.headers["Retry-After"] = "1"
    return response
