"""What a job costs, counted and not timed: round trips, commands, bytes, memory, calls of Python functions.

Where the count is the same each time, the bound is a few per cent above it. What a batch shares depends
on how large batches are, which on a busy machine is less: there the bound leaves room, and one more
command or round trip for each job exceeds it. Speed itself is measured by ``make bench``.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from redis import Redis

from headrace.consumer import listener, thread_pool
from headrace.keys import LEADER
from headrace.maintenance import Maintenance, leadership
from headrace.store import AsyncStore
from tests.support.consuming import LONG_S, QUICK, Site, claim_ahead
from tests.support.wait import await_until

ARGS = ("send_welcome_email", 12345, "ada.lovelace@example.org", "Welcome", "en_GB", 3)
MANY = 2_000
LOOK = ("info", "config", "client", "ping")  # what the test asks itself


class Bill:
    """What has been used between two looks."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.bytes_in = self.bytes_out = 0

    @property
    def all_commands(self) -> int:
        return sum(self.commands.values())


@contextmanager
def billed(redis: Redis) -> Iterator[Bill]:
    """Count what Redis carries out meanwhile, the commands inside scripts too, and what it hears and says."""
    bill, before, net = Bill(), _calls(redis), redis.info("stats")
    yield bill
    after = redis.info("stats")
    bill.bytes_in = after["total_net_input_bytes"] - net["total_net_input_bytes"]
    bill.bytes_out = after["total_net_output_bytes"] - net["total_net_output_bytes"]
    bill.commands = _calls(redis) - before


def _calls(redis: Redis) -> Counter[str]:
    stats: dict[str, Any] = redis.info("commandstats")
    names = {name: name.removeprefix("cmdstat_").partition("|")[0] for name in stats}
    return Counter({n: stats[key]["calls"] for key, n in names.items() if n not in LOOK})


def counted_trips(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Give a list that gets an element for each round trip: whether it was one of the batcher."""
    trips, run_all = [], AsyncStore.run_all

    async def counted(store: AsyncStore, operations: Any, *rest: Any, **more: Any) -> list[Any]:
        trips.append(any(operation.name in ("claim", "settle") for operation in operations))
        return await run_all(store, operations, *rest, **more)

    monkeypatch.setattr(AsyncStore, "run_all", counted)
    return trips


def counted_turns(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Give a list that gets for each turn of the maintenance what it asked Redis for."""
    turns: list[list[str]] = []
    turn, run_all = Maintenance._turn, AsyncStore.run_all
    asking: set[asyncio.Task[Any] | None] = set()

    async def counted_turn(self: Maintenance) -> bool:
        asking.add(asyncio.current_task())
        turns.append([])
        return await turn(self)

    async def counted(store: AsyncStore, operations: Any, *rest: Any, **more: Any) -> list[Any]:
        if asyncio.current_task() in asking:
            turns[-1] += [
                "a script" if operation.script else operation.name for operation in operations
            ]
        return await run_all(store, operations, *rest, **more)

    monkeypatch.setattr(Maintenance, "_turn", counted_turn)
    monkeypatch.setattr(AsyncStore, "run_all", counted)
    return turns


def python_calls(function: Callable[[], object]) -> int:
    """Count the calls of Python functions in this thread; what is written in C is not counted."""
    count = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_an_enqueue_is_one_round_trip_of_four_commands(site: Site, redis: Redis) -> None:
    task = site.app.task(name="nothing")(lambda *_: None)
    size = len(task.call(*ARGS).job)
    task.enqueue(*ARGS)  # connects, and makes script and queue known
    with billed(redis) as bill:
        for _ in range(100):
            task.enqueue(*ARGS)
    assert bill.commands == {"evalsha": 100, "hlen": 100, "lpush": 100, "hincrby": 100}
    assert bill.bytes_in <= 100 * (size + 110) + 1_000
    assert bill.bytes_out <= 100 * len(b":1\r\n") + 12_000  # with the test's own look
    site.app.close()


def test_an_enqueue_takes_few_calls_of_python(site: Site) -> None:
    task = site.app.task(name="nothing")(lambda *_: None)
    task.enqueue(*ARGS)
    assert python_calls(lambda: task.enqueue(*ARGS)) <= 60
    calls = python_calls(lambda: site.app.enqueue_many([task.call(*ARGS) for _ in range(1_000)]))
    assert calls <= 12_700
    site.app.close()


def test_jobs_enqueued_together_share_scripts(site: Site, redis: Redis) -> None:
    task = site.app.task(name="nothing")(lambda *_: None)
    task.enqueue(*ARGS)
    calls = [task.call(*ARGS) for _ in range(MANY)]
    with billed(redis) as bill:
        site.app.enqueue_many(calls)
    assert bill.commands["evalsha"] == MANY / 1_000
    assert bill.all_commands <= 4 * MANY / 1_000
    site.app.close()


def memory_of(redis: Redis, key: str) -> int:
    """Return the bytes that a key takes; what the server takes in all has buffers of clients in it."""
    size: Any = redis.memory_usage(key, samples=0)
    return int(size)


def test_a_waiting_job_takes_little_more_than_its_bytes(site: Site, redis: Redis) -> None:
    task = site.app.task(name="nothing")(lambda *_: None)
    calls = [task.call(*ARGS) for _ in range(20_000)]
    site.app.enqueue_many(calls[:1_000])
    before = memory_of(redis, site.k.pending)
    site.app.enqueue_many(calls[1_000:])
    used = memory_of(redis, site.k.pending) - before
    assert used <= 1.06 * sum(len(call.job) for call in calls[1_000:])
    site.app.close()


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_job_that_waits_costs_its_share_of_a_batch(
    site: Site, redis: Redis, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async def nothing(*_: object) -> None: ...

    task = site.app.task(name="nothing")(nothing if kind == "async" else lambda *_: None)
    calls = [task.call(*ARGS) for _ in range(MANY)]
    size = len(calls[0].job)
    await site.app.aenqueue_many(calls)
    claim_ahead(monkeypatch)
    # On a busy machine jobs look slow, and threads are late: then fewer ends are told together.
    monkeypatch.setattr(thread_pool, "_QUICK_S", LONG_S)
    monkeypatch.setattr(thread_pool, "TICK_S", LONG_S)
    trips = counted_trips(monkeypatch)
    async with site.consumer(burst=True, concurrency=50) as running:
        with billed(redis) as bill:
            await running.ended()
    assert site.counters()["done"] == MANY
    assert sum(trips) <= MANY / 20
    # One LREM each; the rest is shared.
    assert bill.commands["lrem"] == MANY
    assert bill.all_commands <= 2 * MANY
    assert bill.bytes_in <= MANY * 125
    assert bill.bytes_out <= MANY * (size + 30)


async def test_a_job_behind_seven_empty_queues_costs_no_trip_for_each_of_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None: ...

    task = site.app.task(name="nothing")(nothing)
    await site.app.aenqueue_many([task.call(*ARGS) for _ in range(MANY)])
    trips = counted_trips(monkeypatch)
    queues = ",".join([*(f"empty{n}" for n in range(7)), site.k.queue])
    async with site.consumer(burst=True, concurrency=50, queues=queues) as running:
        await running.ended()
    assert site.counters()["done"] == MANY
    assert sum(trips) <= MANY / 20 + 2 * 7


async def test_an_idle_consumer_that_leads_asks_for_few_commands(
    site: Site, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = counted_turns(monkeypatch)
    task = site.app.task(name="nothing")(lambda: None)
    async with site.consumer(lease=QUICK):
        await task.aenqueue()
        await site.drained()
        await await_until(lambda: _calls(redis)["getex"] > 2, what="it leads")
        before = len(turns)
        await await_until(lambda: len(turns) > before + 12, what="twelve turns")
        twelve = turns[before : before + 12]
    # By default there is one turn a second; what it asks as a consumer is counted below.
    assert max(map(len, twelve)) <= 5
    assert not any("a script" in turn for turn in twelve)


async def test_an_idle_consumer_that_does_not_lead_asks_for_fewer(
    site: Site, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "BLOCK_S", 0.2)  # 5 s
    monkeypatch.setattr(leadership, "LEADER_LEASE_S", 600)  # 3 s; it asks twice in that time
    redis.set(LEADER, "another", px=600_000)
    asked = _calls(redis)["pttl"]
    async with site.consumer():
        await await_until(lambda: _calls(redis)["pttl"] > asked, what="it knows that another leads")
        with billed(redis) as bill:
            waits = _calls(redis)["blmove"] + 10
            await await_until(lambda: _calls(redis)["blmove"] >= waits)
    assert set(bill.commands) == {"blmove", "hget", "blpop", "exists"}
    assert bill.all_commands <= 4 * 11
