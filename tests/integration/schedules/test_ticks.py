"""Each tick fires once, or is counted as missed, whoever leads and whoever dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace import CURRENT, Context, doctor
from headrace.duties import DUTIES
from headrace.errors import ReplyLost, StoreUnavailable
from headrace.keys import SCHEDULE_DUE, SCHEDULES, keys_of
from headrace.maintenance import Maintenance
from headrace.operations import Operation
from headrace.policy import LeasePolicy
from headrace.schedules import changes, define
from headrace.schedules.definition import id_of
from headrace.schedules.timing import Every, cron
from headrace.store import AsyncStore
from tests.integration.schedules.conftest import HOUR_MS, Bench
from tests.support.consuming import Quick, consuming
from tests.support.wait import await_until


async def test_a_tick_that_is_due_fires_once_and_the_next_one_is_a_period_later(
    bench: Bench,
) -> None:
    await bench.add()
    (tick,) = await bench.time_passes(HOUR_MS // 2 + 1) or await bench.time_passes(HOUR_MS)
    for _ in range(3):
        assert not await bench.turn()
    assert bench.fired() == [tick]
    assert bench.next_ms() == tick + HOUR_MS
    assert bench.state()["fired"] == 1
    assert bench.state()["last_due"] == tick
    assert bench.state()["last_fired_at"] >= tick
    assert bench.redis.smembers("headrace:queues") == {b"queue"}


async def test_nothing_fires_before_its_time(bench: Bench) -> None:
    await bench.add()
    assert not await bench.turn()
    assert bench.fired() == []


async def test_two_leaders_fire_a_tick_once(bench: Bench) -> None:
    await bench.add(Every(1000), missed="all")
    ticks = await bench.time_passes(3000)
    first, second = bench.leader(), bench.leader()
    # Both have looked before either fires.
    looks = [await bench.store.run(duty.look()) for duty in (first, second)]
    await asyncio.gather(first.turn(looks[0]), second.turn(looks[1]))
    assert bench.fired() == ticks
    assert bench.state()["fired"] == len(ticks)


class Dying(AsyncStore):
    """A store whose leader dies before it has sent something, or never hears the answer."""

    def __init__(self, url: str, *, sent: bool) -> None:
        super().__init__(url)
        self.sent = sent

    async def run_all(self, operations: Sequence[Operation[Any]], _: Any = None) -> list[Any]:
        if self.sent:
            await super().run_all(operations)
            raise ReplyLost("the answer is lost")
        raise StoreUnavailable("died before")


@pytest.mark.parametrize("sent", [False, True], ids=["before the script", "after it"])
async def test_a_leader_that_dies_loses_no_tick_and_doubles_none(
    bench: Bench, *, sent: bool
) -> None:
    await bench.add()
    (tick,) = await bench.time_passes(HOUR_MS)
    store = Dying(bench.store.url, sent=sent)
    duty = bench.leader(store)
    with pytest.raises((ReplyLost, StoreUnavailable)):
        await duty.turn(await bench.store.run(duty.look()))
    await store.close()
    assert bench.fired() == ([tick] if sent else [])
    await bench.turns()  # another one leads
    assert bench.fired() == [tick]
    assert bench.next_ms() == tick + HOUR_MS
    assert bench.state()["fired"] == 1


async def test_a_tick_that_redis_forgot_has_the_same_job_again(bench: Bench) -> None:
    await bench.add()
    (tick,) = await bench.time_passes(HOUR_MS)
    await bench.turn()
    (job,) = bench.redis.lrange("queue", 0, -1)
    assert id_of("s", tick).encode() in job
    bench.redis.delete("queue", "queue:stats")
    bench.redis.zadd(SCHEDULE_DUE, {"s": tick})  # as after a failover that lost the last second
    await bench.turn()
    assert bench.redis.lrange("queue", 0, -1) == [job]


async def test_missed_ticks_fire_by_policy(bench: Bench) -> None:
    for policy in ("latest", "skip", "all"):
        await bench.add(Every(HOUR_MS), name=policy, missed=policy)
    due = await bench.time_passes(5 * HOUR_MS, "all")
    for policy in ("latest", "skip"):
        bench.redis.zadd(SCHEDULE_DUE, {policy: due[0]})
    await bench.turns()
    jobs = bench.redis.lrange("queue", 0, -1)[::-1]
    fired: dict[str, list[bytes]] = {
        policy: [job for job in jobs if f'"schedule":"{policy}"'.encode() in job]
        for policy in ("latest", "skip", "all")
    }
    late_ms = await bench.now_ms() - due[-1]
    assert len(fired["all"]) == len(due) == 5
    assert len(fired["latest"]) == 1
    assert str(due[-1]).encode() in fired["latest"][0]
    assert len(fired["skip"]) == (1 if late_ms < 10_000 else 0)
    for policy, jobs_of in fired.items():
        missed = bench.state(policy).get("missed", 0)
        assert missed + len(jobs_of) == len(due)
        assert bench.next_ms(policy) == due[-1] + HOUR_MS


async def test_thousands_of_missed_ticks_are_worked_off_in_steps(bench: Bench) -> None:
    await bench.add(Every(100), name="all", missed="all")
    await bench.add(Every(100), name="latest")
    ticks = len(await bench.time_passes(200_000, "all"))
    await bench.time_passes(200_000, "latest")
    duty = bench.leader()
    assert await bench.turn(duty)  # there is more to do
    assert len(bench.fired()) == 100
    while len(bench.fired()) < ticks:
        await bench.turn(duty)
    assert bench.state("all")["fired"] >= ticks
    assert "missed" not in bench.state("all")
    assert bench.state("latest")["missed"] >= ticks - 20


async def test_what_is_changed_between_look_and_tick_does_not_fire_as_it_was(bench: Bench) -> None:
    await bench.add()
    await bench.time_passes(HOUR_MS)
    duty = bench.leader()
    seen = await bench.store.run(duty.look())
    await bench.add(cron("0 0 1 1 *"))
    await duty.turn(seen)
    assert bench.fired() == []
    await bench.store.follow(changes.remove("s"))
    await duty.turn(seen)
    assert bench.fired() == []
    assert bench.next_ms() is None


async def test_a_broken_schedule_waits_and_holds_up_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.add(name="good")
    await bench.time_passes(HOUR_MS, "good")
    for number in range(150):
        bench.redis.hset(SCHEDULES, f"bad{number}", b'{"queue":"queue","cron":"never"}')
        bench.redis.zadd(SCHEDULE_DUE, {f"bad{number}": number + 1})
    caplog.set_level(logging.ERROR)
    duty = bench.leader()
    for _ in range(4):
        await bench.turn(duty)
    assert len(bench.fired()) == 1
    assert sum("bad7 " in record.getMessage() for record in caplog.records) == 1
    assert bench.next_ms("bad7") == 8


async def test_a_full_redis_loses_no_tick(bench: Bench) -> None:
    await bench.add()
    (tick,) = await bench.time_passes(HOUR_MS)
    duty = bench.leader()
    bench.redis.config_set("maxmemory", 1)
    try:
        await bench.turn(duty)
        assert bench.fired() == []
    finally:
        bench.redis.config_set("maxmemory", 0)
    await bench.turn(duty)
    assert bench.fired() == [tick]


async def test_a_key_of_a_wrong_type_stops_a_tick_before_it_has_written(bench: Bench) -> None:
    await bench.add()
    (tick,) = await bench.time_passes(HOUR_MS)
    k = keys_of("queue")
    for key in (k.nudge, k.stats, k.delayed, k.priority):
        bench.redis.set(key, "x")
        await bench.turn()
        assert bench.next_ms() == tick
        assert bench.redis.llen(k.pending) == 0
        bench.redis.delete(key)
    await bench.turn()
    assert bench.fired() == [tick]


async def test_a_task_knows_its_tick_and_plain_jobs_have_none(bench: Bench) -> None:
    seen: list[object] = []

    @bench.app.task
    async def look(ctx: Context = CURRENT) -> None:
        seen.append(ctx.scheduled_at)

    call = bench.app.call("look")
    await bench.store.follow(changes.add("s", define(call, Every(HOUR_MS)), replace=True))
    (tick,) = await bench.time_passes(HOUR_MS)
    await bench.turn()
    look.enqueue()
    bench.app.enqueue_many([call._replace(job=call.job[:-1] + b',"scheduled_at":"noon"}')])
    async with consuming(bench.app, burst=True) as consumer:
        await consumer.ended()
    assert seen == [datetime.fromtimestamp(tick / 1000, UTC), None, None]


async def test_explain_says_which_schedule_made_a_job(bench: Bench) -> None:
    await bench.add()
    (tick,) = await bench.time_passes(HOUR_MS)
    await bench.turn()
    seen = await bench.store.follow(doctor.locate("queue", id_of("s", tick), most=10))
    said = doctor.explain(seen, LeasePolicy()).reasons
    assert any(line.startswith("Schedule s enqueued it for ") for line in said)


async def test_whoever_leads_fires_ticks_when_they_are_due(bench: Bench) -> None:
    # Looked at once an hour, unless something is due.
    policy = Quick(sweep_every_s=3600)
    await bench.add(Every(100))
    maintenance = Maintenance(bench.store, "me", policy, DUTIES)
    running = asyncio.create_task(maintenance.run())
    await await_until(lambda: bench.state().get("fired", 0) >= 10, what="ten ticks")
    running.cancel()
    await asyncio.wait([running])
    ticks = bench.fired()
    assert ticks == sorted(set(ticks))
    assert all(tick % 100 == 0 for tick in ticks)
    missed = bench.state().get("missed", 0)
    assert (ticks[-1] - ticks[0]) // 100 + 1 <= len(ticks) + missed
