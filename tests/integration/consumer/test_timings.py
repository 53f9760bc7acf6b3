"""What consumers tell of waits, runs and ends: added once, by task and by minute, and never in a job's way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from headrace import forgetting
from headrace.errors import ReplyLost, StoreUnavailable
from headrace.flows import Flow
from headrace.ids import new_id
from headrace.keys import Keys, keys_of
from headrace.operations import Operation
from headrace.store import AsyncStore
from headrace.timings import Recorder, minutes_of, requests, tally, telling, timings_of
from headrace.timings.keys import SLOTS
from headrace.timings.places import AT_ONCE
from headrace.timings.recent import MOST_PLACES, Kept, Recent, recent, recent_by_ten
from headrace.timings.recorder import OTHERS
from headrace.timings.requests import KEPT_MIN, MOST_TASKS, STEP_MIN
from tests.support.consuming import LONG_S, Site, a_store
from tests.support.processes import clean_environment, processes
from tests.support.wait import await_until


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "EVERY_S", 0.02)


def one_run(*, wait_s: float = 0.0, run_s: float = 0.0) -> list[int]:
    """Give a tally of one job that is done."""
    counts = tally.empty()
    counts[tally.RUNS] = counts[tally.DONE] = 1
    counts[tally.WAIT_US], counts[tally.RUN_US] = int(wait_s * 1e6), int(run_s * 1e6)
    counts[tally.WAITS + tally.bucket_of(wait_s)] += 1
    counts[tally.RUN_TIMES + tally.bucket_of(run_s)] += 1
    return counts


async def summed(site: Site) -> dict[str, tally.Tally]:
    async with a_store(site.url) as store:
        return await store.run(requests.totals(site.k))


async def test_each_end_is_told_once_by_task_and_by_minute(site: Site) -> None:
    @site.app.task
    async def pay(n: int) -> None:
        if n == 2:
            raise ValueError("no")

    @site.app.task(max_attempts=1)
    def ship(fails: bool) -> None:
        if fails:
            raise ValueError("no")

    for n in range(5):
        await pay.aenqueue(n) if n != 2 else await pay.options(max_attempts=1).aenqueue(n)
    await ship.aenqueue(fails=True)
    async with site.consumer(burst=True) as running:
        await running.ended()
    found = await summed(site)
    assert {task: counts[: tally.WAIT_US] for task, counts in found.items()} == {
        "pay": [5, 4, 0, 1, 0],
        "ship": [1, 0, 0, 1, 0],
    }
    assert all(tally.waits(one).count == tally.run_times(one).count for one in found.values())
    async with a_store(site.url) as store:
        last = await store.follow(recent([site.k], 60))
    assert tally.total(last.minutes.values()) == tally.total(found.values())
    assert last.tasks == found
    assert len(last.minutes) == 60
    assert max(last.minutes) <= last.now_ms < max(last.minutes) + 60_000


async def test_a_delayed_job_says_when_it_was_due_and_a_plain_one_nothing(site: Site) -> None:
    nothing = site.app.task(name="nothing")(lambda: None)
    assert b'"due":"+20"' in nothing.options(delay=0.02).call().job
    assert b'"due":"@4000000000000"' in nothing.options(at=4e9).call().job
    assert b"due" not in nothing.call().job


async def test_a_consumer_that_runs_tells_of_its_slots_and_one_that_ends_takes_that_back(
    site: Site, redis: Redis
) -> None:
    hold = asyncio.Event()

    @site.app.task
    async def wait() -> None:
        await hold.wait()

    await wait.aenqueue()
    async with site.consumer(concurrency=4) as running:
        async with a_store(site.url) as store:

            async def told() -> bool:
                said = (await store.run(requests.told())).get(running.name)
                return said is not None and (said.slots, said.busy) == (4, 1)

            await await_until(told, "one of four slots is busy")
        hold.set()
        await site.drained()
    assert not redis.hexists(SLOTS, running.name)


async def test_who_died_without_a_word_is_counted_no_more(redis: Redis, store: AsyncStore) -> None:
    redis.hset(SLOTS, "dead-1", "4 4 1000")
    await store.run(requests.tell("web-1", 8, 3))
    assert redis.hkeys(SLOTS) == [b"", b"web-1"]
    assert 0 < redis.pttl(SLOTS) <= requests.ABSENT_S * 1000


def losing(monkeypatch: pytest.MonkeyPatch, error: Exception, *, after: bool) -> list[int]:
    """Let the first word of timings fail, before it is sent or after it was carried out."""
    run_all, tries = AsyncStore.run_all, list[int]()

    async def lost(store: AsyncStore, operations: Sequence[Operation[Any]], *more: Any) -> Any:
        if not any(one.name == "timings/add" for one in operations):
            return await run_all(store, operations, *more)
        tries.append(len(operations))
        if len(tries) > 1:
            return await run_all(store, operations, *more)
        if after:
            await run_all(store, operations, *more)
        raise error

    monkeypatch.setattr(AsyncStore, "run_all", lost)
    return tries


@pytest.mark.parametrize(
    ("error", "after", "told"),
    [
        (StoreUnavailable("away"), False, 2),  # nothing was sent: it is told the next time
        (ReplyLost("lost"), True, 2),  # it was carried out: not a second time
        (ReplyLost("lost"), False, 1),  # it was not: nobody knows, and it is not told again
    ],
)
async def test_what_may_be_told_is_not_told_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception, after: bool, told: int
) -> None:
    tries = losing(monkeypatch, error, after=after)
    nothing = site.app.task(name="nothing")(lambda: None)
    async with site.consumer():
        await nothing.aenqueue()
        await await_until(lambda: tries, "the first is told")
        await nothing.aenqueue()
        await site.drained()
    assert site.counters()["done"] == 2  # no job is in the way of that
    assert (await summed(site))["nothing"][tally.DONE] == told


TELLS_LATE = f"""
import sys
from headrace.cli import main
from headrace.timings import telling
telling.EVERY_S = {LONG_S}
sys.exit(main(sys.argv[1:]))
"""


async def test_a_consumer_that_is_killed_takes_what_it_had_not_told_and_no_job(
    site: Site, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    env = clean_environment(HEADRACE_URL=site.url, HEADRACE_TEST_JOURNAL=str(journal))
    command = (sys.executable, "-c", TELLS_LATE, "consume", "tests.acceptance.shop:app")
    for n in range(3):
        await site.app.aenqueue("nap", n, 0.0)
    with processes(tmp_path) as start:
        victim = start(*command, env=env)
        await await_until(lambda: site.counters().get("done") == 3, "its jobs are done")
        victim.kill()
    assert await summed(site) == {}
    nothing = site.app.task(name="nothing")(lambda: None)
    await nothing.aenqueue()
    async with site.consumer(burst=True) as running:
        await running.ended()
    assert site.counters()["done"] == 4
    assert {task: one[tally.DONE] for task, one in (await summed(site)).items()} == {"nothing": 1}


@pytest.mark.parametrize(
    "due",
    [f"+{'9' * 400}", f"@{'9' * 5_000}", 5, None, ["+5"], 10**400],
    ids=["long", "longer", "number", "null", "list", "huge"],
)
async def test_when_a_foreign_job_was_due_is_in_no_jobs_way(site: Site, due: object) -> None:
    site.app.task(name="nothing")(lambda: None)
    site.push({"id": new_id(), "task": "nothing", "due": due})
    async with site.consumer():
        await site.drained()
    assert site.counters()["done"] == 1
    assert (await summed(site))["nothing"][tally.DONE] == 1


async def test_a_job_is_settled_before_it_is_counted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = list[Any]()
    monkeypatch.setattr(Recorder, "note", lambda _, job, verb: outcomes.append(job.outcome))
    site.app.task(name="nothing")(lambda: None)
    await site.app.aenqueue("nothing")
    async with site.consumer():
        await site.drained()
    assert [outcome.verb for outcome in outcomes] == ["done"]


async def test_a_key_that_is_broken_is_in_no_jobs_way(site: Site, redis: Redis) -> None:
    redis.set(timings_of(site.k), "mine")
    nothing = site.app.task(name="nothing")(lambda: None)
    await nothing.aenqueue()
    async with site.consumer(burst=True) as running:
        await running.ended()
    assert site.counters()["done"] == 1
    assert not redis.exists(minutes_of(site.k))  # all or nothing
    redis.delete(timings_of(site.k))


async def test_so_many_tasks_have_counts_of_their_own_and_the_others_share(
    store: AsyncStore,
) -> None:
    k, one = keys_of("queue"), one_run(run_s=1)
    for n in range(0, MOST_TASKS + 20, 10):
        await store.run(requests.add(k, {f"task-{n + i}": one for i in range(10)}))
    found = await store.run(requests.totals(k))
    assert len(found) == MOST_TASKS + 1
    assert found[OTHERS][tally.DONE] == 20
    assert tally.total(found.values())[tally.DONE] == MOST_TASKS + 20


async def test_what_a_later_version_counts_beside_is_kept(redis: Redis, store: AsyncStore) -> None:
    k, one = keys_of("queue"), one_run(wait_s=1)
    redis.hset(timings_of(k), "pay", f"{tally.write(one)} 5 6")
    await store.run(requests.add(k, {"pay": one}))
    raw: Any = redis.hget(timings_of(k), "pay")
    assert tally.read(raw) == tally.total([one, one])
    assert raw.endswith(b" 5 6")


async def test_what_stands_in_the_ring_since_yesterday_does_not_count(
    redis: Redis, store: AsyncStore
) -> None:
    k, one = keys_of("queue"), one_run(run_s=1)
    await store.run(requests.add(k, {"pay": one}))
    ring: dict[Any, Any] = redis.hgetall(minutes_of(k))
    for field, value in ring.items():
        at, _, numbers = value.partition(b" ")
        before = int(at) - KEPT_MIN // (10 if b" " in field else 1)
        redis.hset(minutes_of(k), field, b"%d %b" % (before, numbers))
    last = await store.follow(recent([k], KEPT_MIN))
    assert tally.total(last.minutes.values()) == tally.empty()
    assert last.tasks == {}
    await store.run(requests.add(k, {"pay": one}))
    last = await store.follow(recent([k], KEPT_MIN))
    assert tally.total(last.minutes.values())[tally.DONE] == 1
    assert last.tasks["pay"][tally.DONE] == 1
    assert 0 < redis.pttl(minutes_of(k)) <= KEPT_MIN * 60_000


async def test_partitions_are_read_as_one_queue(store: AsyncStore) -> None:
    parts = [keys_of("queue"), keys_of("queue@1")]
    for k in parts:
        await store.run(requests.add(k, {"pay": one_run(run_s=1)}))
    last = await store.follow(recent(parts, 5))
    assert tally.total(last.minutes.values())[tally.DONE] == last.tasks["pay"][tally.DONE] == 2


@pytest.mark.parametrize("how", [recent, recent_by_ten])
async def test_a_day_of_many_tasks_is_read_some_at_a_time_so_that_others_are_served_between(
    store: AsyncStore, how: Callable[[Sequence[Keys], int], Flow[Recent]]
) -> None:
    parts = [keys_of(f"queue@{n}") for n in range(4)]
    for k in parts:
        await store.run(requests.add(k, {f"t{n}": one_run(run_s=1) for n in range(12)}))
    flow, read = how(parts, KEPT_MIN), list[int]()
    step: Any = next(flow)
    with pytest.raises(StopIteration) as end:
        while True:
            answers = await store.run_all(step)
            read.append(sum(len(one) for one in answers if isinstance(one, list)))
            step = flow.send(answers)
    assert max(read) <= AT_ONCE < 4 * 12 * (KEPT_MIN // STEP_MIN) <= sum(read)
    last: Recent = end.value.value
    assert tally.total(last.minutes.values())[tally.DONE] == 4 * 12
    assert {task: one[tally.DONE] for task, one in last.tasks.items()} == {
        f"t{n}": 4 for n in range(12)
    }


NOW_MS = 29_000_005 * 60_000  # in the middle of ten minutes


def stand(redis: Redis, k: Keys, task: str, *steps_ago: int) -> None:
    """Put ten minutes of a task there, in which one job was done, as consumers have told of them."""
    redis.hset(timings_of(k), task, tally.write(one_run(run_s=1)))
    for ago in steps_ago:
        step = NOW_MS // 600_000 - ago
        redis.hset(minutes_of(k), f"{step % 144} {task}", f"{step} {tally.write(one_run(run_s=1))}")


async def read_of(
    store: AsyncStore, flow: Flow[Recent], *, now_ms: int = NOW_MS
) -> tuple[Recent, int]:
    """Read what was lately at this instant; give how many places were read, too."""
    places, first = 0, cast("Any", next(flow))
    try:
        step: Any = flow.send([now_ms, *(await store.run_all(first))[1:]])
        while True:
            answers = await store.run_all(step)
            if isinstance(answers[0], list):  # else it asks for more names
                places += sum(map(len, answers))
            step = flow.send(answers)
    except StopIteration as end:
        return end.value, places


async def test_what_is_over_is_read_once_and_what_is_told_since_is_seen(
    redis: Redis, store: AsyncStore
) -> None:
    parts, kept = [keys_of("queue"), keys_of("queue@1")], Kept()
    for k in parts:
        stand(redis, k, "pay", 0, 1, 100)
    first, all_of_them = await read_of(store, recent_by_ten(parts, KEPT_MIN, kept))
    stand(redis, parts[0], "ship", 0)
    stand(redis, parts[0], "pay", 5)  # of which nobody tells any more
    again, few = await read_of(store, recent_by_ten(parts, KEPT_MIN, kept))
    assert few < 10 < all_of_them
    assert first.tasks["pay"][tally.DONE] == again.tasks["pay"][tally.DONE] == 6
    assert again.tasks["ship"][tally.DONE] == 1
    assert tally.total(again.minutes.values())[tally.DONE] == 7
    assert [*again.minutes] == [*first.minutes] == sorted(first.minutes)


async def test_what_was_over_is_read_anew_when_more_is_over(
    redis: Redis, store: AsyncStore
) -> None:
    k, kept = keys_of("queue"), Kept()
    stand(redis, k, "pay", 0, 143)
    first, _ = await read_of(store, recent_by_ten([k], KEPT_MIN, kept))
    later, _ = await read_of(store, recent_by_ten([k], KEPT_MIN, kept), now_ms=NOW_MS + 600_000)
    assert first.tasks["pay"][tally.DONE] == 2
    assert later.tasks["pay"][tally.DONE] == 1  # a day is a day
    assert max(later.minutes) == max(first.minutes) + 600_000


async def test_a_step_is_over_a_minute_after_its_end(redis: Redis, store: AsyncStore) -> None:
    k, kept = keys_of("queue"), Kept()
    just_now = NOW_MS // 600_000 * 600_000 + 100
    stand(redis, k, "pay", 0)
    await read_of(store, recent_by_ten([k], 60, kept), now_ms=just_now)
    stand(redis, k, "pay", 1)  # another node's clock is behind
    last, _ = await read_of(store, recent_by_ten([k], 60, kept), now_ms=just_now)
    assert last.tasks["pay"][tally.DONE] == 2


@pytest.mark.parametrize("after_ms", [0, 100, 60_000, 599_999])
async def test_ten_minutes_are_the_step_that_is_under_way(
    redis: Redis, store: AsyncStore, after_ms: int
) -> None:
    k, start_ms = keys_of("queue"), NOW_MS // 600_000 * 600_000
    stand(redis, k, "pay", 0, 1)
    last, _ = await read_of(store, recent_by_ten([k], 10), now_ms=start_ms + after_ms)
    assert (last.tasks["pay"][tally.DONE], [*last.minutes]) == (1, [start_ms])


async def test_what_is_kept_of_a_queue_that_is_forgotten_is_forgotten(
    redis: Redis, store: AsyncStore
) -> None:
    k, kept = keys_of("queue"), Kept()
    stand(redis, k, "pay", 3)
    await read_of(store, recent_by_ten([k], 360, kept))
    redis.delete(timings_of(k), minutes_of(k))
    last, _ = await read_of(store, recent_by_ten([k], 360, kept))
    assert (last.tasks, last.told) == ({}, False)
    assert tally.total(last.minutes.values()) == tally.empty()


async def test_of_a_day_so_many_are_kept_and_no_more(redis: Redis, store: AsyncStore) -> None:
    kept, queues = Kept(), [keys_of(f"q{n}") for n in range(20)]
    for k in queues:
        stand(redis, k, "pay", 3)
        await read_of(store, recent_by_ten([k], 360, kept))
    _, last = await read_of(store, recent_by_ten([queues[-1]], 360, kept))
    _, first = await read_of(store, recent_by_ten([queues[0]], 360, kept))
    assert last < first


@pytest.mark.parametrize("how", [recent, recent_by_ten])
async def test_of_very_many_partitions_so_many_are_read_as_one_answer_may_cost(
    redis: Redis, store: AsyncStore, how: Callable[[Sequence[Keys], int], Flow[Recent]]
) -> None:
    parts = [keys_of(f"queue@{n}") for n in range(1_000)]
    batch = redis.pipeline(transaction=False)
    for k in parts:
        batch.hset(timings_of(k), mapping={f"t{n}": "1" for n in range(10)})
    batch.execute()
    stand(redis, parts[0], "pay", 3)
    day, places = await read_of(store, how(parts, KEPT_MIN))
    assert places <= MOST_PLACES
    assert 10 < day.queues < 100
    assert day.tasks["pay"][tally.DONE] == 1
    short, places = await read_of(store, how(parts, 10))
    assert places <= MOST_PLACES
    assert day.queues < short.queues
    flow = how(parts, KEPT_MIN)
    assert (
        len(cast("list[Operation[Any]]", next(flow))) < 200
    )  # nor is every partition asked for its tasks
    flow.close()


async def test_one_queue_is_read_whatever_it_costs(
    redis: Redis, store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.timings.recent.MOST_PLACES", 5)
    k = keys_of("queue")
    stand(redis, k, "pay", 3)
    last, _ = await read_of(store, recent([k, keys_of("other")], KEPT_MIN))
    assert (last.queues, last.tasks["pay"][tally.DONE]) == (1, 1)


async def test_a_queue_that_is_forgotten_takes_its_timings_along(
    redis: Redis, store: AsyncStore
) -> None:
    k = keys_of("queue")
    await store.run(requests.add(k, {"pay": one_run()}))
    assert await store.follow(forgetting.forget([k], 0)) == ["forgotten"]
    assert redis.exists(timings_of(k), minutes_of(k)) == 0
