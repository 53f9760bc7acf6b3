"""A consumer that fails, is cancelled or forgotten by Redis neither sleeps on nor leaves anything behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.consuming import Site
from tests.support.wait import await_until


class TestFailingParts:
    async def test_a_part_that_fails_ends_the_consumer_instead_of_leaving_it_asleep(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @site.app.task
        async def note() -> None: ...

        def fails(*args: Any, **kwargs: Any) -> None:
            raise LookupError("a bug")

        with pytest.raises(LookupError, match="a bug"):
            async with site.consumer() as running:
                await site.idle(running)
                monkeypatch.setattr("headrace.consumer.dispatcher.read", fails)
                await note.aenqueue()
                await running.ended()
        await site.check_nothing_is_left()
        assert site.redis.llen(site.k.processing) == 1  # the sweep will find it

    async def test_a_consumer_that_is_cancelled_leaves_nothing_behind_but_its_leases(
        self, site: Site
    ) -> None:
        said: list[str] = []

        @site.app.task
        async def long() -> None:
            said.append("begun")
            try:
                await asyncio.sleep(60)
            finally:
                said.append("ended")

        with pytest.raises(asyncio.CancelledError):
            async with site.consumer() as running:
                await long.aenqueue()
                await await_until(lambda: said)
                running.task.cancel()
                await running.ended()
        await site.check_nothing_is_left()
        assert said == ["begun", "ended"]
        site.check()

    async def test_queues_stay_known_whatever_happens_to_redis(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headrace.consumer.consumer._REGISTER_EVERY_S", 0.05)
        async with site.consumer() as running:
            await site.idle(running)
            site.redis.flushall()
            await await_until(lambda: site.redis.sismember("headrace:queues", "queue"))
