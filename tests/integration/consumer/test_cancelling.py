"""A running job hears at once that it is cancelled; and later, if nothing tells it at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from redis import Redis

from headrace import Context
from headrace.consumer import cancellation
from headrace.keys import CHANNEL_PREFIX
from headrace.policy import LeasePolicy
from tests.support.consuming import LONG_S, QUICK, Site
from tests.support.wait import await_until, wait_until

ONLY_HINTS = LeasePolicy(lease_s=LONG_S, bare_lease_s=LONG_S)  # which are extended after minutes


def listening(redis: Redis) -> int:
    """Count the consumers that listen."""
    return len(redis.pubsub_channels(f"{CHANNEL_PREFIX}*"))


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("early", [True, False])
async def test_it_ends_at_once(
    site: Site, redis: Redis, monkeypatch: pytest.MonkeyPatch, kind: str, *, early: bool
) -> None:
    """Also when it was cancelled before its consumer listened."""
    if early:
        monkeypatch.setattr(cancellation, "LONG_S", 0.3)
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    def look(ctx: Context) -> None:
        loop.call_soon_threadsafe(started.set)
        wait_until(lambda: ctx.stop_reason == "cancelled")
        ctx.check()

    site.app.task(name="long")(wait if kind == "async" else look)
    async with site.consumer(lease=ONLY_HINTS):
        job = await site.app.aenqueue("long")
        await started.wait()
        if not early:
            await await_until(lambda: listening(redis) == 1, what="the consumer listens")
        assert await job.acancel()
        await site.drained()
        assert await job.astatus() == "cancelled"
    assert site.counters()["cancel"] == 1
    assert listening(redis) == 0


async def test_only_the_one_that_is_meant_ends(site: Site, redis: Redis) -> None:
    ended = asyncio.Event()
    running: list[int] = []

    @site.app.task
    async def wait(number: int) -> None:
        running.append(number)
        await ended.wait()

    async with site.consumer(lease=ONLY_HINTS), site.consumer(lease=ONLY_HINTS):
        jobs = [await wait.aenqueue(n) for n in range(4)]
        await await_until(lambda: len(running) == 4 and listening(redis), what="all run")
        assert await jobs[2].acancel()
        await await_until(lambda: site.counters().get("cancel") == 1, what="one has ended")
        ended.set()
        await site.drained()
    assert site.ends() == {"enqueued": 4, "done": 3, "cancel": 1}


async def test_a_hint_that_nothing_in_redis_confirms_ends_nobody(site: Site, redis: Redis) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    @site.app.task
    async def wait() -> None:
        started.set()
        await ended.wait()

    async with site.consumer(lease=ONLY_HINTS) as running:
        job = await wait.aenqueue()
        await started.wait()
        await await_until(lambda: listening(redis) == 1, what="the consumer listens")
        channel = CHANNEL_PREFIX + running.name
        for hint in (f"queue {job.id}", "queue", "elsewhere x", "queue nosuch", b"\xff"):
            assert redis.publish(channel, hint) == 1
        redis.publish(channel, f"queue {job.id}")
        ended.set()
        await site.drained()
    assert site.ends() == {"enqueued": 1, "done": 1}


async def test_without_the_hint_it_hears_when_its_lease_is_extended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "LONG_S", LONG_S)  # nobody listens
    started = asyncio.Event()

    @site.app.task
    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async with site.consumer(lease=replace(QUICK)):
        job = await wait.aenqueue()
        await started.wait()
        assert await job.acancel()
        await site.drained()
    assert site.ends() == {"enqueued": 1, "cancel": 1}


async def test_a_lost_subscription_is_made_anew(site: Site, redis: Redis) -> None:
    started = asyncio.Event()

    @site.app.task
    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async with site.consumer(lease=ONLY_HINTS):
        job = await wait.aenqueue()
        await started.wait()
        await await_until(lambda: listening(redis) == 1, what="the consumer listens")
        redis.client_kill_filter(_type="pubsub")
        assert await job.acancel()  # perhaps before it listens again: it looks back then
        await site.drained()
    assert site.ends() == {"enqueued": 1, "cancel": 1}


async def test_quick_jobs_cost_no_subscription(site: Site, redis: Redis) -> None:
    @site.app.task
    async def quick() -> None: ...

    before = redis.info("commandstats")
    async with site.consumer():
        for _ in range(200):
            await quick.aenqueue()
        await site.drained()
    after = redis.info("commandstats")
    for name in ("cmdstat_zmscore", "cmdstat_publish"):
        assert after.get(name) == before.get(name)
    # The leader's, to hear when jobs are due: there is no other.
    subscribed = [each.get("cmdstat_subscribe", {"calls": 0})["calls"] for each in (before, after)]
    assert subscribed[1] <= subscribed[0] + 1
