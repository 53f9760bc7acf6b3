"""Delayed jobs are promoted when they fall due, by one timer: turns are an hour apart here, so nothing polls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import Redis

from headrace import CURRENT, Context, Retry, chain
from headrace import operations as op
from headrace.keys import DUE, LEADER, QUEUES
from headrace.maintenance import Maintenance, promoter
from headrace.operations import Operation
from headrace.policy import LeasePolicy
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Quick, Site, a_store
from tests.support.wait import await_until

SLOW = Quick(sweep_every_s=3600)
A, B = b'{"id":"a","task":"t"}', b'{"id":"b","task":"t"}'


@asynccontextmanager
async def maintained(
    site: Site, name: str = "me", policy: LeasePolicy = SLOW, url: str = ""
) -> AsyncIterator[list[Operation[Any]]]:
    """Let one lead; gives what it asks of Redis."""
    asked: list[Operation[Any]] = []

    class Seen(AsyncStore):
        async def run_all(self, operations: Any, *rest: Any, **more: Any) -> list[Any]:
            asked.extend(operations)
            return await super().run_all(operations, *rest, **more)

    store = Seen(url or site.url, name=f"headrace:{name}")
    running = asyncio.create_task(Maintenance(store, name, policy).run())
    try:
        yield asked
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()


async def sleeps(asked: list[Operation[Any]]) -> None:
    """Wait until the first turn is over: from then on only what is heard wakes the leader."""
    await await_until(lambda: any(one.name == "SCARD" for one in asked), what="a turn")
    before = -1
    while before != len(asked):
        before = len(asked)
        await asyncio.sleep(0.05)


def listeners(redis: Redis) -> int:
    (pair,) = redis.pubsub_numsub(DUE)
    return int(pair[1])


async def delay(site: Site, *jobs: bytes, due: str) -> None:
    site.redis.sadd(QUEUES, site.k.queue)
    async with a_store(site.url) as store:
        await store.run(op.enqueue(site.k, jobs, due=due))


async def test_a_job_that_is_delayed_while_the_leader_sleeps_is_promoted_when_it_is_due(
    site: Site,
) -> None:
    async with maintained(site) as asked:
        await sleeps(asked)
        await delay(site, A, due="+30")
        await await_until(lambda: site.redis.lrange(site.k.pending, 0, -1) == [A])
    assert listeners(site.redis) == 0


async def test_a_job_that_is_due_before_all_others_is_not_kept_waiting_by_them(site: Site) -> None:
    async with maintained(site) as asked:
        await delay(site, A, due="+3600000")
        await sleeps(asked)
        await delay(site, B, due="+30")
        await await_until(lambda: site.redis.lrange(site.k.pending, 0, -1) == [B])
        assert site.redis.zrange(site.k.delayed, 0, -1) == [A]


async def test_what_is_delayed_behind_others_wakes_nobody(site: Site) -> None:
    heard = site.redis.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(DUE)
    await delay(site, A, due="+3600000")
    await delay(site, B, due="+3600001")
    heard.get_message()  # that it has subscribed
    messages = [heard.get_message(timeout=1) for _ in range(2)]
    heard.close()
    assert [message and message["data"].partition(b" ")[0] for message in messages] == [
        site.k.queue.encode(),
        None,
    ]


async def test_a_retry_is_punctual_too(site: Site) -> None:
    attempts: list[int] = []

    @site.app.task
    async def work() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise Retry(in_=0.02)

    async with site.consumer(lease=SLOW):
        await work.aenqueue()
        await await_until(lambda: len(attempts) == 3)
        await site.drained()


async def test_what_is_handed_on_for_later_is_punctual_too(site: Site) -> None:
    ran: list[int] = []

    @site.app.task
    async def last(number: int) -> None:
        ran.append(number)

    @site.app.task
    async def first(ctx: Context = CURRENT) -> None:
        ctx.enqueue(last.options(delay=0.02).call(1))

    async with site.consumer(lease=SLOW):
        await first.aenqueue()
        await await_until(lambda: ran == [1])
        await site.drained()


async def test_a_member_of_a_workflow_is_punctual_too(site: Site) -> None:
    ran: list[int] = []

    @site.app.task
    async def work(number: int) -> None:
        ran.append(number)

    later = work.options(delay=0.02)
    async with site.consumer(lease=SLOW):
        await chain(later.call(1), later.call(2)).aenqueue()
        await await_until(lambda: ran == [1, 2])
        await site.drained()


async def test_many_that_are_due_at_once_are_promoted_in_steps(site: Site) -> None:
    redis, jobs = site.redis, [b'{"id":"%d","task":"t"}' % n for n in range(5_000)]
    redis.sadd(QUEUES, site.k.queue)
    redis.zadd(site.k.delayed, dict.fromkeys(jobs, 1))
    async with maintained(site) as asked:
        await await_until(lambda: redis.llen(site.k.pending) == len(jobs))
    steps = [int(one.args[0]) for one in asked if one.name == "promote"]
    assert max(steps) <= promoter.STEP
    assert sum(steps) >= len(jobs)


async def test_only_who_leads_listens_and_whoever_leads_next_promotes_what_is_overdue(
    site: Site,
) -> None:
    site.redis.set(LEADER, "it dies", px=300)
    async with maintained(site, "next", QUICK):
        await delay(site, A, due="+1")
        assert listeners(site.redis) == 0 or site.redis.get(LEADER) == b"next"
        await await_until(lambda: site.redis.lrange(site.k.pending, 0, -1) == [A])
        async with maintained(site, "third", QUICK) as asked:
            await await_until(lambda: any(one.name == "GET" for one in asked), what="it looked")
            assert listeners(site.redis) == 1


async def test_a_leader_that_is_cut_off_listens_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoter, "_AGAIN_S", 0.01)
    async with maintained(site) as asked:
        await sleeps(asked)
        site.redis.client_kill_filter(_type="pubsub")
        await await_until(lambda: listeners(site.redis) == 1)
        await delay(site, A, due="+30")
        await await_until(lambda: site.redis.llen(site.k.pending))


async def test_what_others_publish_does_no_harm(site: Site) -> None:
    async with maintained(site) as asked:
        await sleeps(asked)
        for message in (
            b"",
            b"queue",
            b"queue x",
            b"\xff\xfe 1",
            b"a b 1",
            b"q:x 1",
            b"q " + 99 * b"9",
        ):
            site.redis.publish(DUE, message)
        site.redis.publish(DUE, "nobody 0")
        await delay(site, A, due="+1")
        await await_until(lambda: site.redis.llen(site.k.pending))


async def test_without_the_right_to_publish_or_listen_each_turn_promotes(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rights = ["+@all", "~*", "-@pubsub"]
    site.redis.execute_command("ACL", "SETUSER", "quiet", "on", ">pw", *rights)
    try:
        url = site.url.replace("redis://", "redis://quiet:pw@")
        async with a_store(url) as store:
            await store.run(op.enqueue(site.k, [A], due="+1"))
        site.redis.sadd(QUEUES, site.k.queue)
        async with maintained(site, policy=QUICK, url=url):
            await await_until(lambda: site.redis.llen(site.k.pending))
    finally:
        site.redis.execute_command("ACL", "DELUSER", "quiet")
    said = [r.getMessage() for r in caplog.records if "may be a second late" in r.getMessage()]
    assert len(said) == 1
