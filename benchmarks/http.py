"""The HTTP API under load: ``python -m benchmarks.http [--seconds N] [--rounds N] [--json FILE]``.

A server, its Redis and the clients share the machine. Jobs come one in a request, over 64 connections
that are kept open, and 100 in a request, over 4; 500 claims wait, and then 500 jobs come; then pages and listings
are asked for while 1,000,000 jobs wait. Beside the first two stands what one Python process enqueues by itself on the same Redis, in the same round:
the ratio is what HTTP costs. The exit code is 1 when a limit is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from benchmarks import report
from benchmarks.arena import Arena
from benchmarks.features import APP
from benchmarks.flow import consumers, done, until
from benchmarks.queues import cpu_s, serving
from headrace import Headrace

PENDING: Final = 1_000_000
LOOKS: Final = 15  # of each page
POLLS: Final = 500  # claims that wait at once
AT_LEAST: Final = {"POST one job, requests/s": 5_000.0, "POST 100 jobs, jobs/s": 100_000.0}
PACE: Final = 10_000  # jobs a second that pass the server by
AT_MOST: Final = {"server beside them, of a core": 0.05}
AT_MOST_S: Final = 0.2  # a page while PENDING jobs wait
_ASKED: Final = (
    "/",
    "/metrics",
    "/api/v1/queues",
    "/api/v1/queues/queue/jobs?place=pending&limit=100",
    "/api/v1/dead-letters?queue=queue",
    "/api/v1/scale?queue=queue",
    "/api/v1/consumers",
)


def request_of(path: str, body: bytes = b"") -> bytes:
    """Write a request as it travels."""
    method = b"POST" if body else b"GET"
    head = b"%b %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (method, path.encode(), len(body)) + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send a request and read its answer; return its status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split(b" ", 2)[1])


class _Sender(asyncio.Protocol):
    """A client that costs little beside the server: sends a request again when it is answered."""

    def __init__(self, request: bytes, ends: float) -> None:
        self.sent = 0
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._ends = ends
        self._answer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        if not end or len(body) < int(length):
            return
        assert head.startswith(b"HTTP/1.1 202"), head
        self.sent, self._answer = self.sent + 1, b""
        if time.monotonic() < self._ends:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(self.sent)


async def _send(port: int, request: bytes, connections: int, seconds: float) -> int:
    loop, ends = asyncio.get_running_loop(), time.monotonic() + seconds
    senders = []
    for _ in range(connections):
        _, sender = await loop.create_connection(lambda: _Sender(request, ends), "127.0.0.1", port)
        senders.append(sender)
    return sum([await sender.done for sender in senders])


def send(port: int, request: bytes, connections: int, seconds: float) -> int:
    """Send a request again and again; return how often."""
    return uvloop.run(_send(port, request, connections, seconds))


async def _enqueue(url: str, many: int, at_once: int, seconds: float) -> int:
    app = Headrace(url)
    ends = time.monotonic() + seconds

    async def one() -> int:
        count = 0
        while time.monotonic() < ends:
            await app.aenqueue_many([app.call_with("nothing", (1,), {}, {}) for _ in range(many)])
            count += 1
        return count

    count = sum(await asyncio.gather(*(one() for _ in range(at_once))))
    await app.aclose()
    return count


def enqueue(url: str, many: int, at_once: int, seconds: float) -> int:
    """Enqueue as the server does, without HTTP; return how often."""
    return asyncio.run(_enqueue(url, many, at_once, seconds))


def load(arena: Arena, pool: Pool, seconds: float) -> dict[str, float]:
    """Measure one round of requests that enqueue."""
    numbers = {}
    for name, jobs, at_once in (("one job, requests/s", 1, 64), ("100 jobs, jobs/s", 100, 4)):
        arena.empty()
        job = {"task": "nothing", "args": [1]}
        body = json.dumps(job if jobs == 1 else [job] * jobs).encode()
        with serving(arena.url) as (pid, address):
            port = urlsplit(address).port
            before, since = cpu_s(pid), time.monotonic()
            sent = pool.apply(send, (port, request_of("/api/v1/jobs", body), at_once, seconds))
            took_s = time.monotonic() - since
            numbers[f"POST {name}"] = sent * jobs / took_s
            numbers[f"POST {name}: server, of a core"] = (cpu_s(pid) - before) / took_s
        assert arena.redis.llen("queue") == sent * jobs
        arena.empty()
        alone = pool.apply(enqueue, (arena.url, jobs, at_once, seconds))
        numbers[f"POST {name}: of what Python enqueues"] = (
            sent * jobs / took_s / (alone * jobs / seconds)
        )
    return numbers


async def _wait(port: int, pid: int, seconds: float) -> dict[str, float]:
    wanted = json.dumps({"consumer": "c", "queues": ["queue"], "wait": 60}).encode()
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(POLLS)]
    request = request_of("/api/v1/claims", wanted)
    polls = [asyncio.create_task(ask(*client, request)) for client in clients]
    await asyncio.sleep(seconds)  # until all have asked Redis once
    before, since = cpu_s(pid), time.monotonic()
    await asyncio.sleep(seconds)
    idle = (cpu_s(pid) - before) / (time.monotonic() - since)
    ready_s = statistics.median(await _times(port, "/readyz"))
    jobs = request_of("/api/v1/jobs", json.dumps([{"task": "nothing"}] * POLLS).encode())
    client, began = await asyncio.open_connection("127.0.0.1", port), time.perf_counter()
    assert await ask(*client, jobs) == 202
    assert set(await asyncio.gather(*polls)) == {200}
    took_s = time.perf_counter() - began
    for _, writer in [*clients, client]:
        writer.close()
    return {
        f"{POLLS} claims wait: server, of a core": idle,
        f"{POLLS} claims wait: GET /readyz, s": ready_s,
        f"{POLLS} jobs to {POLLS} claims that wait, s": took_s,
    }


def waits(arena: Arena, seconds: float) -> dict[str, float]:
    """Measure what it is to let very many claims wait, and then to answer them."""
    arena.empty()
    with serving(arena.url) as (pid, address):
        port = urlsplit(address).port
        assert port is not None
        return asyncio.run(_wait(port, pid, seconds))


def _pace(url: str, seconds: float) -> int:
    """Enqueue PACE jobs a second, evenly; return how many."""
    app, began, count = Headrace(url), time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        if due := int(passed * PACE) - count:
            app.enqueue_many(
                app.call_with("plain", (1,), {}, {"queue": "plain"}) for _ in range(due)
            )
            count += due
        time.sleep(0.01)
    app.close()
    return count


def _waits(arena: Arena) -> bool:
    return any(one["cmd"] == "blmove" for one in arena.redis.client_list())


def beside(arena: Arena, pool: Pool, seconds: float) -> dict[str, float]:
    """Measure what the server uses while jobs pass it by: it counts them, and takes part in the lead."""
    arena.empty()
    with serving(arena.url) as (pid, _), consumers(arena, APP, "plain", 1):
        until(lambda: _waits(arena), "a consumer waits")
        before, since = cpu_s(pid), time.monotonic()
        sent = pool.apply(_pace, (arena.url, seconds))
        used = (cpu_s(pid) - before) / (time.monotonic() - since)
        until(lambda: done(arena, "plain") >= sent, "all have run")
    return {
        "jobs that pass the server by, jobs/s": sent / seconds,
        "server beside them, of a core": used,
    }


async def _times(port: int, path: str) -> list[float]:
    times = []
    for _ in range(LOOKS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        assert await ask(reader, writer, request_of(path)) == 200, path
        times.append(time.perf_counter() - began)
        writer.close()
    return times


def looks(arena: Arena) -> dict[str, float]:
    """Measure how long pages and listings take while very many jobs wait."""
    arena.empty()
    app = Headrace(arena.url)
    app.enqueue_many(app.call_with("nothing", (n,), {}, {}) for n in range(PENDING))
    app.close()
    with serving(arena.url) as (_, address):
        port = urlsplit(address).port
        assert port is not None
        return {
            f"GET {path}, s": statistics.median(asyncio.run(_times(port, path))) for path in _ASKED
        }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load in each case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(argv)
    with Arena(aof=True) as arena, get_context("spawn").Pool(1) as pool:
        rounds = [
            load(arena, pool, options.seconds)
            | waits(arena, options.seconds)
            | beside(arena, pool, options.seconds)
            for _ in range(options.rounds)
        ]
        pages = looks(arena)
    missed = False
    for name in rounds[0]:
        values = sorted(one[name] for one in rounds)
        low, high = AT_LEAST.get(name, 0.0), AT_MOST.get(name, math.inf)
        missed |= (wrong := not low <= values[len(values) // 2] <= high)
        limit = f" at least {low:g}" if low else f" at most {high:g}" if high < math.inf else ""
        limit += "  MISSED" if wrong else ""
        print(f"{name:<56}{report.spread(values, 2):<34}{limit}")
    for name, value in pages.items():
        missed |= (slow := value > AT_MOST_S)
        print(f"{name:<56}{value:<34.3f} at most {AT_MOST_S:g}{'  EXCEEDED' if slow else ''}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([*rounds, pages], indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
