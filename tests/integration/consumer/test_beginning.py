"""A job that an idle consumer gets by a blocking move begins while its adoption is on its way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace import CURRENT, Backoff, Context, Headrace
from headrace.consumer.claimed import ClaimedJob, adoption
from headrace.consumer.dispatcher import Dispatcher
from headrace.policy import LeasePolicy
from headrace.scripts import script
from tests.support.consuming import LONG_S, QUICK, Site, hold_as
from tests.support.proxy import Proxy
from tests.support.wait import await_until, wait_until

LONG = LeasePolicy(lease_s=LONG_S, bare_lease_s=LONG_S)
ADOPT = script("adopt").sha.encode()


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_it_ends_before_the_answer_and_is_settled_after_it(
    site: Site, proxy: Proxy, app: Headrace, kind: str
) -> None:
    ran: list[str] = []

    def note(ctx: Context) -> None:
        ran.append(ctx.job_id)

    async def anote(ctx: Context) -> None:
        ran.append(ctx.job_id)

    task: Any = site.app.task(name="note")(note if kind == "sync" else anote)
    async with site.consumer(app) as running:
        await site.idle(running)
        proxy.fail_next("hold", ADOPT)
        job = await task.aenqueue()
        await await_until(lambda: ran and not running.consumer._slots.running)
        # It is adopted, and we do not know: it may end before Redis has got the request.
        await await_until(lambda: site.redis.hexists(site.k.claims, job.id))
        assert "done" not in site.counters()
        site.redis.client_kill_filter(_type="normal", skipme=True)
        await site.drained()
    assert ran == [job.id]
    assert site.counters() == {"enqueued": 1, "done": 1}


async def test_a_failed_run_is_retried_after_the_answer(
    site: Site, proxy: Proxy, app: Headrace
) -> None:
    attempts: list[int] = []

    @site.app.task(max_attempts=2, backoff=Backoff(base_s=0))
    async def fails(ctx: Context = CURRENT) -> None:
        attempts.append(ctx.attempt)
        raise OSError

    async with site.consumer(app) as running:
        await site.idle(running)
        proxy.fail_next("cut", ADOPT)
        await fails.aenqueue()
        await site.died()
    assert attempts == [1, 2]


async def test_its_id_is_in_use_and_it_ends_under_another(site: Site) -> None:
    ran: list[str] = []

    @site.app.task
    async def note(ctx: Context) -> None:
        ran.append(ctx.job_id)

    twin = b'{"id":"twin","task":"note"}'
    site.twins.add("twin")
    site.push(twin)
    [held] = await hold_as(site, "another", 1, lease_ms=60_000)
    async with site.consumer(check=False) as running:
        await site.idle(running)
        site.push(twin)
        await await_until(lambda: site.counters().get("done") == 1)
    assert ran == ["twin"]
    state = site.check()
    assert state.processing == [held]
    assert state.claims == {"twin": ("another:1", held)}


async def test_somebody_has_taken_it_and_it_is_told_to_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str | None] = []
    moved = Dispatcher.take_moved

    def taken(self: Dispatcher, k: Any, job: bytes, until: float) -> None:
        assert site.redis.lrem(k.processing, 1, job) == 1
        site.foreign -= 1
        moved(self, k, job, until)

    monkeypatch.setattr(Dispatcher, "take_moved", taken)

    @site.app.task
    async def wait(ctx: Context = CURRENT) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ctx.stop_reason)

    site.let_nobody_sweep()
    async with site.consumer() as running:
        await site.idle(running)
        await wait.aenqueue()
        await await_until(lambda: ended)
    assert ended == ["lost"]
    assert site.counters() == {"enqueued": 1}


async def test_one_that_keeps_the_loop_to_itself_is_adopted_by_the_lease_keeper(
    site: Site, proxy: Proxy, app: Headrace
) -> None:
    adopted: list[bytes] = []

    @site.app.task
    async def hog(ctx: Context = CURRENT) -> None:
        claim = (site.k.claims, ctx.job_id)
        wait_until(lambda: site.redis.hexists(*claim))  # without giving the loop a chance
        adopted.append(site.redis.hget(*claim) or b"")

    site.let_nobody_sweep()
    async with site.consumer(app, lease=QUICK) as running:
        await site.idle(running)
        proxy.fail_next("cut", ADOPT)
        await hog.aenqueue()
        await site.drained()
    assert [claim.partition(b":")[0] for claim in adopted] == [running.name.encode()]
    assert site.ends() == {"enqueued": 1, "done": 1}


@pytest.mark.parametrize("late", [False, True], ids=["", "the keeper hears later than the loop"])
async def test_an_answer_from_before_the_lease_keepers_adoption_leaves_no_lease_to_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """The model of the protocol found it: told that its item is gone, a run had an equal one.

    When the keeper hears of its own adoption after the loop has given the job up, the job runs again.
    """
    moves: list[tuple[bytes, int]] = []
    moved = Dispatcher.take_moved

    def loads() -> int:
        stats: dict[str, Any] = site.redis.info("commandstats")
        return int(stats.get("cmdstat_script|load", {"calls": 0})["calls"])

    def taken(self: Dispatcher, k: Any, job: bytes, until: float) -> None:
        assert site.redis.lrem(k.processing, 1, job) == 1
        moves.append((job, loads()))
        moved(self, k, job, until)

    def heard_late(claimed: ClaimedJob, *rest: Any, **options: Any) -> Any:
        request = adoption(claimed, *rest, **options)

        def parse(reply: Any) -> Any:
            if len(moves) == 1 and site.redis.exists(site.k.claims):
                held, job_id = running.consumer._claims, claimed.head.id
                wait_until(lambda: held.get(site.k.queue, job_id) is None, "the loop gave it up")
            return request.parse(reply)

        return request._replace(parse=parse)

    monkeypatch.setattr(Dispatcher, "take_moved", taken)
    if late:
        monkeypatch.setattr("headrace.consumer.leases.adoption", heard_late)

    @site.app.task
    async def hog() -> None:
        job, before = moves[-1]
        wait_until(lambda: loads() > before)  # and the adoption, which came with it, is lost
        site.redis.lpush(site.k.processing, job)  # as if somebody had moved an equal job
        wait_until(lambda: site.redis.exists(site.k.claims))

    site.let_nobody_sweep()
    async with site.consumer(lease=QUICK) as running:
        await site.idle(running)
        site.push(b'{"task":"hog"}')
        # Not until the queue is drained: it is that, too, while the job is in this test's own hands.
        await await_until(lambda: site.ends() == {"done": 1}, "it has run to its end")
    again = len(moves) - 1
    # The keeper's thread may hear late by itself, too, the second time as well.
    assert again >= int(late)
    assert site.counters().get("release", 0) == again


async def test_a_script_that_the_server_has_forgotten_is_no_hindrance(site: Site) -> None:
    adopted: list[bool] = []

    @site.app.task(max_attempts=1)
    async def hog(ctx: Context = CURRENT) -> None:
        wait_until(lambda: site.redis.hexists(site.k.claims, ctx.job_id))
        adopted.append(True)

    site.let_nobody_sweep()
    async with site.consumer(lease=LONG) as running:  # the keeper does not come
        await site.idle(running)
        site.redis.script_flush()
        await hog.aenqueue()
        await site.drained()
    assert adopted == [True]


async def test_a_consumer_that_is_told_to_stop_waits_for_the_answer(
    site: Site, proxy: Proxy, app: Headrace
) -> None:
    ran: list[int] = []

    @site.app.task
    async def note() -> None:
        ran.append(1)

    async with site.consumer(app) as running:
        await site.idle(running)
        proxy.fail_next("hold", ADOPT)
        await note.aenqueue()
        await await_until(lambda: ran)
        running.stop()
        site.redis.client_kill_filter(_type="normal", skipme=True)
        await running.ended()
    assert site.counters() == {"enqueued": 1, "done": 1}
