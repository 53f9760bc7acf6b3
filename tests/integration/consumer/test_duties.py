"""What parts have the leader do, beside the upkeep of queues."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace import operations as op
from headrace.clock import monotonic
from headrace.maintenance import Maintenance
from headrace.operations import Operation
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from tests.support.consuming import Quick, Site
from tests.support.wait import await_until


class Count:
    """A duty that counts how often it was told something, and what it saw."""

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.due_at = math.inf
        self.begun = 0
        self.seen: list[Any] = []

    def begin(self) -> None:
        self.begun += 1

    def look(self) -> Operation[Any]:
        return op.command("GET", "what to see", parse=lambda raw: raw)

    async def turn(self, seen: Any) -> bool:
        self.seen.append(seen)
        return False


class Often(Count):
    """One that is due again at once, as often as twenty times."""

    async def turn(self, seen: Any) -> bool:
        await super().turn(seen)
        self.due_at = monotonic() if len(self.seen) < 20 else math.inf
        return False


class Broken(Count):
    """One whose key is of another type."""

    def look(self) -> Operation[Any]:
        return op.command("LLEN", "what to see", parse=int)


# Turns an hour apart: what is done again is done because it is due.
SLOW = Quick(sweep_every_s=3600)


@asynccontextmanager
async def leading(
    site: Site, *kinds: type[Count], policy: LeasePolicy = SLOW
) -> AsyncIterator[list[Count]]:
    """Let one lead with these duties."""
    duties: list[Count] = []

    def make(kind: type[Count]) -> Any:
        def maker(store: AsyncStore) -> Count:
            duties.append(kind(store))
            return duties[-1]

        return maker

    store = AsyncStore(site.url, name="headrace:me")
    maintenance = Maintenance(store, "me", policy, [make(kind) for kind in kinds])
    running = asyncio.create_task(maintenance.run())
    yield duties
    running.cancel()
    await asyncio.wait([running])
    await store.close()


async def test_a_duty_sees_what_it_asked_for_and_hears_when_its_leader_begins(site: Site) -> None:
    site.redis.set("what to see", "something")
    async with leading(site, Count) as (duty,):
        await await_until(lambda: duty.seen, what="a turn")
    assert duty.seen == [b"something"]
    assert duty.begun == 1


async def test_a_duty_that_is_due_is_turned_before_the_next_sweep(site: Site) -> None:
    async with leading(site, Often) as (duty,):
        await await_until(lambda: len(duty.seen) == 20, what="all its turns")


async def test_a_duty_that_redis_refuses_holds_up_no_other_and_is_told_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.redis.set("what to see", "not a list")
    caplog.set_level(logging.ERROR)
    async with leading(site, Broken, Often) as (broken, often):
        await await_until(lambda: len(often.seen) == 20, what="all turns of the other")
    assert not broken.seen
    said = [r.getMessage() for r in caplog.records if "Broken is not done" in r.getMessage()]
    assert len(said) == 1
    assert "WRONGTYPE" in said[0]
