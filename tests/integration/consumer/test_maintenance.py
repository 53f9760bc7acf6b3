"""Whoever leads keeps all queues in order, whatever is the matter with one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from redis import Redis

from headrace import forgetting
from headrace import operations as op
from headrace.clock import monotonic
from headrace.keys import CONSUMERS, LEADER, QUEUES, keys_of
from headrace.maintenance import Maintenance, leadership, lost_consumers, registry, upkeep
from headrace.operations import Operation
from headrace.policy import LeasePolicy
from headrace.scripts import script
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Quick, Site, a_store, hold_as
from tests.support.proxy import proxied
from tests.support.wait import WAIT_S, await_until, wait_until

Wanted: TypeAlias = Callable[[], object]


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
            await await_until(lambda: redis.llen(keys_of(name).pending), what="promoted")
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


class TestABusyLeader:
    """A task keeps the loop of the consumer that leads until a duty is done: nothing else can do it."""

    async def held_until(self, site: Site, begin: Callable[[], object], done: Wanted) -> None:
        """Let a job keep the leader's loop from before ``begin`` until ``done``."""
        held: list[bool] = []

        @site.app.task
        async def hold() -> None:
            begin()
            held.append(bool(wait_until(done, "the duty is done while the loop is held")))

        async with site.consumer(lease=Quick(gone_after_s=1.0), check=False) as running:
            await await_until(lambda: site.redis.get(LEADER) == running.name.encode())
            await site.app.aenqueue("hold")
            await await_until(lambda: held, within_s=2 * WAIT_S)

    async def test_promotes(self, site: Site) -> None:
        k, redis = keys_of("elsewhere"), site.redis
        redis.sadd(QUEUES, k.queue)
        job = b'{"id":"a","task":"echo"}'
        await self.held_until(
            site, lambda: redis.zadd(k.delayed, {job: 1}), lambda: redis.llen(k.pending)
        )

    async def test_sweeps(self, site: Site) -> None:
        k, redis = keys_of("elsewhere"), site.redis
        redis.sadd(QUEUES, k.queue)
        await self.held_until(
            site, lambda: redis.lpush(k.processing, b"bare"), lambda: redis.zcard(k.leases)
        )

    async def test_reclaims(self, site: Site) -> None:
        k, redis = keys_of("elsewhere"), site.redis
        redis.sadd(QUEUES, k.queue)

        def lose() -> None:
            job = b'{"id":"a","task":"echo"}'
            redis.lpush(k.processing, job)
            redis.hset(k.claims, "a", b"lost:1 " + job)
            redis.zadd(k.leases, {"a": 0})

        await self.held_until(site, lose, lambda: redis.llen(k.pending))

    async def test_finds_a_lost_consumer(self, site: Site) -> None:
        elsewhere = keys_of("elsewhere")
        site.redis.sadd(QUEUES, elsewhere.queue)
        site.redis.lpush(elsewhere.pending, b'{"id":"a","task":"echo"}')
        async with a_store(site.url) as store:
            claim = op.claim(elsewhere, 1, lease_ms=600_000, consumer="ghost", first=1)
            assert (await store.run(claim)).jobs
        ghost = Redis.from_url(
            site.url, client_name="headrace:ghost", single_connection_client=True
        )
        ghost.ping()

        def vanish() -> None:
            wait_until(lambda: site.redis.hexists(CONSUMERS, "ghost"), "it was seen")
            ghost.close()

        await self.held_until(site, vanish, lambda: site.redis.llen(elsewhere.pending))

    async def test_keeps_the_lead(self, site: Site) -> None:
        def renewals() -> int:
            return int(site.redis.info("commandstats").get("cmdstat_getex", {"calls": 0})["calls"])

        before: list[int] = []
        await self.held_until(
            site,
            lambda: before.append(renewals()),
            lambda: renewals() >= before[0] + 3,
        )


@asynccontextmanager
async def leading(
    site: Site, sent: Callable[[Operation[Any]], object]
) -> AsyncIterator[Maintenance]:
    """Give a maintenance that does a turn when the test says so; ``sent`` sees each of its requests."""

    class Seen(AsyncStore):
        async def run_all(self, operations: Any, *rest: Any, **more: Any) -> list[Any]:
            for operation in operations:
                sent(operation)
            return await super().run_all(operations, *rest, **more)

    store = Seen(site.url, name="headrace:me")
    leader = Maintenance(store, "me", LeasePolicy())
    try:
        yield leader
    finally:
        await leader._promoter.end()
        await store.close()


async def looks_in(turns: int, site: Site, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count how often it is asked who is connected, where each answer takes a minute.

    By the leader's clock: a turn begins each second.
    """
    late: list[float] = [0.0]
    for module in (leadership, lost_consumers, registry, upkeep):
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() + late[0])
    looks: list[float] = []

    def slowly(operation: Operation[Any]) -> None:
        if operation.args[:2] == ("CLIENT", "LIST"):
            looks.append(late[0])
            late[0] += 60

    site.redis.lpush(site.k.processing, b"in hand")
    site.redis.sadd(QUEUES, site.k.queue)
    async with leading(site, slowly) as leader:
        for _ in range(turns):
            await leader._turn()
            late[0] += 1
    site.redis.flushdb()
    return len(looks)


async def test_how_often_it_is_asked_who_is_connected_depends_on_their_number_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await looks_in(5, site, monkeypatch) == 5


async def test_a_lead_that_runs_out_is_taken_by_another(site: Site) -> None:
    site.redis.set(LEADER, "stands still", px=200)
    async with site.consumer(lease=QUICK) as running:
        await await_until(lambda: site.redis.get(LEADER) == running.name.encode())


class TestManyQueues:
    async def test_those_at_rest_share_commands_and_one_that_wakes_is_found(
        self, site: Site
    ) -> None:
        redis = site.redis
        names = [f"q{n:04}" for n in range(1_000)]
        redis.sadd(QUEUES, *names)
        for name in names:
            redis.lpush(name, b'{"id":"a","task":"echo"}')
        asked: list[str] = []

        def note(operation: Operation[Any]) -> None:
            if operation.name == "EXISTS":
                asked.append(operation.name)

        async with leading(site, note) as leader:

            async def looks_in_a_turn() -> int:
                asked.clear()
                await leader._turn()
                return len(asked)

            assert await looks_in_a_turn() == 1_000  # nobody knows any of them
            assert [await looks_in_a_turn() for _ in range(3)] == [4, 4, 4]  # groups of 250
            redis.zadd(keys_of("q0500").delayed, {b'{"id":"b","task":"echo"}': 1})
            assert await looks_in_a_turn() == 4 + 250  # whichever of its group it is
            assert redis.llen("q0500") == 2  # promoted in the same turn
            assert await looks_in_a_turn() == 4 + 1  # and known to be awake
            assert await looks_in_a_turn() == 4

    async def test_one_that_is_empty_and_unused_for_long_is_forgotten_by_itself(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "_FORGET_EVERY_S", 0.01)
        redis = site.redis
        redis.sadd(QUEUES, "empty", "full")
        redis.lpush("full", b'{"id":"a","task":"echo"}')
        async with site.consumer(queues="elsewhere", lease=QUICK, check=False):
            await await_until(lambda: redis.hexists("empty:meta", "unused"), "it is noted")
            assert redis.sismember(QUEUES, "empty")
            redis.hset("empty:meta", "unused", "1 0")  # since 1970
            await await_until(lambda: not redis.sismember(QUEUES, "empty"), "it is forgotten")
            assert redis.sismember(QUEUES, "full")
            # A producer that has made it known before does so again.
            producing = site.another_app()
            call = producing.call_with("note", (1,), {}, {"queue": "empty"})
            await producing.aenqueue_many([call])
            redis.delete("empty")
            assert redis.sismember(QUEUES, "empty")
            async with a_store(site.url) as store:
                assert await store.follow(forgetting.forget([keys_of("empty")], 0)) == ["forgotten"]
            await producing.aenqueue_many([call])
            assert redis.sismember(QUEUES, "empty")
