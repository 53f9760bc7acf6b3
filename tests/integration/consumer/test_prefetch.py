"""Jobs are claimed ahead while they are quick, and never held back by a slow one."""

from __future__ import annotations

import asyncio

import pytest

from headrace.consumer import slots as slots_module
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.slots import HELD_UP_S, PREFETCH_MOST, PREFETCH_S, Slots
from headrace.keys import keys_of
from headrace.wire import Head
from tests.support.consuming import LONG_S, Site
from tests.support.wait import await_until

K = keys_of("queue")


def job(number: int) -> ClaimedJob:
    return ClaimedJob(K, number, Head(f"j{number}"), b"}", b"", b"", 0.0, owned=True)


def enqueue(slots: Slots, count: int) -> list[ClaimedJob]:
    jobs = [job(number) for number in range(count)]
    for claimed in jobs:
        slots.enqueue(claimed)
    return jobs


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(slots_module, "monotonic", clock)
    return clock


def claims(slots: Slots) -> list[int]:
    """Claim as long as it wants more, and give how many each time; they stay on their way."""
    counts: list[int] = []
    while (wanted := slots.wanted) > 0:
        slots.coming += wanted
        counts.append(wanted)
    return counts


class TestSlots:
    def run(self, slots: Slots, clock: Clock, took_s: float, count: int = 1) -> None:
        """Run jobs of one length, one after the other."""
        for number in range(count):
            slots.enqueue(job(number))
            claimed = slots.next()
            assert claimed is not None
            claimed.started = clock.now
            clock.now += took_s
            slots.ended(claimed)

    def test_nothing_is_claimed_ahead_before_a_job_has_shown_how_long_it_takes(self) -> None:
        slots = Slots(4, None)
        assert (slots.free, slots.wanted) == (4, 4)
        for number in range(4):
            slots.enqueue(job(number))
            slots.next()
        assert (slots.free, slots.wanted) == (0, 0)

    @pytest.mark.parametrize(
        ("took_s", "concurrency", "ahead"),
        [
            (0.0, 1, PREFETCH_MOST),
            (0.000_1, 1, 200),
            (0.001, 1, 20),
            (0.001, 4, 80),
            (0.001, 100, PREFETCH_MOST),
            (0.01, 1, 2),
            (0.01, 10, 20),
            (0.03, 1, 0),
            (1.0, 10, 0),
            (1.0, 49, 0),
        ],
    )
    def test_at_most_20_ms_of_work_are_claimed_ahead(
        self, clock: Clock, took_s: float, concurrency: int, ahead: int
    ) -> None:
        slots = Slots(concurrency, None)
        self.run(slots, clock, took_s, count=100)
        claimed = sum(claims(slots)) - concurrency
        assert abs(claimed - ahead) <= 1  # clocks add up with errors
        assert claimed * took_s <= PREFETCH_S * concurrency

    def test_two_claims_bring_what_is_claimed_ahead(self, clock: Clock) -> None:
        """So that one half is worked off while the other is on its way."""
        slots = Slots(100, None)
        self.run(slots, clock, 0.000_1, count=100)
        assert claims(slots) == [(100 + PREFETCH_MOST) // 2] * 2

    def test_free_slots_are_filled_by_one_claim(self, clock: Clock) -> None:
        slots = Slots(100, None)
        self.run(slots, clock, 0.05, count=100)
        assert claims(slots)[0] == 100

    def test_what_waits_in_hand_counts_as_claimed_ahead(self, clock: Clock) -> None:
        unowned: list[ClaimedJob] = []
        slots = Slots(1, None, unowned)
        self.run(slots, clock, 0.001, count=50)
        ahead = sum(claims(slots)) - 1
        slots.coming = 0
        slots.enqueue(job(0))
        assert slots.next() is not None
        for number in range(1, 6):
            slots.enqueue(job(number))
        unowned.append(job(6))
        assert slots.next() is None
        assert slots.free == -6
        assert sum(claims(slots)) == ahead - 6

    def test_one_slow_job_among_many_quick_ones_makes_it_careful_again(self, clock: Clock) -> None:
        slots = Slots(1, None)
        self.run(slots, clock, 0.001, count=50)
        self.run(slots, clock, 2.0)
        assert slots.wanted == slots.free
        self.run(slots, clock, 0.001, count=60)
        assert sum(claims(slots)) > 10

    def test_what_a_slow_job_holds_up_is_given_back_newest_first(self, clock: Clock) -> None:
        slots = Slots(1, None)
        self.run(slots, clock, 0.001, count=50)
        jobs = enqueue(slots, 5)
        assert slots.next() is jobs[0]
        clock.now += HELD_UP_S * 0.9
        assert slots.held_up() == []
        clock.now += HELD_UP_S * 0.2
        assert slots.held_up() == jobs[:0:-1]
        assert slots.held_up() == []

    def test_a_loop_that_stood_still_is_no_slow_job(self, clock: Clock) -> None:
        slots = Slots(1, None)
        enqueue(slots, 2)
        assert slots.next() is not None
        clock.now += HELD_UP_S * 10  # and then everything that waited happens at once
        assert slots.held_up() == []
        assert slots.held_up() != []

    @pytest.mark.parametrize("concurrency", [1, 10, 100, 1_000])
    def test_nothing_is_claimed_ahead_again_until_something_has_ended(
        self, clock: Clock, concurrency: int
    ) -> None:
        slots = Slots(concurrency, None)
        self.run(slots, clock, 0.000_1, count=50)
        enqueue(slots, concurrency + 5)
        running = [slots.next() for _ in range(concurrency)]
        assert slots.wanted > 0
        assert slots.held_up() == []
        clock.now += HELD_UP_S * 1.1
        assert len(slots.held_up()) == 5
        assert slots.wanted == 0
        clock.now += 60
        assert slots.wanted == 0
        assert running[0] is not None
        slots.ended(running[0])
        assert slots.wanted >= 1

    def test_jobs_that_start_one_after_the_other_are_not_held_up(self, clock: Clock) -> None:
        slots = Slots(1, None)
        enqueue(slots, 20)
        for _ in range(20):
            claimed = slots.next()
            assert claimed is not None
            clock.now += HELD_UP_S * 0.8
            assert slots.held_up() == []
            slots.ended(claimed)

    def test_no_more_are_claimed_than_may_still_start(self, clock: Clock) -> None:
        slots = Slots(3, 55)
        self.run(slots, clock, 0.000_1, count=50)
        assert (slots.left, slots.free, slots.wanted) == (5, 3, 5)
        enqueue(slots, 5)
        assert slots.wanted == 0
        started = [slots.next() for _ in range(3)]
        assert None not in started
        assert slots.next() is None
        assert (slots.left, slots.wanted) == (2, 0)


class TestConsumer:
    async def test_what_a_slow_job_holds_up_runs_in_another_consumer(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            slots_module, "PREFETCH_S", LONG_S
        )  # some are claimed ahead on any machine
        ran: dict[int, str] = {}
        go = asyncio.Event()

        @site.app.task(name="note")
        async def slow(n: int) -> None:
            if n == 200:
                ran[n] = "slow"
                await go.wait()
            else:
                ran.setdefault(n, "first")

        other = site.another_app()

        @other.task(name="note")
        async def note(n: int) -> None:
            ran.setdefault(n, "second")

        await site.app.aenqueue_many(slow.call(n) for n in range(250))
        async with site.consumer(concurrency=1):
            await await_until(lambda: 200 in ran)
            async with site.consumer(other, concurrency=1):
                await await_until(lambda: len(ran) == 250)
                go.set()
                await site.drained()
        held = {n: where for n, where in ran.items() if n > 200}
        assert set(held.values()) == {"second"}
        assert site.counters()["release"] > 0
        assert site.counters()["done"] == 250
        assert not site.counters().get("reclaimed")

    async def test_what_is_given_back_is_not_claimed_again_and_again_beside_slow_jobs(
        self, site: Site
    ) -> None:
        begun: list[int] = []
        go = asyncio.Event()

        @site.app.task
        async def job(n: int) -> None:
            begun.append(n)
            if n >= 200:
                await go.wait()

        await site.app.aenqueue_many(job.call(n) for n in range(200 + 50 + 40))
        async with site.consumer(concurrency=50) as running:
            await await_until(lambda: len(begun) == 250)
            await await_until(lambda: site.redis.llen(site.k.processing) == 50)
            slots = running.consumer._slots
            looks = slots._looks + 10
            await await_until(lambda: slots._looks >= looks, what="ten looks at the clock")
            state = site.state()
            assert len(state.pending) == 40
            assert not any(b'"delivery":2' in job for job in state.pending)
            go.set()
            await site.drained()
        assert begun == list(range(290))

    async def test_slow_jobs_are_left_to_who_has_a_slot(self, site: Site) -> None:
        crowd: set[int] = set()
        go = asyncio.Event()

        @site.app.task
        async def slow(n: int) -> None:
            crowd.add(n)
            await go.wait()

        async with site.consumer(concurrency=2) as one, site.consumer(concurrency=2) as two:
            await site.idle(one, two)
            await site.app.aenqueue_many(slow.call(n) for n in range(8))
            await await_until(lambda: len(crowd) == 4)
            assert len(site.state().pending) == 4
            async with site.consumer(concurrency=4):
                await await_until(lambda: len(crowd) == 8)
                go.set()
                await site.drained()
