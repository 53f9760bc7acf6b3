"""The laboratory's hosts have addresses of their own, and the wire does to packets what it was told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from headrace import operations as op
from headrace.embedded import EmbeddedServer
from headrace.errors import StoreUnavailable
from headrace.keys import keys_of
from headrace.store import Store
from tests.faults import namespaces
from tests.faults.hosts import Hosts, Line
from tests.support.processes import ROOT
from tests.support.servers import private_server
from tests.support.wait import bound, wait_until

K = keys_of("queue")
JOB = b'{"id":"job-1","task":"quick","args":[1,2]}'
V = TypeVar("V")

_WIRE = """
import sys
from pathlib import Path
from tests.faults.hosts import WireRole
WireRole("wire", "", Path(), hosts=2, control=Path(sys.argv[1])).run()
"""


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> Iterator[Hosts]:
    if reason := namespaces.why_not():
        pytest.skip(reason)
    control = tmp_path / "wire"
    wire = subprocess.Popen([sys.executable, "-c", _WIRE, str(control)], cwd=ROOT)
    try:
        wait_until(control.exists, "the wire is laid")
        yield Hosts(wire.pid, control)
    finally:
        wire.terminate()
        assert wire.wait() == 0


@pytest.fixture(name="server")
def _server(hosts: Hosts, tmp_path: Path) -> Iterator[EmbeddedServer]:
    listening = ("--bind", "127.0.0.1", hosts.address, "--protected-mode", "no")
    with private_server(tmp_path / "data", extra_args=listening) as server:
        yield server


def on(hosts: Hosts, host: int, call: Callable[[], V]) -> V:
    """Call a function on a host: in a thread, for the kernel moves threads."""

    def there() -> V:
        namespaces.enter(hosts.namespace(host))
        return call()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(there).result()


def enqueue(hosts: Hosts, host: int, port: int, *, timeout_s: float = 2.0) -> None:
    def call() -> None:
        store = Store(f"redis://{hosts.address}:{port}/0", timeout_s=bound(timeout_s))
        try:
            store.run(op.enqueue(K, [JOB]))
        finally:
            store.close()

    on(hosts, host, call)


def waiting(server: EmbeddedServer) -> int:
    store = Store(server.url)
    try:
        return len(store.run(op.peek(K.pending, 0, -1)))
    finally:
        store.close()


def test_a_host_that_is_cut_off_does_not_reach_the_server_and_others_do(
    hosts: Hosts, server: EmbeddedServer
) -> None:
    enqueue(hosts, 0, server.port)
    hosts.spoil(0, Line(requests=1.0, answers=1.0))
    with pytest.raises(StoreUnavailable):
        enqueue(hosts, 0, server.port)
    enqueue(hosts, 1, server.port)
    assert waiting(server) == 2
    assert hosts.lost
    hosts.heal()
    enqueue(hosts, 0, server.port)
    assert waiting(server) == 3


def test_a_host_is_cut_off_from_one_server_alone(hosts: Hosts, server: EmbeddedServer) -> None:
    hosts.spoil(0, Line(requests=1.0), port=server.port + 1)
    enqueue(hosts, 0, server.port)
    hosts.spoil(0, Line(requests=1.0), port=server.port)
    with pytest.raises(StoreUnavailable):
        enqueue(hosts, 0, server.port)
    assert waiting(server) == 1


def test_what_is_lost_now_and_then_is_sent_again(hosts: Hosts, server: EmbeddedServer) -> None:
    hosts.spoil(0, Line(requests=0.1, answers=0.1, delay_s=0.001))
    for _ in range(5):
        # The kernel sends a lost connect again after 1, 3, 7 and 15 s.
        enqueue(hosts, 0, server.port, timeout_s=30)
    assert waiting(server) == 5
    hosts.heal()
