"""Where a job is and why it does not run, on a real server, with real consumers where it takes them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis import Redis

from headrace import doctor, results, wire
from headrace import operations as op
from headrace.doctor import Explanation, Location
from headrace.doctor.connections import Connections
from headrace.ids import new_id
from headrace.keys import CONSUMERS, keys_of
from headrace.lanes import Limit
from headrace.lanes import operations as lanes
from headrace.policy import LeasePolicy
from headrace.reports import progress
from headrace.store import AsyncStore
from tests.support.consuming import Site
from tests.support.plain import PlainRedis
from tests.support.wait import WAIT_S, await_until

POLICY = LeasePolicy()
K = keys_of("queue")


class Clinic:
    """A store, a plain client, and what is said of a job."""

    def __init__(self, store: AsyncStore, redis: PlainRedis) -> None:
        self.store = store
        self.redis = redis

    async def look(self, job_id: str, most: int = 1_000) -> Location:
        return await self.store.follow(doctor.locate("queue", job_id, most=most))

    async def of(self, job_id: str, most: int = 1_000) -> Explanation:
        return doctor.explain(await self.look(job_id, most), POLICY)

    async def says(self, job_id: str) -> str:
        """Give all that is said of it, as one text."""
        one = await self.of(job_id)
        return " ".join((one.headline, *one.reasons, one.todo))

    async def enqueue(self, count: int = 1, priority: int = 0, **options: str) -> list[str]:
        body = wire.encode_call("t", (), {})
        ids = [new_id() for _ in range(count)]
        jobs = [wire.assemble(i, body, priority) for i in ids]
        await self.store.run(op.enqueue(K, jobs, **options))  # type: ignore[arg-type]
        return ids

    async def claim(self, count: int = 1, lease_ms: int = 60_000) -> list[str]:
        claim = op.claim(K, count, lease_ms=lease_ms, consumer="me", first=1)
        return [wire.split(job)[0].id for job in (await self.store.run(claim)).jobs]  # type: ignore[index]

    async def lead(self) -> None:
        await self.store.run(op.lead("leader", 60_000))


@pytest.fixture
async def clinic(store: AsyncStore, redis: Redis) -> Clinic:
    return Clinic(store, redis)


@pytest.fixture
async def site(url: str, redis: Redis) -> AsyncIterator[Site]:
    site = Site(url, redis)
    yield site
    await site.close()


# Pending


async def test_its_place_counts_from_the_end_that_consumers_take_from(clinic: Clinic) -> None:
    ids = await clinic.enqueue(20)
    assert (await clinic.of(ids[0])).headline == "pending, 1st of 20 that wait"
    seventeenth = await clinic.of(ids[16])
    assert seventeenth.headline == "pending, 17th of 20 that wait"
    assert seventeenth.facts["position"] == 17
    assert (seventeenth.state, seventeenth.task) == ("pending", "t")


async def test_priorities_go_before_and_after_the_list(clinic: Clinic) -> None:
    plain = await clinic.enqueue(3)
    low = await clinic.enqueue(2, priority=-1)
    high = await clinic.enqueue(2, priority=9)
    order = [*high, *plain, *low]
    places = [(await clinic.of(i)).facts["position"] for i in order]
    assert places == [1, 2, 3, 4, 5, 6, 7]
    assert await clinic.claim(7) == order  # which is how they are claimed


async def test_a_paused_queue_and_no_consumer_are_reasons(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    assert "No consumer is connected." in await clinic.says(job_id)
    await clinic.store.run(op.pause(K, paused=True))
    said = await clinic.of(job_id)
    assert said.reasons[0] == "The queue is paused: nothing is claimed until it is resumed."
    assert said.todo == "headrace resume queue"


async def test_busy_consumers_are_a_reason(site: Site, clinic: Clinic) -> None:
    release = threading.Event()

    @site.app.task
    def block() -> None:
        release.wait(WAIT_S)

    first = block.enqueue()
    try:
        async with site.consumer(concurrency=1, check=False):
            await await_until(lambda: site.redis.hlen(K.claims) == 1, what="the first one runs")
            second = await asyncio.to_thread(block.enqueue)
            assert "1 consumer is connected, and busy." in await clinic.says(second.id)
            running = await clinic.says(first.id)
            assert "delivery 1; its lease ends in" in running
            assert "Its consumer is connected, and extends the lease while it runs." in running
            release.set()
            await site.drained()
    finally:
        release.set()


async def test_an_idle_consumer_serves_other_queues(site: Site, clinic: Clinic) -> None:
    async with site.consumer(queues="other", check=False) as running:
        await site.idle(running)
        (job_id,) = await clinic.enqueue()
        assert "and 1 waits for work: they take it in a moment, or do not serve this queue" in (
            await clinic.says(job_id)
        )


async def test_a_plain_clients_job_is_found_by_an_id_that_stands_anywhere(clinic: Clinic) -> None:
    clinic.redis.lpush("queue", b'{"task": "echo", "id": "mine"}', b"\xff mine", b'["mine"]')
    said = await clinic.of("mine")
    assert said.headline == "pending, 1st of 3 that wait"
    assert "no id in front" in said.reasons[-1]


async def test_a_search_that_ends_early_says_so(clinic: Clinic) -> None:
    ids = await clinic.enqueue(50)
    said = await clinic.of(ids[49], most=20)
    assert said.state == "unknown"
    assert said.headline == "not among the 20 jobs that were read, and queue queue has more"
    assert said.todo == f"headrace explain --search 0 --queue queue {ids[49]}"
    assert (await clinic.of(ids[19], most=20)).state == "pending"


# Delayed


async def test_a_delayed_job_says_until_when(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue(due="+180000")
    await clinic.lead()
    said = await clinic.of(job_id)
    assert said.headline.startswith("delayed until 2")
    assert said.headline.endswith(", in 3 min")
    assert said.reasons == ("It was enqueued so.",)
    assert said.facts["due_at_ms"] > 0


async def test_a_plain_client_may_put_a_job_off_for_ever(clinic: Clinic) -> None:
    clinic.redis.zadd(K.delayed, {b'{"id":"x","task":"t"}': float("inf")})
    assert "delayed until 4,503,599,627,370,496 ms after 1970, in " in await clinic.says("x")


async def test_a_delayed_job_that_is_due_waits_for_a_leader(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue(due="+60000")
    (job,) = clinic.redis.zrange(K.delayed, 0, -1)
    clinic.redis.zadd(K.delayed, {job: 1_000})
    said = await clinic.says(job_id)
    assert "delayed, and due since" in said
    assert "Nobody leads" in said
    assert "headrace serve" in said
    await clinic.lead()
    assert "leader leads, and moves it within a second." in await clinic.says(job_id)


async def test_a_retry_says_how_often_it_failed(site: Site, clinic: Clinic) -> None:
    @site.app.task(max_attempts=5)
    def fail() -> None:
        raise ConnectionError

    job = fail.options(max_attempts=5).enqueue()
    async with site.consumer(check=False):
        await await_until(lambda: site.redis.zcard(K.delayed) == 1, what="it is to be tried again")
        said = await clinic.says(job.id)
    assert "It failed once of 5 so far." in said
    assert "This is the wait before it is tried again." in said


async def test_a_task_that_nobody_knows_is_named(site: Site, clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    async with site.consumer(check=False):
        await await_until(lambda: site.redis.zcard(K.delayed) == 1, what="it is parked")
        said = await clinic.says(job_id)
    assert "No consumer that had it knew its task 't', for" in said


# Processing


async def test_a_lost_consumers_job_says_when_it_runs_again(clinic: Clinic) -> None:
    await clinic.enqueue()
    (job_id,) = await clinic.claim(lease_ms=60_000)
    said = await clinic.of(job_id)
    assert said.headline.startswith("processing at consumer me, delivery 1; its lease ends in ")
    assert 1 <= seconds(said.headline + ".") <= 60
    assert "Its consumer has no connection to Redis." in said.reasons
    assert said.todo == "headrace consume, with your application; or headrace serve"
    await clinic.lead()
    again = (await clinic.of(job_id)).reasons[0]
    assert (
        again
        == f"Its consumer has no connection to Redis: it runs again within {seconds(again)} s."
    )
    assert 1 <= seconds(again) <= 65  # what is left of 60, two sweeps, a change of leader
    # One that was seen connected is missed before its lease ends.
    clinic.redis.hset(CONSUMERS, "me", 0)
    assert 10 <= seconds((await clinic.of(job_id)).reasons[0]) <= 11
    assert said.facts["consumer"] == "me"


def seconds(text: str) -> int:
    return int(text.split()[-2])


async def test_a_bare_item_gets_a_lease_at_the_next_sweep(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    clinic.redis.brpoplpush("queue", K.processing)
    assert "Nobody leads" in await clinic.says(job_id)
    await clinic.lead()
    said = await clinic.says(job_id)
    assert "processing, without a lease" in said
    assert "The next sweep gives it a lease of 15 s." in said
    await clinic.store.run(op.sweep(K, bare_lease_ms=9_000))
    said = await clinic.says(job_id)
    assert "processing at a plain client; its lease ends in" in said
    assert "goes back as it was" in said


async def test_a_claim_that_does_not_fit_sends_to_the_doctor(clinic: Clinic) -> None:
    await clinic.enqueue()
    (job_id,) = await clinic.claim()
    clinic.redis.zrem(K.leases, job_id)
    assert "headrace doctor --repair queue" in await clinic.says(job_id)
    clinic.redis.delete(K.processing)
    assert "a plain LREM took them" in await clinic.says(job_id)


async def test_a_lease_that_ran_out_says_so(clinic: Clinic) -> None:
    await clinic.enqueue()
    (job_id,) = await clinic.claim()
    clinic.redis.zadd(K.leases, {job_id: 1_000})
    await clinic.lead()
    said = await clinic.says(job_id)
    assert "its lease ended" in said
    assert "It is made runnable within seconds." in said


async def test_a_running_job_that_shall_stop_says_so(clinic: Clinic) -> None:
    await clinic.enqueue()
    (job_id,) = await clinic.claim()
    assert await clinic.store.run(op.cancel(K, job_id, b"")) == "requested"
    assert "It was asked to stop" in await clinic.says(job_id)


# Over


async def test_a_dead_job_says_why_and_how_to_put_it_back(site: Site, clinic: Clinic) -> None:
    @site.app.task(max_attempts=1)
    def fail() -> None:
        raise ConnectionError("no route")

    job = fail.enqueue()
    async with site.consumer(check=False) as running:
        await site.died()
    said = await clinic.of(job.id)
    assert said.state == "dead"
    assert said.headline.startswith("dead for ")
    assert said.headline.endswith(": max_attempts")
    assert said.reasons == (
        "ConnectionError: no route.",
        f"It failed once; consumer {running.name} gave it up.",
    )
    assert said.todo == f"headrace dlq show {job.id}; back: headrace dlq redrive {job.id}"


async def test_a_done_job_says_how_long_its_result_is_kept(site: Site, clinic: Clinic) -> None:
    @site.app.task(result_ttl=60)
    def ok() -> int:
        return 1

    job = ok.enqueue()
    async with site.consumer():
        await await_until(lambda: site.redis.exists(K.result(job.id)), what="its result")
    said = await clinic.of(job.id)
    assert said.state == "done"
    assert said.headline.startswith("done; its result is kept for ")


async def test_a_letter_that_is_purged_leaves_its_result(site: Site, clinic: Clinic) -> None:
    @site.app.task(max_attempts=1, result_ttl=60)
    def fail() -> None:
        raise ConnectionError("no route")

    job = fail.enqueue()
    async with site.consumer(check=False):
        await site.died()
    assert (await clinic.of(job.id)).headline.startswith("dead for")
    clinic.redis.delete(K.dead)
    said = await clinic.of(job.id)
    assert said.state == "dead"
    assert said.headline.startswith("dead: max_attempts; that is kept for")
    assert "Its dead letter is gone" in said.reasons[1]


async def test_a_cancelled_job_says_so(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    job = clinic.redis.lindex("queue", 0)
    await clinic.store.run(op.cancel(K, job_id, job))
    assert (await clinic.of(job_id)).headline == "cancelled, within the last hour"
    (job_id,) = await clinic.enqueue()
    job = clinic.redis.lindex("queue", 0)
    end = results.CANCELLED
    await clinic.store.run(op.cancel(K, job_id, job, result_ttl_ms=60_000, result=end))
    said = await clinic.of(job_id)
    assert said.state == "cancelled"
    assert "is kept for" in said.headline


async def test_what_was_never_here_is_unknown(clinic: Clinic) -> None:
    said = await clinic.of("nosuch")
    assert said.state == "unknown"
    assert "Headrace did not make this id." in said.reasons
    assert "Its id was made" in await clinic.says(new_id())


async def test_a_redriven_job_waits_though_its_old_end_is_still_there(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    end = results.encode_error(wire.Error("max_attempts"))
    clinic.redis.rpush(K.result(job_id), end)  # as after a plain LMOVE queue:dlq queue
    assert (await clinic.of(job_id)).state == "pending"


async def test_without_client_list_it_says_that_it_does_not_know(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    blind = replace(await clinic.look(job_id), connections=Connections())
    said = doctor.explain(blind, POLICY)
    assert "Who is connected is not known" in said.reasons[0]
    assert said.todo == ""


async def test_explaining_changes_nothing(clinic: Clinic) -> None:
    ids = await clinic.enqueue(3)
    await clinic.claim()
    before = {key: clinic.redis.dump(key) for key in clinic.redis.keys()}
    for job_id in (*ids, "nosuch"):
        json.dumps((await clinic.of(job_id)).facts)
    assert {key: clinic.redis.dump(key) for key in clinic.redis.keys()} == before


# Progress


async def test_how_far_a_running_job_is_is_told_with_its_age(clinic: Clinic) -> None:
    (job_id,) = await clinic.enqueue()
    await clinic.claim()
    assert "It has done" not in await clinic.says(job_id)
    told = progress.Told(job_id, 1, progress.Progress(340, 1_000, "loading"))
    assert await clinic.store.run(progress.tell(K, "me", [told])) == []
    assert "It has done 340 of 1,000 (34 %): loading; it told so " in await clinic.says(job_id)
    fact = (await clinic.of(job_id)).facts["progress"]
    assert (fact["done"], fact["total"], fact["note"]) == (340, 1_000, "loading")


class TestInALane:
    """Jobs that wait for a limit, or for their turn."""

    async def send(self, clinic: Clinic, lane: str, count: int, **limits: Limit) -> list[str]:
        named = {
            name.replace("each", "/*").replace("all", "*"): str(one) for name, one in limits.items()
        }
        await clinic.store.run(lanes.declare(K, named))
        body, ids = wire.encode_call("send", (), {}), [new_id() for _ in range(count)]
        jobs = [(lane, wire.assemble(i, body)) for i in ids]
        await clinic.store.run(lanes.enqueue(K, jobs))
        return ids

    async def test_the_limit_without_a_slot_is_named(self, clinic: Clinic) -> None:
        ids = await self.send(clinic, "send/a%20b", 3, sendeach=Limit(concurrency=1))
        one = await clinic.of(ids[2])
        assert one.state == "limited"
        assert one.headline == "limited, 2nd in the lane of task send, key a b"
        assert "All 1 slots of the limit send/a b are taken." in one.reasons
        assert (one.facts["position"], one.facts["lane"]) == (2, "send/a%20b")

    async def test_the_limit_without_a_token_is_named(self, clinic: Clinic) -> None:
        ids = await self.send(clinic, "*/", 2, all=Limit(rate=0.01, burst=1))
        said = await clinic.says(ids[1])
        assert said.startswith("limited, 1st in the lane of the queue")
        assert "The queue's limit has no token: 0.01 a second, the next in" in said

    async def test_those_that_are_let_out_before_it_are_counted(self, clinic: Clinic) -> None:
        ids = await self.send(clinic, "*/a", 70)
        assert "64 jobs are let out of lanes before it" in await clinic.says(ids[69])
        await self.send(clinic, "*/b", 1)
        assert "2 lanes have their turns." in await clinic.says(ids[69])
        assert (await clinic.of(ids[0])).state == "pending"
