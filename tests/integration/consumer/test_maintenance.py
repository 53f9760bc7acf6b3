"""Whoever leads keeps all queues in order, whatever is the matter with one of them."""

from __future__ import annotations

import asyncio

import pytest

from headrace.keys import LEADER, keys_of
from headrace.maintenance import Maintenance
from headrace.scripts import script
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Site, hold_as
from tests.support.proxy import proxied
from tests.support.wait import await_until


async def test_a_queue_with_a_broken_key_keeps_no_other_from_being_maintained(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    redis = site.redis
    names = [f"q{n:03}" for n in range(120)]  # three trips of fifty
    redis.sadd("headrace:queues", *names)
    redis.set(keys_of("q000").leases, "no zset")
    for name in ("q010", "q110"):
        redis.zadd(keys_of(name).delayed, {b'{"id":"a","task":"echo"}': 1})
    await site.app.aenqueue("note", 1)
    async with site.consumer(queues="elsewhere", lease=QUICK, check=False):
        for name in ("q010", "q110"):
            await await_until(lambda k=keys_of(name): redis.llen(k.pending), what="promoted")  # type: ignore[misc]
        await hold_as(site, "vanished", 1, lease_ms=1)
        await await_until(lambda: redis.llen(site.k.pending), what="reclaimed")
    said = [r.getMessage() for r in caplog.records if "q000 is not maintained" in r.getMessage()]
    assert len(said) == 1
    assert "WRONGTYPE" in said[0]


async def test_who_ends_before_it_hears_that_it_leads_gives_the_lead_up(site: Site) -> None:
    with proxied(site.url) as proxy:
        proxy.fail_next("hold", script("lead").sha.encode())
        store = AsyncStore(proxy.url, name="headrace:me")
        await store.run_all([])  # connected
        running = asyncio.create_task(Maintenance(store, "me", QUICK).run())
        await await_until(lambda: site.redis.exists(LEADER), what="Redis made it the leader")
        running.cancel()
        await asyncio.wait([running])
        await store.close()
    assert not site.redis.exists(LEADER)
