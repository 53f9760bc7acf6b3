"""Limits and turns, with real consumers: no more than allowed, nobody waits for ever, no slot leaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from headrace import CURRENT, RESULT, Context, Headrace, JobFailed, Retry, chain, chord, group
from headrace.consumer.admission import Admission
from headrace.duties import DUTIES
from headrace.errors import InvalidJob, ReplyLost
from headrace.lanes import lane_keys
from headrace.store import AsyncStore
from tests.support.consuming import QUICK, Site, hold_as
from tests.support.wait import WAIT_S, await_until

LEADS: dict[str, Any] = {"lease": QUICK, "duties": DUTIES}


class Watch:
    """Counts how many run at once, by key."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.began: list[str] = []
        self.gate = asyncio.Event()

    async def run(self, key: str) -> None:
        self.began.append(key)
        self.now[key] += 1
        self.now["all"] += 1
        for name in (key, "all"):
            self.most[name] = max(self.most[name], self.now[name])
        await self.gate.wait()
        self.now[key] -= 1
        self.now["all"] -= 1


def slots(site: Site) -> int:
    return int(site.redis.zcard(lane_keys(site.k).slots))


def waiting(site: Site) -> int:
    return int(site.redis.hlen(site.k.limited))


def time_passes(site: Site, seconds: float) -> None:
    """Let the buckets, and the alarm of who keeps the time, be so much older."""
    key = lane_keys(site.k).buckets
    for name, value in site.redis.hgetall(key).items():
        if name == b"*alarm":
            site.redis.hset(key, name, int(value) - int(seconds * 1e6))
        elif not name.startswith(b"*") or name == b"*":
            tokens, at = value.split()
            site.redis.hset(key, name, b"%s %d" % (tokens, int(at) - int(seconds * 1e6)))


async def done(site: Site, count: int) -> None:
    await await_until(lambda: site.counters().get("done", 0) >= count, what=f"{count} jobs done")


async def test_no_more_run_at_once_than_allowed_over_all_consumers(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=3)
    async def send(n: int) -> None:
        await watch.run("send")

    site.app.enqueue_many(send.call(i) for i in range(30))
    assert waiting(site) == 27  # none is claimed before it may run
    async with site.consumer(**LEADS), site.consumer(**LEADS):
        await await_until(lambda: watch.now["all"] == 3, what="three run")
        watch.gate.set()
        await done(site, 30)
        await await_until(lambda: slots(site) == 0, what="all slots are free")
    assert watch.most["all"] == 3
    assert site.ends()["done"] == 30


async def test_a_job_that_waits_for_a_limit_keeps_no_other_one_waiting(site: Site) -> None:
    watch = Watch()
    ran: list[int] = []

    @site.app.task(concurrency_limit=1)
    async def send(n: int) -> None:
        await watch.run("send")

    @site.app.task
    async def plain(n: int) -> None:
        ran.append(n)

    site.app.enqueue_many([*(send.call(i) for i in range(20)), *(plain.call(i) for i in range(20))])
    async with site.consumer(concurrency=2, **LEADS):
        await await_until(lambda: len(ran) == 20, what="the plain ones have run")
        assert watch.now["all"] == 1
        watch.gate.set()
        await done(site, 40)


async def test_each_key_has_a_limit_of_its_own(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=2, limit_by="tenant")
    async def send(n: int, tenant: str) -> None:
        await watch.run(tenant)

    calls = [send.call(i, tenant=f"t/{i % 3} ü") for i in range(12)]
    site.app.enqueue_many([*calls, send.call(1, "x")])
    async with site.consumer(**LEADS):
        await await_until(lambda: watch.now["all"] == 7, what="two of each run")
        watch.gate.set()
        await done(site, 13)
    assert watch.most["t/0 ü"] == watch.most["t/2 ü"] == 2


async def test_tokens_let_jobs_out_as_they_come(site: Site) -> None:
    ran: list[int] = []

    @site.app.task(rate_limit="1/100s", burst=3)
    def send(n: int) -> None:
        ran.append(n)

    site.app.enqueue_many(send.call(i) for i in range(6))
    async with site.consumer(**LEADS):
        await done(site, 3)
        for n in (4, 5, 6):
            time_passes(site, 101)
            await done(site, n)
            assert len(ran) == n
    assert ran == [*range(6)]


async def test_a_fast_rate_needs_nobody_but_a_consumer_to_keep_the_time(site: Site) -> None:
    @site.app.task(rate_limit="50/s", burst=1)
    async def send(n: int) -> None: ...

    site.let_nobody_sweep()
    async with site.consumer(**LEADS):
        site.app.enqueue_many(send.call(i) for i in range(10))
        await done(site, 10)


async def test_one_tenant_does_not_keep_the_others_waiting(site: Site) -> None:
    began: list[str] = []

    @site.app.task
    async def send(tenant: str) -> None:
        began.append(tenant)

    site.app.limit_queue("queue", fair_by="tenant")
    site.app.enqueue_many(send.call("big") for _ in range(2_000))
    site.app.enqueue_many(send.call(f"small{i % 9}") for i in range(90))
    async with site.consumer(**LEADS):
        await done(site, 2_090)
    last = max(i for i, tenant in enumerate(began) if tenant != "big")
    assert last < 64 + 100 + 1.2 * 100


async def test_a_retry_waits_for_its_limit_again_and_burns_no_attempt(site: Site) -> None:
    watch, tries = Watch(), Counter[int]()

    @site.app.task(concurrency_limit=1, max_attempts=2)
    async def send(n: int) -> None:
        tries[n] += 1
        await watch.run("send")
        if tries[n] == 1:
            raise Retry(in_=0)

    site.app.enqueue_many(send.call(i) for i in range(5))
    async with site.consumer(**LEADS):
        watch.gate.set()
        await done(site, 5)
        await await_until(lambda: slots(site) == 0, what="all slots are free")
    assert watch.most["all"] == 1
    ends = site.ends()
    assert (ends["enqueued"], ends["retry"], ends["done"]) == (5, 5, 5)
    assert ends["hold"] >= 5  # more if the answer to a claim was lost


async def test_what_comes_in_another_way_is_limited_all_the_same(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=1, limit_by=lambda tenant: tenant)
    async def send(tenant: str) -> None:
        await watch.run(tenant)

    site.push({"task": "send", "args": ["a"]}, {"task": "send", "kwargs": {"tenant": "a"}})
    site.another_app().enqueue("send", "a")
    send.options(delay=0.001).enqueue("a")
    send.options(key="k").enqueue("a")
    send.options(priority=7).enqueue("a")
    async with site.consumer(**LEADS):
        watch.gate.set()
        await done(site, 6)
    assert watch.most["a"] == 1
    assert site.ends()["hold"] >= 5


async def test_a_job_hands_on_under_its_own_limit(site: Site) -> None:
    """Its end frees the slot that what it hands on waits for."""
    watch = Watch()

    @site.app.task(concurrency_limit=1)
    async def step(left: int, ctx: Context = CURRENT) -> None:
        if left:
            ctx.enqueue(step.call(left - 1))
            ctx.enqueue(step.options(delay=0.001).call(0))
        await watch.run("step")

    watch.gate.set()
    await step.aenqueue(5)
    async with site.consumer(**LEADS):
        await done(site, 11)
        await await_until(lambda: slots(site) == 0, what="all slots are free")
    assert watch.most["all"] == 1
    assert site.ends()["enqueued"] == 11


async def test_a_consumer_that_dies_after_a_hand_off_leaves_its_slot_to_what_it_handed_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    @site.app.task(concurrency_limit=1)
    async def step(left: int, ctx: Context = CURRENT) -> None:
        if left:
            ctx.enqueue(step.call(left - 1))

    async def never(self: Admission) -> None: ...

    await step.aenqueue(2)
    with monkeypatch.context() as patched:
        patched.setattr(Admission, "_tell", never)
        async with site.consumer(check=False):
            await done(site, 1)
            await await_until(lambda: waiting(site) == 1, what="the next one is in its lane")
    assert slots(site) == 1  # of the one that has handed on
    async with site.consumer(**LEADS):
        await done(site, 3)
        await await_until(lambda: slots(site) == 0, what="all slots are free")


async def test_members_of_a_workflow_are_limited(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=1, limit_by="tenant")
    async def send(tenant: str) -> str:
        await watch.run(tenant)
        return tenant

    @site.app.task
    async def total(tenants: list[str]) -> str:
        return "".join(tenants)

    watch.gate.set()
    flow = chord([chain(send.call(name), send.call(RESULT)) for name in "aab"], total.call(RESULT))
    started = await flow.aenqueue()
    async with site.consumer(**LEADS):
        assert await started.aresult(WAIT_S) == "aab"
        await await_until(lambda: slots(site) == 0, what="all slots are free")
    assert (watch.most["a"], watch.most["b"]) == (1, 1)
    assert set(watch.most) == {"a", "b", "all"}


async def test_a_member_that_is_cancelled_in_its_lane_is_over_for_its_workflow(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=1, result_ttl=60)
    async def send(n: int) -> int:
        await watch.run("send")
        return n

    started = await group(send.call(n) for n in range(2)).aenqueue()
    async with site.consumer(**LEADS):
        await await_until(lambda: waiting(site) == 1, what="one waits in its lane")
        ((member, _),) = site.redis.hgetall(site.k.limited).items()
        assert await site.app.job(member.decode()).acancel()
        with pytest.raises(JobFailed, match="cancelled"):
            await started.aresult(WAIT_S)
        watch.gate.set()
        await done(site, 1)


async def test_a_dead_job_that_is_redriven_is_limited_again(site: Site) -> None:
    watch, fail = Watch(), True

    @site.app.task(concurrency_limit=1, max_attempts=1)
    async def send(n: int) -> None:
        await watch.run("send")
        if fail:
            raise ValueError(n)

    watch.gate.set()
    site.app.enqueue_many(send.call(i) for i in range(3))
    async with site.consumer(**LEADS):
        await site.died(3)
        fail = False
        for _ in range(3):
            site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
        await done(site, 3)
    assert watch.most["all"] == 1


async def test_the_slot_of_a_holder_that_died_is_free_when_its_lease_is_past(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=1)
    async def send(n: int) -> None:
        await watch.run("send")

    watch.gate.set()
    site.app.enqueue_many(send.call(i) for i in range(2))
    assert len(await hold_as(site, "dead", 1, lease_ms=60_000)) == 1
    async with site.consumer(**LEADS):
        assert slots(site) == 1
        site.leases_run_out()
        await done(site, 2)
        await await_until(lambda: slots(site) == 0, what="all slots are free")
    assert site.ends()["reclaimed"] == 1


async def test_a_consumer_that_ends_without_a_word_leaves_no_slot_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that dies between the end of its jobs and the word of it."""

    @site.app.task(concurrency_limit=2)
    async def send(n: int) -> None: ...

    async def never(self: Admission) -> None: ...

    site.app.enqueue_many(send.call(i) for i in range(6))
    with monkeypatch.context() as patched:
        patched.setattr(Admission, "_tell", never)
        async with site.consumer(check=False):
            await done(site, 2)
    assert (slots(site), waiting(site)) == (2, 4)
    async with site.consumer(**LEADS):
        await done(site, 6)
        await await_until(lambda: slots(site) == 0, what="all slots are free")


async def test_a_word_whose_answer_is_lost_is_told_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    @site.app.task(concurrency_limit=1)
    async def send(n: int) -> None: ...

    run, fails = AsyncStore.run, iter(range(1_000))

    async def lossy(self: AsyncStore, operation: Any) -> Any:
        answer = await run(self, operation)
        if operation.name == "lanes/admit" and next(fails) % 2 == 0:
            raise ReplyLost("lost")
        return answer

    monkeypatch.setattr(AsyncStore, "run", lossy)
    site.app.enqueue_many(send.call(i) for i in range(5))
    async with site.consumer(**LEADS):
        await done(site, 5)
    assert slots(site) == 0


async def test_a_consumer_that_is_told_to_end_gives_back_what_had_a_permit(site: Site) -> None:
    watch = Watch()

    @site.app.task(concurrency_limit=2)
    async def send(n: int) -> None:
        await watch.run("send")

    site.app.enqueue_many(send.call(i) for i in range(4))
    async with site.consumer(grace_s=0.0, **LEADS):
        await await_until(lambda: watch.now["all"] == 2, what="two run")
    assert site.counters()["release"] >= 2
    watch.gate.set()
    async with site.consumer(**LEADS):
        await done(site, 4)
        await await_until(lambda: slots(site) == 0, what="all slots are free")


async def test_a_limit_that_is_changed_holds_for_what_waits(site: Site) -> None:
    watch = Watch()

    def declare(app: Headrace, limit: int | None) -> Any:
        @app.task(concurrency_limit=limit)
        async def send(n: int) -> None:
            await watch.run("send")

        return send

    send = declare(site.app, 1)
    site.app.enqueue_many(send.call(i) for i in range(9))
    async with site.consumer(**LEADS):
        await await_until(lambda: watch.now["all"] == 1, what="one runs")
        newer = site.another_app()
        declare(newer, 4)
        async with site.consumer(newer, **LEADS):
            await await_until(lambda: watch.now["all"] == 4, what="four run")
            watch.gate.set()
            await done(site, 9)


async def test_the_handle_of_a_job_in_a_lane_works(site: Site) -> None:
    @site.app.task(concurrency_limit=1, result_ttl=60)
    async def send(n: int) -> int:
        return n

    first, second, third = site.app.enqueue_many(send.call(i) for i in range(3))
    assert (await first.astatus(), await third.astatus()) == ("pending", "pending")
    assert await site.app.job(third.id).astatus() == "pending"
    assert await third.acancel()
    assert not await third.acancel()
    assert await third.astatus() == "cancelled"
    async with site.consumer(**LEADS):
        assert await second.aresult(WAIT_S) == 1
    assert site.ends() == {"enqueued": 3, "admitted": 2, "cancel": 1, "done": 2}


async def test_a_burst_takes_all_that_may_run_and_leaves_what_has_to_wait(site: Site) -> None:
    @site.app.task
    async def plain(n: int) -> None: ...

    @site.app.task(rate_limit="1/1000s", burst=2)
    async def send(n: int) -> None: ...

    site.app.limit_queue("queue", fair_by="n")
    site.app.enqueue_many([*(plain.call(i % 7) for i in range(300)), *map(send.call, range(5))])
    async with site.consumer(burst=True, **LEADS) as running:
        await running.ended()
    assert site.ends()["done"] == 302
    assert waiting(site) == 3


async def test_limits_that_are_declared_late_hold_for_who_has_enqueued_before(site: Site) -> None:
    site.app.enqueue("other")

    @site.app.task(concurrency_limit=1)
    async def send(n: int) -> None: ...

    site.app.enqueue_many(send.call(i) for i in range(3))
    assert waiting(site) == 2


async def test_a_lane_where_nothing_is_limited_is_refused(site: Site) -> None:
    @site.app.task
    def send(n: int) -> None: ...

    with pytest.raises(InvalidJob, match="limit_queue"):
        send.options(lane="a").enqueue(1)


async def test_old_low_priorities_go_before_new_high_ones(site: Site) -> None:
    began: list[str] = []

    @site.app.task
    async def send(name: str) -> None:
        began.append(name)

    site.app.limit_queue("queue", concurrency_limit=1, priority_ageing=0.001)
    send.options(priority=-10).enqueue("old and low")
    await asyncio.sleep(0.03)  # twenty points of priority are worth 20 ms of Redis' own time
    send.options(priority=10).enqueue("new and high")
    assert waiting(site) == 1
    async with site.consumer(concurrency=1, **LEADS):
        await done(site, 2)
    assert began == ["old and low", "new and high"]
