"""Which job is next: queues in order and by weight, priorities, delays, pauses, a full Redis."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from headrace import StoreRefused
from headrace import operations as op
from headrace.consumer import listener
from tests.support.consuming import LONG_S, Site, a_store
from tests.support.wait import WAIT_S, await_until


@pytest.fixture
def nothing_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let idle consumers block for so long that what does not wake them is never found."""
    monkeypatch.setattr(listener, "BLOCK_S", LONG_S)


async def set_paused(site: Site, *, paused: bool) -> None:
    async with a_store(site.url) as store:
        assert await store.run(op.pause(site.k, paused=paused))


class TestSeveralQueues:
    async def test_in_order_the_first_comes_before_the_second(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(queue: str) -> None:
            ran.append(queue)

        for queue in ("b", "a"):
            await site.app.aenqueue_many(note.options(queue=queue).call(queue) for _ in range(100))
        async with site.consumer(queues="a,b", concurrency=1, check=False):
            await await_until(lambda: len(ran) == 200)
        assert ran == ["a"] * 100 + ["b"] * 100

    async def test_what_comes_into_the_first_overtakes_the_second(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(queue: str) -> None:
            if len(ran) == 20:
                await note.options(queue="a").aenqueue("a")
            await asyncio.sleep(0.002)  # not so quick that many are claimed ahead
            ran.append(queue)

        await site.app.aenqueue_many(note.options(queue="b").call("b") for _ in range(60))
        async with site.consumer(queues="a,b", concurrency=1):
            await await_until(lambda: len(ran) == 61)
        assert ran.index("a") < 45  # those claimed ahead, about 20 ms of work, come first

    async def test_by_weight_each_gets_its_share(self, site: Site) -> None:
        ran: list[str] = []
        random.seed(7)

        @site.app.task
        async def note(queue: str) -> None:
            ran.append(queue)

        for queue in ("a", "b"):
            await site.app.aenqueue_many(
                note.options(queue=queue).call(queue) for _ in range(1_000)
            )
        async with site.consumer(queues="a:3,b:1", concurrency=1, check=False) as running:
            running.consumer._slots._stuck = True  # one by one, so that turns can be counted
            while len(ran) < 400:
                await asyncio.sleep(0)
                running.consumer._slots._stuck = True
        share = Counter(ran[:400])["a"] / 400
        # Of 400 turns, 300 with a deviation of 9: six of them are 54.
        assert 0.75 - 0.135 < share < 0.75 + 0.135, share
        for queue in ("a", "b"):
            Site(site.url, site.redis, queue=queue).check()

    async def test_one_that_is_empty_leaves_its_turns_to_the_others(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(queue: str) -> None:
            ran.append(queue)

        async with site.consumer(queues="a:100,b:1", concurrency=2) as running:
            await site.idle(running, queues=2)
            await site.app.aenqueue_many(note.options(queue="b").call("b") for _ in range(100))
            await await_until(lambda: len(ran) == 100)

    async def test_each_queue_wakes_an_idle_consumer(self, site: Site, nothing_polls: None) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(queue: str) -> None:
            ran.append(queue)

        async with site.consumer(queues="a,b,c", concurrency=1) as running:
            for queue in ("c", "a", "b"):
                await site.idle(running, queues=3)
                await note.options(queue=queue, priority=len(ran)).aenqueue(queue)
                await await_until(lambda: ran[-1:] == [queue])
            # Moves were ended and begun again with each job; those under way now end at once.
            running.stop()
            await running.ended()


class TestPaused:
    async def test_it_hands_out_nothing_and_goes_on_at_once_in_all_idle_consumers(
        self, site: Site, nothing_polls: None
    ) -> None:
        running_now: set[str] = set()
        go = asyncio.Event()

        @site.app.task
        async def wait(name: str) -> None:
            running_now.add(name)
            await go.wait()

        async with AsyncExitStack() as stack:
            consumers = [
                await stack.enter_async_context(site.consumer(concurrency=1)) for _ in range(5)
            ]
            await site.idle(*consumers)
            await set_paused(site, paused=True)
            # Each consumer has a move under way, which the pause does not end; what it brings goes back.
            await site.app.aenqueue_many(wait.call(f"job {n}") for n in range(5))
            site.push({"task": "wait", "args": ["foreign"]})
            await wait.options(priority=3).aenqueue("first")
            await await_until(lambda: not site.redis.exists(site.k.processing))
            for consumer in consumers:  # they have noticed, so that no move is under way
                await await_until(lambda: not consumer.consumer._listener._active["queue"].is_set())
            await site.app.aenqueue_many(wait.call(f"late {n}") for n in range(5))
            assert not running_now
            assert len(site.state().pending) == 11
            await set_paused(site, paused=False)
            # Five run at the same time, and the prioritised one is among them.
            await await_until(lambda: len(running_now) == 5)
            assert "first" in running_now
            go.set()
            await site.drained()
        assert site.counters()["done"] == 12

    async def test_what_runs_is_finished(self, site: Site) -> None:
        begun: list[int] = []
        go = asyncio.Event()

        @site.app.task
        async def wait() -> None:
            begun.append(1)
            await go.wait()

        async with site.consumer(concurrency=1):
            await site.app.aenqueue_many([wait.call(), wait.call()])
            await await_until(lambda: begun)
            await set_paused(site, paused=True)
            go.set()
            await await_until(lambda: site.counters().get("done"))
            assert len(begun) == 1
            await set_paused(site, paused=False)
            await site.drained()

    async def test_other_queues_go_on(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(queue: str) -> None:
            ran.append(queue)

        await set_paused(site, paused=True)
        async with site.consumer(queues="queue,other"):
            await note.aenqueue("queue")
            for n in range(3):
                await note.options(queue="other").aenqueue("other")
                await await_until(lambda: ran == ["other"] * (n + 1))
            await set_paused(site, paused=False)
            await await_until(lambda: "queue" in ran)


class TestPriorities:
    async def test_ten_jobs_of_one_call_start_in_ten_idle_consumers_at_once(
        self, site: Site, nothing_polls: None
    ) -> None:
        inside: list[int] = []
        all_inside = asyncio.Event()

        @site.app.task
        async def meet(n: int) -> None:
            inside.append(n)
            if len(inside) == 10:
                all_inside.set()
            await asyncio.wait_for(all_inside.wait(), WAIT_S)

        async with AsyncExitStack() as stack:
            consumers = [
                await stack.enter_async_context(site.consumer(concurrency=1)) for _ in range(20)
            ]
            await site.idle(*consumers)
            await site.app.aenqueue_many(
                meet.options(priority=n % 3 + 1).call(n) for n in range(10)
            )
            await site.drained()
        assert site.ends() == {"enqueued": 10, "done": 10}

    async def test_a_thousand_come_out_in_exact_order(self, site: Site) -> None:
        ran: list[tuple[int, int]] = []
        chance = random.Random(3)

        @site.app.task
        async def note(priority: int, n: int) -> None:
            ran.append((priority, n))

        jobs = [(chance.randint(-100, 100), n) for n in range(1_000)]
        await site.app.aenqueue_many(note.options(priority=p).call(p, n) for p, n in jobs)
        async with site.consumer(concurrency=1):
            await await_until(lambda: len(ran) == 1_000)
        assert ran == sorted(jobs, key=lambda job: (-job[0], job[1]))

    async def test_what_is_urgent_overtakes_what_is_not_claimed_yet(self, site: Site) -> None:
        ran: list[str] = []

        @site.app.task
        async def note(name: str) -> None:
            if name == "0":
                await note.options(priority=1).aenqueue("urgent")
                await note.options(priority=-1).aenqueue("whenever")
                await note.aenqueue("next")
            ran.append(name)

        await site.app.aenqueue_many(note.call(str(n)) for n in range(5))
        async with site.consumer(concurrency=1):
            await await_until(lambda: len(ran) == 8)
        assert ran == ["0", "urgent", "1", "2", "3", "4", "next", "whenever"]


class TestDelays:
    async def test_none_runs_early_and_all_run_under_load(self, site: Site) -> None:
        ran: list[tuple[int, int]] = []

        @site.app.task
        async def note(due: int) -> None:
            ran.append((due, site.now_ms()))

        @site.app.task
        async def load() -> None: ...

        async with site.consumer(concurrency=1) as busy, site.consumer(concurrency=1) as idle:
            await site.idle(busy, idle)
            now = site.now_ms()
            dues = [now + ms for ms in (700, 300, 500, 300, 100, 900, -5_000)]
            for due in dues:
                await note.options(at=due / 1000).aenqueue(due)
            while len(ran) < len(dues):  # order under load
                await site.app.aenqueue_many(load.call() for _ in range(20))
                await asyncio.sleep(0)
            await site.drained()
        late = [at - due for due, at in ran]
        assert min(late) >= 0, f"early: {late}"
        assert sorted(due for due, _ in ran) == sorted(dues)

    async def test_those_that_fall_due_together_come_in_the_order_of_their_times(
        self, site: Site
    ) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        due = site.now_ms() + 3_600_000
        order = list(range(40))
        random.Random(5).shuffle(order)
        await site.app.aenqueue_many(note.options(at=(due + 2 * n) / 1000).call(n) for n in order)
        # An hour passes, and another.
        for job, at in site.redis.zrange(site.k.delayed, 0, -1, withscores=True):
            site.redis.zadd(site.k.delayed, {job: at - 7_200_000})
        async with site.consumer(concurrency=1):
            await await_until(lambda: len(ran) == 40)
        assert ran == list(range(40))

    async def test_it_wakes_an_idle_consumer(self, site: Site, nothing_polls: None) -> None:
        ran: list[int] = []

        @site.app.task
        async def note() -> None:
            ran.append(site.now_ms())

        async with site.consumer() as a, site.consumer() as b:
            await site.idle(a, b)
            due = site.now_ms() + 400
            await note.options(delay=0.4).aenqueue()
            await note.options(delay=0.4, priority=2).aenqueue()
            await await_until(lambda: len(ran) == 2)
        assert min(ran) >= due


class TestFull:
    async def test_a_full_redis_refuses_producers_and_consumers_drain_it(
        self, own_site: Site
    ) -> None:
        site, ran = own_site, list[str]()

        @site.app.task(max_attempts=2)
        async def note(name: str) -> None:
            ran.append(name)
            if name == "fails":
                raise ValueError

        # While nobody consumes: 50 jobs, then no memory.
        await site.app.aenqueue_many([note.call("fails"), *(note.call(str(n)) for n in range(49))])
        site.redis.config_set("maxmemory", "1mb")
        with pytest.raises(StoreRefused, match="maxmemory"):
            await note.aenqueue("refused")
        async with site.consumer(concurrency=3) as running:
            await await_until(lambda: len(ran) >= 50)
            await await_until(lambda: site.counters().get("done") == 49)
            # The blocking move is refused, so an idle consumer asks by script, once a second.
            site.redis.config_set("maxmemory", "0")
            site.redis.config_set("maxmemory", "1mb")
            await push_into_full(site, "late")
            await await_until(lambda: "late" in ran)
            site.redis.config_set("maxmemory", "0")
            await await_until(lambda: site.redis.sismember("headrace:queues", "queue"))
            await note.aenqueue("welcome")
            await await_until(lambda: "welcome" in ran)
            await site.idle(running, queues=1)
        assert "refused" not in ran

    async def test_a_producer_that_is_refused_leaves_no_trace(self, own_site: Site) -> None:
        site = own_site
        site.redis.config_set("maxmemory", "1mb")
        with pytest.raises(StoreRefused):
            await site.app.aenqueue("note")
        assert not site.redis.exists(site.k.pending, site.k.stats)


class TestLostNudge:
    """Nudges are hints: without one, an idle consumer looks every BLOCK_S all the same."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listener, "BLOCK_S", 0.2)

    async def test_a_prioritised_job_is_found(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        job = note.options(priority=3).call(1).job
        async with site.consumer() as running:
            await site.idle(running)
            site.redis.zadd(site.k.priority, {job: -3})  # as enqueue does, but for the nudge
            site.foreign += 1
            await await_until(lambda: ran)
            await site.drained()

    async def test_a_queue_that_goes_on_is_found(self, site: Site) -> None:
        ran: list[int] = []

        @site.app.task
        async def note(n: int) -> None:
            ran.append(n)

        await set_paused(site, paused=True)
        async with site.consumer() as running:
            await site.idle(running, queues=0)
            await note.aenqueue(1)
            site.redis.hdel(site.k.meta, "paused")  # as pause does, but for the nudge
            await await_until(lambda: ran)
            await site.drained()


async def push_into_full(site: Site, name: str) -> None:
    """Let a job be there although Redis is full."""
    site.redis.config_set("maxmemory", "0")
    # By priority: a list would hand it to a move that had begun before.
    async with a_store(site.url) as store:
        job = f'{{"id":"{name}","priority":1,"task":"note","args":["{name}"]}}'.encode()
        await store.run(op.enqueue(site.k, [job]))
        site.redis.delete(site.k.nudge)
    site.redis.config_set("maxmemory", "1mb")
