"""repid on Redis streams: its worker is a coroutine of the application, and several are several processes.

It fetches 100 messages at a time, not 10: an option of its server. The rest is at its defaults.
"""

from __future__ import annotations

import logging
import os
from multiprocessing import Process

import uvloop
from repid import RedisServer, Repid, Router

from benchmarks.contestants.tasks import ASYNC

# Payloads are objects: arguments have names.
NAMES = {
    "nothing": ("user", "template", "to", "subject", "locale", "at", "attempt"),
    "wait": ("for_ms",),
    "digest": (),
    "stamp": ("due_ns",),
}

app = Repid()
server = RedisServer(os.environ["BENCH_URL"], batch_size=100)
app.servers.register_server("default", server, is_default=True)
router = Router()
for _name, _function in ASYNC.items():
    router.actor(name=_name)(_function)
app.include_router(router)


def work(_url: str, concurrency: int, processes: int) -> None:
    logging.basicConfig(level=logging.ERROR)
    for _ in range(processes - 1):
        Process(target=_work, args=(concurrency,), daemon=True).start()
    _work(concurrency)  # returns after a SIGTERM; then the others are told to end


def _work(concurrency: int) -> None:
    async def consume() -> None:
        async with server.connection():
            # With a limit of 1 it stops for good at the first pause (2.1.4).
            await app.run_worker(tasks_limit=max(concurrency, 2))

    uvloop.run(consume())


class AsyncProducer:
    def __init__(self, _url: str) -> None:
        self._headers = {name: {"topic": name} for name in ASYNC}

    async def open(self) -> None:
        await server.connect()

    async def push(self, task: str, *args: object) -> None:
        payload = dict(zip(NAMES[task], args, strict=True))
        await app.send_message_json(channel="default", payload=payload, headers=self._headers[task])

    async def close(self) -> None:
        await server.disconnect()
