"""A TCP proxy before a server, which fails when it is told to: networks as they are.

It runs in threads, so that blocking and awaited clients can be tested alike. A fault hits one
request and then is over; requests are told apart by the reads that they arrive in, which holds for
a client that waits for each answer.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal[
    "cut",  # the request is not forwarded, and the connection ends
    "swallow",  # the server answers, the answer goes nowhere, and the connection ends
    "break",  # the answer ends before its last bytes, and with it the connection
    "hold",  # the server answers, the answer goes nowhere, and the connection stays
]

_CHUNK = 1 << 20


class Proxy:
    """Forwards to one server.

    Attributes:
        url: how to reach the server through the proxy.
        delay_s: how much later every answer comes.
        connections: how many there have been so far.
        failures: how many requests have failed so far.
    """

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = target._replace(netloc=f"127.0.0.1:{port}").geturl()
        self.delay_s = 0.0
        self.connections = self.failures = 0
        self._fault: Fault | None = None
        self._part = b""
        self._lock = threading.Lock()
        self._wake, self._stop = socket.socketpair()  # readable once the proxy is to end
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="proxy")]
        self._threads[0].start()

    def fail_next(self, fault: Fault, part: bytes = b"") -> None:
        """Let the next request fail so; ``part``: the next one in which these bytes stand."""
        with self._lock:
            self._fault, self._part = fault, part

    def close(self) -> None:
        """End all connections."""
        self._ending.set()
        self._stop.close()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._wake.close()

    def _accept(self) -> None:
        while self._wake not in (ready := self._ready(self._listener)):
            client = ready[0].accept()[0]
            self.connections += 1
            thread = threading.Thread(target=self._forward, args=(client,), name="proxied")
            self._threads.append(thread)
            thread.start()

    def _forward(self, client: socket.socket) -> None:
        with closing(client), socket.create_connection(self._target) as server:
            fault: Fault | None = None
            try:
                while self._wake not in (ready := self._ready(client, server)):
                    data = ready[0].recv(_CHUNK)
                    if not data:
                        return
                    if ready[0] is client:
                        fault = self._take(data) or fault
                        if fault == "cut":
                            return
                        server.sendall(data)
                    elif fault == "swallow":
                        return
                    elif fault == "break":
                        client.sendall(data[:-3])
                        return
                    elif fault is None:
                        self._ending.wait(self.delay_s)
                        client.sendall(data)
            except OSError:
                return  # one end is gone: so is the other, as we leave

    def _ready(self, *sockets: socket.socket) -> list[socket.socket]:
        return select.select([self._wake, *sockets], [], [])[0]

    def _take(self, request: bytes) -> Fault | None:
        with self._lock:
            if self._fault is None or self._part not in request:
                return None
            fault, self._fault = self._fault, None
            self.failures += 1
        return fault


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Give a proxy before the server at ``url``."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
