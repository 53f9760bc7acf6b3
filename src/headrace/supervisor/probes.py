"""``GET /healthz`` and ``GET /readyz``: how a supervisor answers the probes of an orchestrator.

It answers from a thread of a process that runs no jobs, so whatever a job does cannot hold up the
answer; and whoever asks slowly, or not at all, is waited for by that thread alone, for a while.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Final

from headrace.clock import now_ms
from headrace.supervisor.health import Health

log: logging.Logger = logging.getLogger("headrace.consumer")

_REQUEST_S: Final = 5.0  # that a request and its answer may take: probes wait for less
_HEAD_BYTES: Final = 8192
_MOST: Final = 32  # connections at once; then the one that has been there longest leaves

_GOOD: Final[dict[str, Callable[[Health], bool]]] = {
    "/healthz": lambda health: health.healthy,
    "/readyz": lambda health: health.ready,
}


@contextmanager
def answering(listener: socket.socket, look: Callable[[], Health]) -> Iterator[None]:
    """Answer probes until the block is left.

    Args:
        listener: where they come in; closed at the end.
        look: how the workers are now. Called in another thread.
    """
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_Probes(look).serve(listener, end))

    thread = threading.Thread(target=serve, name="headrace-probes", daemon=True)
    thread.start()
    host, port = listener.getsockname()[:2]
    log.info("probes are answered at %s, port %d: /healthz and /readyz", host, port)
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(end.set)
        thread.join()


def answer(head: bytes, health: Health) -> bytes:
    """Return the whole answer to a request.

    Args:
        head: the request, up to the empty line.
        health: how the workers are.
    """
    method, target, *_ = [*head.decode("latin-1").split("\r\n", 1)[0].split(" "), "", ""]
    good = _GOOD.get(target.partition("?")[0])
    if good is None:
        status, said = HTTPStatus.NOT_FOUND, {"error": f"there are {' and '.join(_GOOD)}"}
    elif method not in ("GET", "HEAD"):
        status, said = HTTPStatus.METHOD_NOT_ALLOWED, {"error": "use GET or HEAD"}
    else:
        status = HTTPStatus.OK if good(health) else HTTPStatus.SERVICE_UNAVAILABLE
        said = health.as_json(now_ms())
    body = json.dumps(said).encode() + b"\n"
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        *(("Allow: GET, HEAD",) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()),
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if method == "HEAD" else body)


class _Probes:
    def __init__(self, look: Callable[[], Health]) -> None:
        self._look = look
        self._connected: dict[asyncio.StreamWriter, None] = {}  # the first has been here longest

    async def serve(self, listener: socket.socket, end: asyncio.Event) -> None:
        server = await asyncio.start_server(self._connect, sock=listener, limit=_HEAD_BYTES)
        await end.wait()
        server.close()
        for writer in self._connected:
            writer.transport.abort()
        await asyncio.sleep(0)  # sockets are closed a turn later

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connected) >= _MOST:
            longest = next(iter(self._connected))
            del self._connected[longest]
            longest.transport.abort()
        self._connected[writer] = None
        writer.transport.set_write_buffer_limits(0)  # then to drain is to have sent everything
        try:
            async with asyncio.timeout(_REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(head, self._look()))
                await writer.drain()
            writer.close()
        except (OSError, EOFError, asyncio.LimitOverrunError):  # a time that is over is an OSError
            with suppress(RuntimeError):
                writer.transport.abort()
        finally:
            self._connected.pop(writer, None)
