"""Sync jobs share a thread while they are quick, and never wait behind one that is not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from headrace.consumer import thread_pool
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.thread_pool import ThreadPool
from headrace.keys import keys_of
from headrace.wire import Head
from tests.support.wait import WAIT_S, await_until

K = keys_of("queue")


def job(number: int) -> ClaimedJob:
    return ClaimedJob(K, number, Head(f"j{number}"), b"}", b"", b"", 0.0, owned=True)


class Floor:
    """Threads whose jobs do what they are told, and who ran them."""

    def __init__(self, most: int) -> None:
        self.threads = ThreadPool(self._run, self._hear, self._take_back, most=most)
        self.does: dict[int, Callable[[], None]] = {}
        self.ran_in: dict[int, str] = {}
        self.ended: list[int] = []
        self.errors: list[BaseException | None] = []
        self.back: list[int] = []
        self.gate = threading.Event()

    def _run(self, claimed: ClaimedJob) -> int:
        self.ran_in[claimed.number] = threading.current_thread().name
        self.does.get(claimed.number, lambda: None)()
        return claimed.number

    def _hear(self, claimed: ClaimedJob, value: object, error: BaseException | None) -> None:
        assert value == (None if error else claimed.number)
        self.ended.append(claimed.number)
        self.errors.append(error)

    def _take_back(self, jobs: list[ClaimedJob]) -> None:
        self.back += [one.number for one in jobs]

    def slow(self, number: int) -> None:
        self.does[number] = lambda: (self.gate.wait(WAIT_S), None)[1]

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.threads.start(job(number))

    async def make_quick(self) -> None:
        """Show them quick jobs until they know."""
        number = 0
        while not self.threads.quick:
            number -= 1
            self.start(number)
            await await_until(lambda: len(self.ended) == -number)
        self.ended.clear()
        self.ran_in.clear()


@pytest.fixture
async def floor() -> AsyncIterator[Floor]:
    floor = Floor(most=3)
    yield floor
    floor.gate.set()
    floor.threads.close()
    names = [t for t in threading.enumerate() if t.name.startswith("headrace-task")]
    await await_until(lambda: not any(thread.is_alive() for thread in names))


async def test_each_job_has_a_thread_until_it_is_known_that_they_are_quick(floor: Floor) -> None:
    for number in (1, 2, 3):
        floor.slow(number)
    floor.start(1, 2, 3)
    await await_until(lambda: len(floor.ran_in) == 3)
    assert len(set(floor.ran_in.values())) == 3
    assert not floor.threads.quick


async def test_quick_jobs_run_in_turn_and_are_told_of_together(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "TICK_S", 600.0)  # no other thread comes to help
    await floor.make_quick()
    floor.start(*range(1, 101))
    await await_until(lambda: len(floor.ended) == 100)
    assert floor.ended == list(range(1, 101))


async def test_what_waits_behind_a_slow_job_is_taken_by_other_threads(floor: Floor) -> None:
    await floor.make_quick()
    floor.slow(1)
    floor.start(1, 2, 3, 4)
    # Threads that do not wake in time let the last ones be handed back.
    await await_until(lambda: sorted(floor.ended + floor.back) == [2, 3, 4])
    assert floor.ran_in[1] not in {floor.ran_in[n] for n in floor.ended}


async def test_what_no_thread_has_time_for_is_handed_back_in_its_order(floor: Floor) -> None:
    await floor.make_quick()
    for number in (1, 2, 3):
        floor.slow(number)
    floor.start(1, 2, 3, 4, 5, 6)
    await await_until(lambda: len(floor.ran_in.keys()) + len(floor.back) == 6)
    slow = floor.ran_in.keys()
    assert len({floor.ran_in[n] for n in slow}) == len(slow)  # each has one of its own
    assert floor.back == sorted(
        {1, 2, 3, 4, 5, 6} - slow
    )  # 4, 5, 6, and what met no thread in time
    assert {4, 5, 6} <= set(floor.back)


async def test_a_quick_job_is_told_of_while_the_one_behind_it_takes_long(floor: Floor) -> None:
    await floor.make_quick()
    floor.slow(2)
    floor.start(1, 2)
    await await_until(lambda: floor.ended == [1])


async def test_what_a_job_raises_is_told(floor: Floor) -> None:
    error = SystemExit(3)

    def fail() -> None:
        raise error

    floor.does[1] = fail
    floor.start(1)
    await await_until(lambda: floor.errors == [error])


async def test_jobs_started_from_many_turns_of_the_loop_all_end(floor: Floor) -> None:
    await floor.make_quick()
    floor.does = {n: (lambda: time.sleep(0.002)) for n in range(0, 600, 97)}
    for number in range(600):
        floor.start(number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    await await_until(lambda: len(floor.ended) + len(floor.back) == 600)
    assert sorted(floor.ended + floor.back) == list(range(600))
