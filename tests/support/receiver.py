"""A receiver of webhooks: a real HTTP server in a thread, that answers as it is told and keeps what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from headrace.webhooks.sending import signature


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def is_signed_with(self, secret: bytes) -> bool:
        at_s = int(self.headers["webhook-timestamp"])
        expected = signature(secret, self.id, at_s, self.body)
        return self.headers["webhook-signature"] == expected


class Receiver:
    """What was received.

    Attributes:
        answers: the status of the next answers, in order; then 204.
        got: the requests, in order.
        answering: requests are answered while it is set, as it is first.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook?from=headrace"
        self.answers: list[int] = []
        self.got: list[Received] = []
        self.answering = threading.Event()
        self.answering.set()

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.got]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Receive while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            named = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.answers.pop(0) if receiver.answers else 204
            receiver.got.append(Received(self.path, named, body))
            receiver.answering.wait()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", "/elsewhere")
            said = b"" if status == 204 else f"{self.path} was asked for".encode()
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answering.set()
        server.shutdown()
        thread.join()
        server.server_close()
