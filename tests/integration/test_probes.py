"""The port for probes: answers come whoever else is connected, and however slowly they ask."""

from __future__ import annotations

import http.client
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from headrace.errors import InvalidSetting
from headrace.listening import listen
from headrace.supervisor import probes
from headrace.supervisor.health import Health, WorkerHealth
from tests.support.wait import WAIT_S, wait_until

HEALTHY = Health((WorkerHealth("a", "", 0.1, ready=True),), 1, stopping=False, queues="queue")


@pytest.fixture
def port() -> Iterator[int]:
    listener = listen("127.0.0.1", 0, "the health port")
    with probes.answering(listener, lambda: HEALTHY):
        yield listener.getsockname()[1]


def status(port: int, method: str = "GET") -> int:
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        asking.request(method, "/healthz")
        return asking.getresponse().status
    finally:
        asking.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)


def has_left(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_it_answers_and_closes_the_connection(port: int) -> None:
    with connect(port) as asking:
        asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: asking.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert status(port, "HEAD") == 200


def test_who_asks_slowly_or_half_or_nothing_holds_up_nobody(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_REQUEST_S", 600)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(3 * probes._MOST)]
        for index, one in enumerate(slow):
            if index % 2:
                one.sendall(b"GET /healthz HT")
        assert status(port) == 200
        # There is room for so many; those that came first have left.
        wait_until(lambda: sum(map(has_left, slow)) >= 2 * probes._MOST, "the first have left")
        assert not has_left(slow[-1])
        assert status(port) == 200


def test_who_does_not_get_on_has_to_leave(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_REQUEST_S", 0.05)
    with connect(port) as half, connect(port) as silent:
        half.sendall(b"GET /healthz HTTP/1.1\r\n")
        wait_until(lambda: has_left(half) and has_left(silent), "both have left")


@pytest.mark.parametrize("sent", [b"x" * 100_000, b"\r\n\r\n", b"\x16\x03\x01" + 600 * b"\r\n\r\n"])
def test_what_is_no_request_ends_its_own_connection_alone(
    port: int, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), connect(port) as asking:
        asking.sendall(sent)
        with suppress(ConnectionError):
            while asking.recv(4096):
                pass
        assert status(port) == 200
    assert not caplog.records


def test_it_ends_although_somebody_is_connected() -> None:
    listener = listen("127.0.0.1", 0, "the health port")
    with probes.answering(listener, lambda: HEALTHY):
        asking = connect(listener.getsockname()[1])
        asking.sendall(b"GET /")
        assert status(listener.getsockname()[1]) == 200
    with asking:
        wait_until(lambda: has_left(asking), "it has left")
    assert listener.fileno() == -1


def test_a_port_that_cannot_be_had_is_an_error_that_says_so() -> None:
    with listen("127.0.0.1", 0, "the health port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"port {port} of 127.0.0.1 cannot be had"):
            listen("127.0.0.1", port, "the health port")
    with pytest.raises(InvalidSetting, match="no-such-host.invalid cannot be had"):
        listen("no-such-host.invalid", 0, "the health port")
