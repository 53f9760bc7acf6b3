"""A Redis with schedules, and a leader whose every turn a test takes itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from redis import Redis

from headrace import Headrace
from headrace import operations as op
from headrace.keys import SCHEDULE_DUE, SCHEDULE_STATE, SCHEDULES, keys_of
from headrace.schedules import Definition, Schedules, changes, define
from headrace.schedules.definition import read
from headrace.schedules.timing import Every, Timing
from headrace.store import AsyncStore
from tests.support import invariants

HOUR_MS = 3_600_000


@dataclass
class Bench:
    """Schedules on a server, and what they enqueued.

    Attributes:
        store: the Redis.
        redis: a plain client.
        app: an application with a task ``tick``.
    """

    store: AsyncStore
    redis: Any
    app: Headrace

    def leader(self, store: AsyncStore | None = None) -> Schedules:
        return Schedules(store or self.store)

    async def turn(self, duty: Schedules | None = None) -> bool:
        """Take one turn, as whoever leads does."""
        duty = duty or self.leader()
        return await duty.turn(await self.store.run(duty.look()))

    async def turns(self) -> None:
        """Take turns until there is nothing more to do at once."""
        duty = self.leader()
        while await self.turn(duty):
            pass

    async def now_ms(self) -> int:
        now_ms: float = await self.store.run(op.time_ms())
        return int(now_ms)

    def definition(self, when: Timing | None = None, **options: Any) -> Definition:
        call = self.app.call("tick")
        return define(call, when or Every(HOUR_MS), **options)

    async def add(self, when: Timing | None = None, name: str = "s", **options: Any) -> Definition:
        definition = self.definition(when, **options)
        await self.store.follow(changes.add(name, definition, replace=True))
        return definition

    async def time_passes(self, ms: int, name: str = "s") -> list[int]:
        """Let a schedule's next tick be so long ago, at most; give the ticks that are due.

        Its whole periods pass, so that it stays on its ticks.
        """
        when = read(self.redis.hget(SCHEDULES, name)).timing
        now_ms = await self.now_ms()
        first = when.after(now_ms - ms - 1)
        self.redis.zadd(SCHEDULE_DUE, {name: first})
        found = []
        while first <= now_ms:
            found.append(first)
            first = when.after(first)
        return found

    def fired(self, queue: str = "queue") -> list[int]:
        """Give the ticks whose jobs were enqueued, oldest first."""
        jobs = self.redis.lrange(keys_of(queue).pending, 0, -1)[::-1]
        return [msgspec.json.decode(job)["scheduled_at"] for job in jobs]

    def state(self, name: str = "s") -> dict[str, Any]:
        raw = self.redis.hget(SCHEDULE_STATE, name)
        return msgspec.json.decode(raw) if raw else {}

    def next_ms(self, name: str = "s") -> int | None:
        score = self.redis.zscore(SCHEDULE_DUE, name)
        return None if score is None else int(score)


@pytest.fixture
async def bench(url: str, redis: Redis, store: AsyncStore) -> AsyncIterator[Bench]:
    app = Headrace(url)

    @app.task
    def tick() -> None: ...

    bench = Bench(store, redis, app)
    yield bench
    invariants.check(redis, "queue")
    await app.aclose()
