"""Unique jobs as an application has them: what becomes of a second job with a key, and when the key is free."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace import (
    CURRENT,
    Backoff,
    Context,
    InvalidJob,
    InvalidSetting,
    JobCancelled,
    JobExists,
    StoreUnavailable,
    chain,
)
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Site
from tests.support.wait import WAIT_S, await_until


def noted(site: Site, **options: Any) -> list[object]:
    """Make the task ``work``, which notes its argument."""
    ran: list[object] = []

    @site.app.task(name="work", **options)
    async def work(what: object) -> None:
        ran.append(what)

    return ran


def keyed(site: Site, **options: Any) -> Any:
    return site.app.tasks["work"].options(key="u", **options)


async def test_reject_raises_with_the_handle_of_the_earlier_job(site: Site) -> None:
    noted(site)
    rejecting = keyed(site, delay=600, if_exists="reject")
    first = await rejecting.aenqueue(1)
    with pytest.raises(JobExists, match=first.id) as caught:
        await rejecting.aenqueue(2)
    assert caught.value.job.id == first.id
    assert await caught.value.job.astatus() == "delayed"
    with pytest.raises(JobExists):
        rejecting.enqueue(3)
    assert site.counters()["enqueued"] == 1


async def test_many_at_once_are_enqueued_all_but_the_rejected(site: Site) -> None:
    ran = noted(site)
    calls = [keyed(site, if_exists="reject").call(n) for n in range(2)]
    with pytest.raises(JobExists):
        await site.app.aenqueue_many([*calls, site.app.tasks["work"].call(2)])
    async with site.consumer():
        await site.drained()
    assert sorted(map(str, ran)) == ["0", "2"]


async def test_replace_runs_the_latest_alone(site: Site) -> None:
    ran = noted(site, result_ttl=60)
    jobs = [await keyed(site, if_exists="replace").aenqueue(n) for n in range(5)]
    assert await jobs[0].astatus() == "cancelled"
    with pytest.raises(JobCancelled):
        await jobs[3].aresult(timeout=WAIT_S)
    async with site.consumer():
        await site.drained()
    assert ran == [4]
    assert site.counters()["replaced"] == site.counters()["cancel"] == 4
    assert site.redis.keys("queue:unique:*") == []


async def test_replace_loses_no_change_while_one_runs(site: Site) -> None:
    runs, may_end = list[int](), asyncio.Event()

    @site.app.task
    async def work(number: int) -> None:
        runs.append(number)
        await may_end.wait()

    async with site.consumer():
        await keyed(site, if_exists="replace").aenqueue(1)
        await await_until(lambda: runs == [1])
        await keyed(site, if_exists="replace").aenqueue(2)
        await await_until(lambda: runs == [1, 2])
        may_end.set()
        await site.drained()
    assert site.redis.keys("queue:unique:*") == []


async def test_replace_takes_the_place_of_one_that_has_failed(site: Site) -> None:
    ran: list[int] = []

    @site.app.task(backoff=Backoff(base_s=600, jitter=False))
    async def work(number: int) -> None:
        ran.append(number)
        if number == 1:
            raise ValueError("no")

    async with site.consumer():
        first = await keyed(site, if_exists="replace").aenqueue(1)
        await await_until(lambda: site.redis.zcard(site.k.delayed), what="it is to be tried again")
        await keyed(site, if_exists="replace").aenqueue(2)
        await site.drained()
    assert ran == [1, 2]
    assert await first.astatus() == "cancelled"


async def test_debounce_runs_one_job_once_things_are_quiet(site: Site) -> None:
    ran = noted(site)
    jobs = [await keyed(site, delay=600, if_exists="debounce").aenqueue(n) for n in range(4)]
    assert {job.id for job in jobs} == {jobs[0].id}
    last = await keyed(site, delay=0.01, if_exists="debounce").aenqueue(4)
    assert last.id == jobs[0].id
    async with site.consumer(lease=QUICK):
        await site.drained()
    assert ran == [0]


async def test_throttle_enqueues_one_in_each_window(site: Site) -> None:
    ran = noted(site)
    throttled = keyed(site, key_ttl=600, if_exists="throttle")
    async with site.consumer():
        first = await throttled.aenqueue(1)
        await site.drained()
        assert (await throttled.aenqueue(2)).id == first.id
        site.redis.delete(site.k.unique("u"))  # the window is over
        await throttled.aenqueue(3)
        await site.drained()
    assert ran == [1, 3]


@pytest.mark.parametrize("idle", [True, False], ids=["moved", "claimed"])
async def test_until_start_a_key_is_free_before_its_job_begins(site: Site, idle: bool) -> None:
    answers: list[str] = []

    @site.app.task
    async def work(number: int) -> None:
        if number == 1:
            answers.append((await until_start.aenqueue(2)).id)

    until_start = keyed(site, key_until="start")
    if not idle:
        first = await until_start.aenqueue(1)
        assert (await until_start.aenqueue(9)).id == first.id
    async with site.consumer():
        if idle:
            await await_until(
                lambda: site.redis.info("clients")["blocked_clients"], what="it waits"
            )
            first = await until_start.aenqueue(1)
        await await_until(lambda: answers)
        await site.drained()
    assert answers != [first.id]
    assert site.counters()["done"] == 2
    assert site.redis.keys("queue:unique:*") == []


async def test_until_start_a_job_that_is_tried_again_has_its_key_no_more(site: Site) -> None:
    runs: list[int] = []

    @site.app.task(backoff=Backoff(base_s=0))
    async def work(number: int) -> None:
        runs.append(number)
        if len(runs) == 1:
            await keyed(site, key_until="start", delay=600).aenqueue(2)
            raise ValueError("once")

    async with site.consumer(check=False):
        await keyed(site, key_until="start").aenqueue(1)
        await await_until(lambda: len(runs) == 2)
        await await_until(lambda: site.counters().get("done") == 1)
    assert site.redis.zcard(site.k.delayed) == 1
    assert site.redis.exists(site.k.unique("u"))


async def test_until_start_a_paused_queue_keeps_the_key(site: Site) -> None:
    noted(site)
    until_start = keyed(site, key_until="start")
    first = await until_start.aenqueue(1)
    site.redis.hset(site.k.meta, "paused", "1")
    async with site.consumer(check=False):
        assert (await until_start.aenqueue(2)).id == first.id
    site.redis.hdel(site.k.meta, "paused")
    async with site.consumer():
        await site.drained()
    assert site.counters()["done"] == 1


async def test_a_search_that_fails_half_way_says_so_and_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted(site)
    first = await keyed(site).aenqueue(1)  # by a plain key: its bytes are not known
    run = AsyncStore.run

    async def failing(store: AsyncStore, operation: Any) -> Any:
        if operation.name == "seek":
            raise StoreUnavailable("gone")
        return await run(store, operation)

    monkeypatch.setattr(AsyncStore, "run", failing)
    with pytest.raises(StoreUnavailable):
        await keyed(site, if_exists="replace").aenqueue(2)
    monkeypatch.undo()
    assert await first.astatus() == "pending"
    second = await keyed(site, if_exists="replace").aenqueue(3)
    assert await first.astatus() == "cancelled"
    assert await second.astatus() == "pending"


async def test_one_that_expires_replaces_and_is_replaced_all_the_same(site: Site) -> None:
    """Its bytes are written anew when it is sent: by Redis' clock."""
    ran = noted(site)
    expiring = keyed(site, if_exists="replace", expires=600)
    jobs = [await expiring.aenqueue(n) for n in range(2)]
    jobs += [expiring.enqueue(2)]
    assert [await job.astatus() for job in jobs[:2]] == ["cancelled", "cancelled"]
    (raw,) = site.redis.lrange(site.k.pending, 0, -1)
    assert b"9999999999999" not in raw
    async with site.consumer():
        await site.drained()
    assert ran == [2]


async def test_a_job_that_is_handed_on_keeps_or_throttles(site: Site) -> None:
    ran = noted(site)
    refused: list[str] = []

    @site.app.task
    async def hands_on(ctx: Context = CURRENT) -> None:
        for options in ({"if_exists": "reject"}, {"if_exists": "replace"}):
            with pytest.raises(InvalidJob, match="is not for a job that is handed on"):
                ctx.enqueue(keyed(site, **options).call(0))
            refused.append(options["if_exists"])
        ctx.enqueue(keyed(site, key_until="start").call(1))
        ctx.enqueue(keyed(site).call(2))
        ctx.enqueue(keyed(site, key_ttl=600, if_exists="throttle").call(3))

    async with site.consumer():
        await hands_on.aenqueue()
        await site.drained()
    assert (refused, ran) == (["reject", "replace"], [1])
    assert site.redis.keys("queue:unique:*") == []


@pytest.mark.parametrize("hands_on", [False, True], ids=["settled", "committed"])
async def test_a_job_that_hands_on_frees_the_key_that_others_may_take(
    site: Site, hands_on: bool
) -> None:
    ran = noted(site)

    @site.app.task
    async def work_first(ctx: Context = CURRENT) -> None:
        if hands_on:
            ctx.enqueue(keyed(site).call("handed on"))

    first = await work_first.options(key="u", if_exists="replace").aenqueue()
    assert (await keyed(site).aenqueue("kept out")).id == first.id
    async with site.consumer():
        await site.drained()
    assert ran == ["handed on"] * hands_on
    assert site.redis.keys("queue:unique:*") == []


def test_neither_schedules_nor_workflows_take_jobs_with_a_key(site: Site) -> None:
    noted(site)
    call = keyed(site, if_exists="replace").call(1)
    with pytest.raises(InvalidSetting, match="leave out delay, at, key"):
        site.app.schedules.add("often", call, every=30)
    with pytest.raises(InvalidJob, match="has no key="):
        chain(call, call).enqueue()
    assert not site.redis.keys("*")
