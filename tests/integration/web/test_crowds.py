"""Very many clients at once on a real server process, patient or hostile: others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from headrace.web.limits import MAX_STREAMS
from tests.support.serving import descriptors_of, server_process
from tests.support.wait import WAIT_S, await_until

PATIENCE_S = 3.0
"""What the server has for slow clients here: its own 10 to 30 s are too long for each of these tests."""

POLLS = 500
ROUNDS = 10
_SPARE = 100  # descriptors that the test needs beside its crowd

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc"
)

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Server = tuple[subprocess.Popen[bytes], int]


@pytest.fixture(autouse=True)
def room() -> Iterator[int]:
    """Let this process, and those that it starts, have as many descriptors as they may; give how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 14 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield max(soft, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def served(url: str, tmp_path: Path) -> Iterator[Server]:
    """Give a server; what it says is little, and no traceback."""
    log = tmp_path / "log"
    with server_process(url, log, patience_s=PATIENCE_S) as (running, port):
        yield running, port
        running.terminate()
        assert running.wait(WAIT_S) == 0
    assert log.stat().st_size < 10_000, log.read_text()
    assert b"Traceback" not in log.read_bytes()


def request_of(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def connect(port: int, **options: Any) -> Client:
    """Connect, and try again where the kernel's queue of new connections is full."""
    connected: list[Client] = []

    async def one() -> bool:
        with contextlib.suppress(OSError):
            connected.append(await asyncio.open_connection("127.0.0.1", port, **options))
        return bool(connected)

    await await_until(one, what="a connection")
    return connected[0]


async def ask(client: Client, request: bytes) -> tuple[int, Any]:
    """Send a request; give the status and the body of its answer."""
    reader, writer = client
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ", 2)[1]), json.loads(body)


async def others_are_served(port: int) -> None:
    """Ask as a probe, a producer and somebody who looks do, each time over a new connection."""
    base = f"http://127.0.0.1:{port}"
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/readyz", None),
        ("POST", "/api/v1/jobs", {"task": "t", "queue": "others"}),
        ("GET", "/", None),
    ]
    for method, path, body in asked:

        async def served(method: str = method, path: str = path, body: Any = body) -> bool:
            began = asyncio.get_running_loop().time()
            try:
                async with httpx.AsyncClient(base_url=base, timeout=WAIT_S) as client:
                    answer = await client.request(method, path, json=body)
            except (httpx.RemoteProtocolError, httpx.NetworkError):
                # On a machine that is far too busy we are too slow ourselves: then we ask again.
                assert asyncio.get_running_loop().time() - began >= PATIENCE_S
                return False
            assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:200]}"
            return True

        await await_until(served, what=f"{path} is answered")


async def test_five_hundred_claims_wait_and_each_gets_one_job(
    served: Server, redis: Redis, room: int
) -> None:
    (running, port), count = served, min(POLLS, room - _SPARE)
    wanted = {"consumer": "far", "queues": ["queue"], "wait": 60, "lease": 600}
    request = request_of("POST", "/api/v1/claims", json.dumps(wanted).encode())
    clients = [await connect(port) for _ in range(count)]

    async def poll(client: Client) -> dict[str, Any]:
        while True:  # on a machine that is far too busy 60 s are over before there is a job
            status, answer = await ask(client, request)
            assert status == 200, answer
            if answer["claims"]:
                (job,) = answer["claims"]
                found: dict[str, Any] = job
                return found

    def claims() -> int:
        return int(redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])

    before = claims()
    polls = [asyncio.create_task(poll(client)) for client in clients]
    await await_until(lambda: claims() - before >= count, what="each has asked Redis once")
    assert descriptors_of(running.pid) >= count
    for _ in range(ROUNDS):
        await others_are_served(port)
    assert not any(one.done() for one in polls)
    assert redis.info("clients")["blocked_clients"] <= 8  # whoever waits, they wait in few

    jobs = json.dumps([{"task": "t", "args": [n]} for n in range(count)]).encode()
    client = await connect(port)
    status, answer = await ask(client, request_of("POST", "/api/v1/jobs", jobs))
    assert status == 202, answer
    given = await asyncio.gather(*polls)
    assert sorted(job["args"][0] for job in given) == [*range(count)]
    assert len({job["id"] for job in given}) == count
    ends = [{key: job[key] for key in ("queue", "id", "claim")} | {"end": "ack"} for job in given]
    settled = request_of("POST", "/api/v1/claims/settle", json.dumps({"outcomes": ends}).encode())
    assert await ask(client, settled) == (200, {"lost": []})
    assert redis.hget("queue:stats", "done") == str(count).encode()
    assert not redis.exists("queue", "queue:processing", "queue:leases", "queue:claims")
    for _, writer in [*clients, client]:
        writer.close()


async def test_of_very_many_streams_as_many_as_there_may_be_are_served_and_the_others_told(
    served: Server,
) -> None:
    _, port = served
    clients = [await connect(port) for _ in range(3 * MAX_STREAMS)]

    async def status(client: Client) -> int:
        client[1].write(request_of("GET", "/api/v1/events"))
        return int((await client[0].readuntil(b"\r\n\r\n")).split(b" ", 2)[1])

    found = Counter(await asyncio.gather(*map(status, clients)))
    assert found == {200: MAX_STREAMS, 503: 2 * MAX_STREAMS}
    await others_are_served(port)
    for _, writer in clients:
        writer.close()


Hostile = Callable[[Client], Awaitable[None]]


async def trickle(client: Client, start: bytes) -> None:
    """Send something that never ends, byte by byte."""
    client[1].write(start)
    while True:
        client[1].write(b"a")
        await client[1].drain()
        await asyncio.sleep(0.2)


async def pour(client: Client, start: bytes, part: bytes) -> None:
    """Send something that never ends, as fast as it is taken."""
    client[1].write(start)
    while True:
        client[1].write(part)
        await client[1].drain()


async def trickling_head(client: Client) -> None:
    await trickle(client, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")


async def trickling_body(client: Client) -> None:
    head = "Content-Length: 1000000\r\nContent-Type: application/json\r\n"
    await trickle(client, request_of("POST", "/api/v1/jobs", headers=head) + b'{"task": "')


async def endless_head(client: Client) -> None:
    await pour(client, b"GET / HTTP/1.1\r\n", b"X-More: %b\r\n" % (b"a" * 1000))


async def endless_body(client: Client) -> None:
    head = "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
    chunk = b"10000\r\n%b\r\n" % (b" " * 0x10000)
    await pour(client, request_of("POST", "/api/v1/jobs", headers=head), chunk)


async def large_bodies(client: Client) -> None:
    """Send nearly all of the largest body, and never the rest."""
    head = "Content-Length: 8388608\r\nContent-Type: application/json\r\n"
    client[1].write(request_of("POST", "/api/v1/jobs", headers=head) + b" " * 8_000_000)
    await client[1].drain()
    await asyncio.Event().wait()


async def unread_pages(client: Client) -> None:
    """Ask for the largest page, one request at a time, and read nothing of what is answered."""
    while True:
        client[1].write(request_of("GET", "/api/v1/openapi.json"))
        await client[1].drain()
        await asyncio.sleep(0.05)


async def idle(_: Client) -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def crowd(port: int, count: int, does: Hostile) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Let so many clients do something; each ends when the server has left it."""

    async def one() -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            client = await asyncio.open_connection(sock=sock, limit=1024)
            doing = asyncio.ensure_future(does(client))
            lost = asyncio.ensure_future(_lost(client))
            try:
                await asyncio.wait({doing, lost}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (doing, lost):
                    task.cancel()
                await asyncio.gather(doing, lost, return_exceptions=True)
                client[1].transport.abort()
        sock.close()

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _lost(client: Client) -> None:
    """Return when the server has closed a connection, though nobody reads what it sent."""
    sock = client[1].get_extra_info("socket")
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1:  # it is established
        await asyncio.sleep(0.2)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("does", "count"),
    [
        (trickling_head, 1_000),
        (trickling_body, 1_000),
        (endless_head, 30),
        (endless_body, 30),
        (large_bodies, 12),
        (unread_pages, 20),
        (idle, 1_000),
    ],
)
async def test_others_are_served_and_who_is_slow_is_left(
    served: Server, room: int, does: Hostile, count: int
) -> None:
    running, port = served
    before = descriptors_of(running.pid) + 32  # of Redis, which it opens when it is asked much
    async with crowd(port, min(count, room - _SPARE), does) as tasks:
        while not all(task.done() for task in tasks):
            await others_are_served(port)
    await await_until(lambda: descriptors_of(running.pid) <= before, what="they have left")
    await others_are_served(port)
