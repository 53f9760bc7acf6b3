"""A web server: in the test's own loop, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx

from headrace import Headrace
from headrace.embedded.server import free_port
from headrace.web.server import serve
from tests.support.processes import ROOT, clean_environment
from tests.support.wait import WAIT_S, await_until, wait_until

_HURRIED = """
import sys
from headrace.web import connections
connections.HEAD_S = connections.BODY_S = connections.READ_S = float(sys.argv.pop(1))
from headrace.cli import main
sys.exit(main())
"""


@contextlib.contextmanager
def server_process(
    url: str, log: Path, *, descriptors: int | None = None, patience_s: float | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``headrace serve``; give its process and its port.

    Args:
        url: its Redis.
        log: where it writes what it says.
        descriptors: how many it may have, as ``ulimit -n`` would have it; None: as we do.
        patience_s: how long it waits for slow clients, s; None: as the product does.
    """
    port = free_port()
    program = ["-m", "headrace"] if patience_s is None else ["-c", _HURRIED, str(patience_s)]

    def few() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with log.open("wb") as said:
        running = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", str(port), "--url", url],
            env=clean_environment() | {"PYTHONPATH": str(ROOT / "src")},
            stdout=said,
            stderr=said,
            preexec_fn=few,
        )
        try:
            wait_until(lambda: b"Serving at" in log.read_bytes(), what="the server answers")
            yield running, port
        finally:
            running.kill()
            running.wait()


def descriptors_of(pid: int) -> int:
    """Count what a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.asynccontextmanager
async def served(url: str, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """Run a server; give a client of it, and its port."""
    port, stop = free_port(), asyncio.Event()
    running = asyncio.create_task(serve(Headrace(url), port=port, stop=stop, **options))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:

        async def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await client.get("/healthz")).is_success
            return False

        await await_until(answers, what="the server answers")
        try:
            yield client, port
        finally:
            stop.set()
            await asyncio.wait_for(running, WAIT_S)
