"""However leaders overlap, die and repeat themselves, every tick fired once or is counted as missed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.errors import ReplyLost, StoreError, StoreUnavailable
from headrace.keys import SCHEDULE_DUE
from headrace.operations import Operation
from headrace.schedules import Schedules
from headrace.schedules.timing import Every
from headrace.store import AsyncStore
from tests.integration.schedules.conftest import Bench
from tests.support.ticks import Ledger

SECOND = Every(1000)


class Mortal(AsyncStore):
    """A store whose user dies, now and then, before a request or right after it."""

    def __init__(self, url: str, rng: random.Random) -> None:
        super().__init__(url)
        self._rng = rng

    async def run_all(self, operations: Sequence[Operation[Any]], _: Any = None) -> list[Any]:
        chance = self._rng.random()
        if chance < 0.15:
            raise StoreUnavailable("it died before")
        answers = await super().run_all(operations)
        if chance < 0.3:
            raise ReplyLost("it died after")
        return answers


async def walk(bench: Bench, seed: int) -> None:
    """Let two lead at a time, each as it likes; then check the sum of each schedule."""
    rng = random.Random(seed)
    store = Mortal(bench.store.url, rng)
    ledgers = []
    first_ms = SECOND.after(await bench.now_ms() - 1_200_000)
    for policy in ("all", "latest", "skip"):
        await bench.add(SECOND, name=policy, missed=policy)
        bench.redis.zadd(SCHEDULE_DUE, {policy: first_ms})
        ledgers.append(Ledger(policy, SECOND, first_ms, loses_none=policy == "all"))
    leaders = [Schedules(store), Schedules(store)]
    seen = [await bench.store.run(leader.look()) for leader in leaders]
    for _ in range(40):
        who = rng.randrange(2)
        if rng.random() < 0.4:
            seen[who] = await bench.store.run(leaders[who].look())
        try:
            await leaders[who].turn(seen[who])  # by what it has seen, however long ago
        except StoreError:
            leaders[who] = Schedules(store)
    await store.close()
    await bench.turns()
    jobs = bench.redis.lrange("queue", 0, -1)
    faults = [fault for ledger in ledgers for fault in ledger.check(bench.redis, jobs)]
    assert not faults, faults


@pytest.mark.parametrize("seed", range(3))
async def test_every_tick_fires_once_or_is_missed(bench: Bench, seed: int) -> None:
    await walk(bench, seed)
