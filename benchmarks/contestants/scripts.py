"""Headrace's protocol without its consumer: the scripts claim and settle, a batch in each round trip; nothing runs.

With all that makes it safe (leases, tokens, the jobs' bytes): what the server and one connection allow
when each batch waits for the one before.
"""

from __future__ import annotations

from typing import Final

from benchmarks import tally
from benchmarks.contestants.headrace import Producer
from benchmarks.contestants.run import run_async
from headrace import operations as op
from headrace.ids import LENGTH
from headrace.keys import keys_of
from headrace.settings import DEFAULT_QUEUE
from headrace.store import AsyncStore

__all__ = ["Producer", "work"]

K: Final = keys_of(DEFAULT_QUEUE)
LEASE_MS: Final = 15_000
ID: Final = slice(len('{"id":"'), len('{"id":"') + LENGTH)


def work(url: str, batch: int, _processes: int) -> None:
    run_async(_work(url, batch))


async def _work(url: str, batch: int) -> None:
    store = AsyncStore(url)
    await store.run(op.register(K.queue))
    held: list[op.Outcome] = []
    number = 1
    while True:
        requests = [op.settle(K, "bare", held)] if held else []
        claim = op.claim(K, batch, lease_ms=LEASE_MS, consumer="bare", first=number)
        answers = await store.run_all([*requests, claim])
        tally.ran(jobs=len(held))
        jobs = answers[-1].jobs
        # Negative: the first that was claimed is the last in processing.
        held = [op.Outcome(job[ID].decode(), -n, "done") for n, job in enumerate(jobs, number)]
        number += len(jobs)
