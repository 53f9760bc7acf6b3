"""The hand-off: what a job enqueues through its context is there when the job is done, and only then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headrace import CURRENT, Backoff, Context, Headrace, InvalidArguments, InvalidJob
from headrace.keys import QUEUES, keys_of
from headrace.scripts import MAX_ITEMS, script
from tests.integration.consumer import handing_tasks
from tests.support import invariants
from tests.support.consuming import QUICK, Site, lent
from tests.support.jobs import jobs
from tests.support.proxy import Fault, Proxy
from tests.support.wait import await_until

OTHER = "other"


def waiting(site: Site, queue: str = OTHER) -> list[Any]:
    """Return the arguments of the jobs that wait, oldest first."""
    return [job["args"][0] for job in jobs(site.redis, queue)]


@pytest.fixture
def note(site: Site) -> Any:
    """Give a task whose jobs go where nobody takes them."""

    @site.app.task(queue=OTHER)
    def note(n: object) -> None: ...

    return note


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_a_job_hands_on_is_enqueued_when_it_is_done(
    site: Site, note: Any, kind: str
) -> None:
    def hands_on(ctx: Context = CURRENT) -> None:
        ids = [ctx.enqueue(note.call(n)) for n in range(3)]
        assert len(set(ids)) == 3
        assert not waiting(site)

    async def hands_on_async(ctx: Context = CURRENT) -> None:
        hands_on(ctx)

    task = site.app.task(name="hands_on")(hands_on if kind == "sync" else hands_on_async)
    async with site.consumer():
        await task.aenqueue()
        await site.drained()
    assert waiting(site) == [0, 1, 2]
    assert site.counters() == {"enqueued": 1, "done": 1}
    invariants.check(site.redis, OTHER)
    assert site.redis.sismember(QUEUES, OTHER)


async def test_its_options_hold(site: Site, note: Any) -> None:
    @site.app.task
    def hands_on() -> None:
        CURRENT.enqueue(note.options(delay=60).call("later"))
        CURRENT.enqueue(note.options(priority=5).call("first"))
        CURRENT.enqueue(note.options(queue="third", result_ttl=60).call("elsewhere"))
        CURRENT.enqueue(note.options(key="k").call("unique"))
        CURRENT.enqueue(note.options(key="k").call("again"))

    async with site.consumer():
        await hands_on.aenqueue()
        await site.drained()
    k = keys_of(OTHER)
    (first,) = site.redis.zrange(k.priority, 0, -1)
    (later,) = site.redis.zrange(k.delayed, 0, -1)
    assert (json.loads(first)["args"], json.loads(later)["args"]) == (["first"], ["later"])
    (unique,) = jobs(site.redis, OTHER)
    holder = site.redis.get(k.unique("k"))
    assert unique["args"] == ["unique"] and holder == unique["id"].encode()
    (elsewhere,) = jobs(site.redis, "third")
    assert (elsewhere["args"], elsewhere["result_ttl"]) == (["elsewhere"], 60)


async def test_a_job_may_hand_on_one_with_its_own_key(site: Site) -> None:
    runs: list[int] = []

    @site.app.task
    def again(n: int) -> None:
        runs.append(n)
        if n < 3:
            CURRENT.enqueue(again.options(key="only").call(n + 1))

    async with site.consumer():
        await again.options(key="only").aenqueue(1)
        await await_until(lambda: len(runs) == 3)
        await site.drained()
    assert runs == [1, 2, 3]
    assert not site.redis.exists(site.k.unique("only"))


@pytest.mark.parametrize("ends", ["retry", "dead", "release"])
async def test_who_is_not_done_hands_nothing_on(site: Site, note: Any, ends: str) -> None:
    begun = asyncio.Event()

    @site.app.task(max_attempts=2 if ends == "retry" else 1, backoff=Backoff(base_s=600))
    async def fails(ctx: Context = CURRENT) -> None:
        ctx.enqueue(note.call(ctx.attempt))
        begun.set()
        if ends == "release":
            await asyncio.sleep(600)
        raise OSError

    async with site.consumer(grace_s=0.01) as running:
        await fails.aenqueue()
        await begun.wait()
        if ends == "release":
            running.stop()
            await running.ended()
        else:
            await await_until(lambda: site.counters().get(ends))
    assert not waiting(site)
    assert ends in site.counters()


async def test_a_job_that_is_tried_again_hands_on_once(site: Site, note: Any) -> None:
    @site.app.task(backoff=Backoff(base_s=0))
    def second_time(ctx: Context = CURRENT) -> None:
        ctx.enqueue(note.call(ctx.attempt))
        if ctx.attempt == 1:
            raise OSError

    async with site.consumer():
        await second_time.aenqueue()
        await site.drained()
    assert waiting(site) == [2]


@pytest.mark.parametrize("fault", ["cut", "swallow"])
async def test_an_answer_that_is_lost_doubles_nothing(
    site: Site, note: Any, proxy: Proxy, app: Headrace, fault: Fault
) -> None:
    site.redis.script_load(script("workflows/commit").source)

    @site.app.task
    async def hands_on(n: int, ctx: Context = CURRENT) -> None:
        ctx.enqueue(note.call(n))

    async with site.consumer(app):
        proxy.fail_next(fault, script("workflows/commit").sha.encode())
        await site.app.aenqueue_many(hands_on.call(n) for n in range(5))
        await site.drained()
        await await_until(lambda: proxy.failures == 1)
    assert sorted(waiting(site)) == list(range(5))
    assert site.counters()["done"] == 5


async def test_who_has_lost_its_job_hands_nothing_on(site: Site, note: Any) -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()

    @site.app.task
    async def hands_on(ctx: Context = CURRENT) -> None:
        ctx.enqueue(note.call(ctx.delivery))
        if ctx.delivery == 0:
            begun.set()
            await go_on.wait()

    async with site.consumer(lease=QUICK, check=False) as first:
        await hands_on.aenqueue()
        await begun.wait()
        claims = site.state().claims
        (name,) = claims
        # As if it had been reclaimed, and another consumer had it now.
        site.redis.hset(site.k.claims, name, b"other:1 " + claims[name][1])
        go_on.set()
        await await_until(lambda: site.counters().get("lost"))
        assert not waiting(site)
        site.leases_run_out()
        await site.drained()
    assert waiting(site) == [1], first


async def test_a_suspect_hands_on_from_its_own_process(site: Site) -> None:
    job = handing_tasks.hands_on.call(7).job
    async with lent(site, handing_tasks.app):
        site.push(job.replace(b',"task"', b',"delivery":2,"crashes":2,"task"', 1))
        async with site.consumer():
            await site.drained()
    assert waiting(site) == [7]
    assert site.counters()["done"] == 1


async def test_what_cannot_be_handed_on_is_refused_in_the_task(site: Site, note: Any) -> None:
    said: list[str] = []

    @site.app.task
    def hands_on(ctx: Context = CURRENT) -> None:
        for wrong in (note, note(1), "note"):
            with pytest.raises(InvalidArguments, match="ctx.enqueue takes calls"):
                ctx.enqueue(wrong)
        with pytest.raises(InvalidJob, match="give it a datetime"):
            ctx.enqueue(note.options(expires=30).call(1))
        for n in range(MAX_ITEMS):
            ctx.enqueue(note.call(n))
        with pytest.raises(InvalidJob, match="at most 1,000 jobs") as refused:
            ctx.enqueue(note.call(0))
        said.append(str(refused.value))

    async with site.consumer():
        await hands_on.aenqueue()
        await site.drained()
    assert said and waiting(site) == list(range(MAX_ITEMS))


async def test_after_its_end_a_job_hands_nothing_on(site: Site, note: Any) -> None:
    left: list[Context] = []

    @site.app.task
    async def ends(ctx: Context = CURRENT) -> None:
        left.append(ctx)

    @site.app.task
    async def ends_with_one(ctx: Context = CURRENT) -> None:
        ctx.enqueue(note.call(0))
        left.append(ctx)

    async with site.consumer():
        await ends.aenqueue()
        await ends_with_one.aenqueue()
        await site.drained()
    for ctx in left:
        with pytest.raises(InvalidJob, match="the job has ended"):
            ctx.enqueue(note.call(1))


def test_outside_of_a_job_there_is_nothing_to_hand_on_with(site: Site, note: Any) -> None:
    with pytest.raises(InvalidJob, match=r"use add\.enqueue"):
        CURRENT.enqueue(note.call(1))
