"""A job that expires is not started after its instant, wherever it has waited; it is counted all the same."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from headrace import Headrace, JobFailed, expiry, wire
from headrace.doctor.dead_letters import redrive
from headrace.errors import StoreError
from headrace.retry import Backoff
from headrace.store import Store
from tests.support.consuming import QUICK, Site
from tests.support.wait import WAIT_S, await_until

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def ran(site: Site) -> list[int]:
    """Give an application with the task ``note``, and what it has noted."""
    ran: list[int] = []
    site.app.task(name="note", result_ttl=600)(ran.append)
    site.app.task(name="brief", drop_expired=True, result_ttl=600)(ran.append)
    return ran


def note(site: Site, number: int, task: str = "note", **options: Any) -> Any:
    return site.app.enqueue_many([site.app.call_with(task, (number,), {}, options)])[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("how", [{}, {"priority": 3}, {"delay": 0.001}, {"key": "k"}])
async def test_an_expired_job_is_a_dead_letter_and_its_waiter_is_told(
    site: Site, ran: list[int], how: dict[str, Any]
) -> None:
    job = note(site, 1, expires=PAST, **how)
    note(site, 2)
    async with site.consumer():
        with pytest.raises(JobFailed, match="expired") as failed:
            await job.aresult(timeout=WAIT_S)
        await site.drained()
    assert failed.value.reason == "expired"
    assert ran == [2]
    [letter] = site.letters()
    assert letter["error"]["reason"] == "expired"
    assert not {"attempt", "crashes"} & letter.keys()
    assert site.ends() == {"enqueued": 2, "done": 1, "dead": 1}
    assert not site.redis.keys("*:unique:*")


async def test_a_job_in_time_runs_and_what_runs_is_let_run(site: Site) -> None:
    ended: list[int] = []

    @site.app.task
    async def slow() -> None:
        job = json.loads(site.redis.lrange(site.k.processing, 0, -1)[0])
        await await_until(lambda: site.now_ms() > job["expires_at"])
        ended.append(1)

    async with site.consumer(lease=QUICK):
        await slow.options(expires=0.5).aenqueue()
        await await_until(lambda: site.counters().get("done") or site.letters())
    if not site.letters():  # on a machine so slow that it had expired before, that is right, too
        assert ended == [1]


async def test_seconds_count_from_the_enqueue_by_redis_clock(
    site: Site, ran: list[int], redis: Redis
) -> None:
    before = site.now_ms()
    jobs = [note(site, 1, expires=60), note(site, 2, expires=timedelta(minutes=2), delay=90)]
    await site.app.aenqueue_many([site.app.call_with("note", (3,), {}, {"expires": 60.5})])
    after = site.now_ms()
    raw = [*redis.lrange(site.k.pending, 0, -1), *redis.zrange(site.k.delayed, 0, -1)]
    found = {job["args"][0]: job["expires_at"] for job in map(json.loads, raw)}
    for number, seconds in ((1, 60), (2, 120), (3, 60.5)):
        assert before + seconds * 1000 <= found[number] + 1 <= after + seconds * 1000 + 2
    assert jobs[0].status() == "pending"  # found although its bytes are not those of its handle
    assert jobs[0].cancel()
    assert jobs[1].cancel()
    async with site.consumer():
        await site.drained()
    assert ran == [3]


async def test_a_retry_that_comes_too_late_is_not_made(site: Site) -> None:
    ran: list[int] = []

    # With a shorter one it may run again before the next line of this test.
    @site.app.task(max_attempts=5, backoff=Backoff(base_s=60, jitter=False))
    def fail() -> None:
        ran.append(1)
        raise OSError

    async with site.consumer():
        await fail.aenqueue()  # imports and connects
        await await_until(lambda: site.redis.zcard(site.k.delayed) == 1)
        [(raw, _)] = site.redis.zrange(site.k.delayed, 0, -1, withscores=True)
        late = raw[:-1] + b',"expires_at":%d}' % (site.now_ms() - 1)
        site.redis.zrem(site.k.delayed, raw)
        site.redis.zadd(site.k.delayed, {late: 1})  # its backoff is over
        [letter] = await site.died()
    assert (letter["error"]["reason"], letter["attempt"], ran) == ("expired", 1, [1])


async def test_a_task_may_drop_what_expires_and_keep_what_fails(site: Site, ran: list[int]) -> None:
    job = note(site, 1, "brief", expires=PAST)
    async with site.consumer():
        with pytest.raises(JobFailed, match="expired"):
            await job.aresult(timeout=WAIT_S)
        await site.drained()
    assert (ran, site.letters(), site.ends()) == ([], [], {"enqueued": 1, "drop": 1})


@pytest.mark.parametrize("at", ["1", "0", "-5", "1.5", "1e3"])
async def test_a_foreign_job_may_expire(site: Site, ran: list[int], at: str) -> None:
    site.push(b'{"task":"note","args":[1],"expires_at":%b}' % at.encode())
    site.push(b'{"task":"note","args":[2],"expires_at":1e300}')
    async with site.consumer():
        [letter] = await site.died()
        await site.drained()
    assert (letter["error"]["reason"], ran) == ("expired", [2])


@pytest.mark.parametrize("plain", [True, False])
async def test_redriven_it_runs(site: Site, ran: list[int], *, plain: bool) -> None:
    note(site, 1, expires=PAST)
    async with site.consumer():
        await site.died()
    if plain:
        site.redis.lmove(site.k.dead, site.k.pending, "LEFT", "RIGHT")
    else:
        store = Store(site.url)
        assert store.follow(redrive(site.k, lambda _: True, lambda _: None)) == 1
        store.close()
    async with site.consumer():
        await site.drained()
    assert ran == [1]


async def test_expired_jobs_do_not_use_up_max_jobs(site: Site, ran: list[int]) -> None:
    for number in range(5):
        note(site, number, expires=PAST)
    note(site, 9)
    async with site.consumer(max_jobs=1) as running:
        await running.ended()
    assert ran == [9]


def test_when_redis_cannot_be_asked_nothing_is_enqueued() -> None:
    app = Headrace("redis://127.0.0.1:1")
    app.task(name="note")(lambda: None)
    with pytest.raises(StoreError) as refused:
        app.tasks["note"].options(expires=60).enqueue()
    assert not refused.value.may_have_happened


class TestBytes:
    def test_an_instant_keeps_the_length_of_the_job(self) -> None:
        job = wire.assemble("a" * 26, wire.encode_call("t", (1,), {}, expires_at=expiry.NEVER_MS))
        expiring = expiry.expiring(job, 1_795_492_028_185)
        assert len(expiring) == len(job)
        assert json.loads(expiring)["expires_at"] == 1_795_492_028_185

    def test_an_argument_of_that_name_is_left_alone(self) -> None:
        args = ({"expires_at": expiry.NEVER_MS},)
        job = wire.assemble("a" * 26, wire.encode_call("t", args, {}, expires_at=expiry.NEVER_MS))
        expiring = json.loads(expiry.expiring(job, 1_795_492_028_185))
        assert (expiring["args"], expiring["expires_at"]) == ([*args], 1_795_492_028_185)

    def test_a_body_that_starts_anew_expires_no_more(self) -> None:
        body = b',"task":"t","expires_at":5,"x":1.50}'
        assert wire.revived(body) == b',"task":"t","x":1.50}'
        assert wire.revived(b',"task":"t"}') == b',"task":"t"}'
        escaped = b',"task":"t","expires_\\u0061t":5}'
        assert wire.revived(escaped) == b',"task":"t"}'


async def test_the_wait_for_a_slot_counts(site: Site) -> None:
    """A job that was claimed in time and has waited in hand since is not started either."""
    gate, ran = asyncio.Event(), list[int]()

    @site.app.task
    async def hold() -> None:
        await gate.wait()

    site.app.task(name="note")(ran.append)
    async with site.consumer(concurrency=1) as running:
        await hold.aenqueue()
        await await_until(lambda: len(running.consumer._slots.running) == 1)
        late = note(site, 1, expires=0.05)
        await await_until(lambda: site.now_ms() > 0)
        start = site.now_ms()
        await await_until(lambda: site.now_ms() > start + 60)
        gate.set()
        [letter] = await site.died()
    assert (letter["id"], letter["error"]["reason"], ran) == (late.id, "expired", [])
