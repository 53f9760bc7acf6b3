"""What probes go by: a consumer that asks for work says so again and again, and one that cannot, does not."""

from __future__ import annotations

import asyncio

import pytest

from headrace import operations as op
from headrace import policy
from headrace.consumer import listener
from tests.support.consuming import Site, a_store
from tests.support.wait import await_until


async def fetches_again() -> None:
    policy.OUTAGE.fetched = False
    await await_until(lambda: policy.OUTAGE.fetched, "it fetches")


async def test_one_that_waits_for_jobs_fetches_with_each_blocking_request(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "BLOCK_S", 0.1)
    async with site.consumer() as running:
        await site.idle(running)
        await fetches_again()
        await fetches_again()
        assert running.consumer.fetching


async def test_one_whose_queue_is_paused_does_so_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "BLOCK_S", 0.1)
    async with a_store(site.url) as store:
        await store.run(op.pause(site.k, paused=True))
        async with site.consumer():
            await fetches_again()
            await fetches_again()
        await store.run(op.pause(site.k, paused=False))


async def test_one_without_a_free_slot_need_not(site: Site) -> None:
    go = asyncio.Event()

    @site.app.task
    async def wait() -> None:
        await go.wait()

    async with site.consumer(concurrency=1) as running:
        await wait.aenqueue()
        await await_until(lambda: not running.consumer.fetching, "its slot is taken")
        go.set()
        await site.drained()
        await await_until(lambda: running.consumer.fetching, "it is free again")
        await fetches_again()
        running.stop()
        assert not running.consumer.fetching
