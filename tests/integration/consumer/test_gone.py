"""Consumers whose connections are gone: their jobs run again long before their leases end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from headrace import wire
from tests.support.consuming import QUICK, Quick, Site, hold_as
from tests.support.wait import await_until

LONG_MS = 600_000  # a lease far beyond the tests: only a missing connection can end it
SOON = Quick(gone_after_s=1.0)
PATIENT = Quick(gone_after_s=60.0)


@contextmanager
def connected_as(site: Site, consumer: str) -> Iterator[Redis]:
    """Be connected under a consumer's name."""
    name = f"headrace:{consumer}"
    with Redis.from_url(site.url, client_name=name, single_connection_client=True) as ghost:
        ghost.ping()
        yield ghost


def looks(site: Site) -> int:
    """How often somebody has asked who is connected; this one asks nobody."""
    calls = site.redis.info("commandstats")
    return int(calls.get("cmdstat_client|list", {"calls": 0})["calls"])


async def seen(site: Site, consumer: str) -> None:
    """Wait until a leader has seen a consumer."""
    await await_until(
        lambda: site.redis.hexists("headrace:consumers", consumer), what=f"{consumer} is seen"
    )


async def looked(site: Site, times: int = 2) -> None:
    """Wait until a leader has looked again."""
    wanted = looks(site) + times
    await await_until(lambda: looks(site) >= wanted, "the leader looks again")


async def test_its_jobs_are_free_and_charged_with_a_crash(site: Site) -> None:
    async with site.consumer(queues="elsewhere", lease=SOON):  # it leads
        await site.app.aenqueue("note", 1)
        await site.app.aenqueue("note", 2)
        with connected_as(site, "ghost"):
            assert len(await hold_as(site, "ghost", 2, lease_ms=LONG_MS)) == 2
            await seen(site, "ghost")
            await looked(site)
            assert site.redis.llen(site.k.processing) == 2
        await await_until(lambda: site.redis.llen(site.k.pending) == 2, what="both are free")
        heads = [parts[0] for job in site.state().pending if (parts := wire.split(job))]
        assert [(head.crashes, head.delivery) for head in heads] == [(1, 1), (1, 1)]
        await await_until(lambda: not site.redis.hexists("headrace:consumers", "ghost"))


async def test_a_consumer_that_comes_back_in_time_keeps_its_jobs(site: Site) -> None:
    async with site.consumer(queues="elsewhere", lease=PATIENT):
        await site.app.aenqueue("note", 1)
        with connected_as(site, "ghost"):
            await hold_as(site, "ghost", 1, lease_ms=LONG_MS)
            await seen(site, "ghost")
        await looked(site, 1)  # away
        with connected_as(site, "ghost"):
            await looked(site, 1)
        assert site.redis.llen(site.k.processing) == 1
        assert b"reclaimed" not in site.redis.hkeys(site.k.stats)
    site.redis.delete(site.k.claims, site.k.leases, site.k.processing)
    site.redis.hincrby(site.k.stats, "enqueued", -1)


async def test_a_consumer_that_nobody_saw_connected_is_left_to_its_lease(site: Site) -> None:
    """Behind some proxies no name is ever seen; its holder may be alive."""
    async with site.consumer(queues="elsewhere", lease=SOON):
        await site.app.aenqueue("note", 1)
        await hold_as(site, "unseen", 1, lease_ms=LONG_MS)
        until = site.now_ms() + 1_500  # half as long again as one that was seen may be away
        await await_until(lambda: site.now_ms() > until)
        await looked(site)
        assert site.redis.llen(site.k.processing) == 1
        site.redis.zadd(site.k.leases, dict.fromkeys(site.redis.hkeys(site.k.claims), 1))
        await await_until(lambda: site.redis.llen(site.k.pending) == 1, what="its lease is past")


async def test_one_that_a_former_leader_saw_is_missed_by_the_next(site: Site) -> None:
    await site.app.aenqueue("note", 1)
    with connected_as(site, "ghost"):
        await hold_as(site, "ghost", 1, lease_ms=LONG_MS)
        async with site.consumer(queues="elsewhere", lease=SOON, check=False):
            await seen(site, "ghost")
    async with site.consumer(queues="elsewhere", lease=SOON):
        await await_until(lambda: site.redis.llen(site.k.pending) == 1, what="it is free")


async def missed(site: Site, since_ms: int) -> None:
    """Wait until a leader has noted that the ghost is missing; then let it be so since an instant."""
    await await_until(
        lambda: site.redis.hget("headrace:consumers", "ghost") != b"0", what="it is missed"
    )
    site.redis.hset("headrace:consumers", "ghost", since_ms)


async def test_one_that_was_missed_when_the_leader_left_waits_no_longer_for_it(site: Site) -> None:
    await site.app.aenqueue("note", 1)
    async with site.consumer(queues="elsewhere", lease=PATIENT) as first:
        with connected_as(site, "ghost"):
            await hold_as(site, "ghost", 1, lease_ms=LONG_MS)
            await seen(site, "ghost")
        async with site.consumer(queues="elsewhere", lease=PATIENT):
            await seen(site, first.name)
            await missed(site, site.now_ms() - 3_600_000)
            leader = site.redis.get("headrace:leader")
            first.stop()
            await await_until(
                lambda: site.redis.get("headrace:leader") not in (None, leader), what="a new leader"
            )
            await await_until(lambda: site.redis.llen(site.k.pending) == 1, what="it is free")


async def test_what_nobody_has_looked_at_for_a_while_is_not_believed(site: Site) -> None:
    """A live consumer was missed when Redis went away, and has not come back yet."""
    await site.app.aenqueue("note", 1)
    await hold_as(site, "ghost", 1, lease_ms=LONG_MS)
    site.redis.hset("headrace:consumers", "ghost", 1)
    async with site.consumer(queues="elsewhere", lease=PATIENT):
        await looked(site)
        assert site.redis.llen(site.k.processing) == 1
    site.redis.delete(site.k.claims, site.k.leases, site.k.processing)
    site.redis.hincrby(site.k.stats, "enqueued", -1)


async def test_where_nobody_may_list_clients_leases_run_out_as_ever(site: Site) -> None:
    redis, k = site.redis, site.k
    redis.execute_command(
        "ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-client|list"
    )
    try:
        limited = Site(site.url.replace("//", "//limited:pw@"), redis)
        async with limited.consumer(queues="elsewhere", lease=QUICK, check=False):
            await site.app.aenqueue("note", 1)
            with connected_as(site, "ghost"):
                await hold_as(site, "ghost", 1, lease_ms=300)
            await await_until(lambda: redis.llen(k.pending) == 1, what="its lease is past")
            assert not redis.exists("headrace:consumers")
        await limited.close()
    finally:
        redis.execute_command("ACL", "DELUSER", "limited")
