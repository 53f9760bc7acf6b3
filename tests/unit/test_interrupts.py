"""An exception that is raised in a job's thread stays inside that job, wherever it comes."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.interrupts import Interrupts
from headrace.consumer.thread_pool import ThreadPool
from headrace.errors import JobInterrupted
from headrace.keys import keys_of
from headrace.wire import Head
from tests.support.traced import leaves_a_thread_in_c_code
from tests.support.wait import await_until

K = keys_of("queue")


def job(number: int) -> ClaimedJob:
    return ClaimedJob(K, number, Head(f"j{number}"), b"}", b"", b"", 0.0, owned=True)


@pytest.fixture
def restless() -> Iterator[None]:
    """Let Python change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


# — at each moment —


class Moments(dict[ClaimedJob, int]):
    """What is armed, with a hook before and after each step."""

    def __init__(self, hook: Callable[[str], None]) -> None:
        self._hook = hook

    def __setitem__(self, claimed: ClaimedJob, thread: int) -> None:
        self._hook("before it may be interrupted")
        super().__setitem__(claimed, thread)
        self._hook("when it may be interrupted")

    def pop(self, claimed: ClaimedJob, default: Any = None) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return super().pop(claimed, default)
        self._hook("when its run is over")
        got = super().pop(claimed, default)
        self._hook("when it may no more be interrupted")
        return got


@pytest.mark.parametrize(
    ("moment", "ends"),
    [
        ("before it may be interrupted", "done"),
        ("when it may be interrupted", "interrupted"),
        ("in its run", "interrupted"),
        ("when its run is over", "done"),
        ("when it may no more be interrupted", "done"),
    ],
)
def test_at_each_moment_of_a_run_it_ends_that_run_or_none(moment: str, ends: str) -> None:
    interrupts, claimed, me = Interrupts(), job(0), threading.get_ident()
    reached: list[str] = []

    def hook(now: str) -> None:
        if now == moment and not reached:
            reached.append(now)
            other = threading.Thread(target=interrupts.interrupt, args=(claimed,))
            other.start()
            while other.is_alive():  # the exception comes here
                other.join(1)

    def run(_: ClaimedJob) -> str:
        hook("in its run")
        return "value"

    interrupts._armed = Moments(hook)
    value, error = interrupts.attempt(claimed, me, run)
    assert reached
    if ends == "done":
        assert (value, error) == ("value", None)
    else:
        assert value is None
        assert isinstance(error, JobInterrupted)
    for _ in range(100):  # of what came too late something would come now
        assert interrupts.attempt(job(1), me, run) == ("value", None)


def test_a_thread_leaves_only_when_what_is_being_raised_has_come() -> None:
    """The loop has decided, and is held up before it raises: the job ends meanwhile."""
    interrupts, claimed = Interrupts(), job(0)
    left = threading.Event()
    ended: list[tuple[Any, BaseException | None]] = []

    def run(_: ClaimedJob) -> str:
        assert interrupts._armed.pop(claimed)  # as `interrupt` begins
        claimed.interrupted = True
        return "value"

    def work() -> None:
        ended.append(interrupts.attempt(claimed, threading.get_ident(), run))
        left.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not left.wait(0.05)
    claimed.was_interrupted = True
    thread.join()
    assert ended == [("value", None)]


# — and anywhere —


class Flag:
    """What a job and its test tell each other, without a lock.

    ``threading.Event`` has one, and an exception that comes between taking it and entering its
    ``with`` block leaves it taken: then the test itself waits for ever in ``set``.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set


class Pool:
    """Threads whose jobs take no time at all or a little, and how each of them ended."""

    def __init__(self, most: int) -> None:
        self.ended: dict[int, list[tuple[Any, BaseException | None]]] = {}
        self.threads = ThreadPool(self._run, self._hear, self._take_back, most=most)
        self.does: dict[int, Callable[[], object]] = {}

    def _run(self, claimed: ClaimedJob) -> int:
        self.does.get(claimed.number, lambda: None)()
        return claimed.number

    def _hear(self, claimed: ClaimedJob, value: Any, error: BaseException | None) -> None:
        self.ended.setdefault(claimed.number, []).append((value, error))

    def _take_back(self, jobs: list[ClaimedJob]) -> None:
        for claimed in jobs:
            self.threads.start(claimed)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool(most=2)
    yield pool
    pool.threads.close()
    names = [t for t in threading.enumerate() if t.name.startswith("headrace-task")]
    await await_until(lambda: not any(thread.is_alive() for thread in names))


@pytest.mark.usefixtures("restless")
async def test_interrupted_again_and_again_each_job_ends_once_and_the_others_as_ever(
    pool: Pool,
) -> None:
    rng = random.Random(7)

    def some_work() -> None:
        for _ in range(rng.randrange(6_000)):
            pass

    jobs = [job(number) for number in range(3_000)]
    pool.does = dict.fromkeys(range(3_000), some_work)
    for claimed in jobs:
        pool.threads.start(claimed)
        if claimed.number % 2:  # every other one, somewhere around its run
            until = time.perf_counter() + rng.random() * 0.000_1
            while time.perf_counter() < until:
                pass
            pool.threads.interrupt(claimed)
        if claimed.number % 8 == 7:
            await await_until(lambda: len(pool.ended) == claimed.number + 1)
    assert all(len(ends) == 1 for ends in pool.ended.values())
    spared = [pool.ended[number][0] for number in range(0, 3_000, 2)]
    assert spared == [(number, None) for number in range(0, 3_000, 2)]
    for number in range(1, 3_000, 2):
        value, error = pool.ended[number][0]
        assert (value, error) == (number, None) or isinstance(error, JobInterrupted)
    # Whether any was hit is chance; each moment is tried above.
    assert pool.threads._threads <= 2
    assert not pool.threads._interrupts._armed
    assert not pool.threads._interrupts._struck


@leaves_a_thread_in_c_code
async def test_a_thread_in_a_call_of_c_code_is_given_up_and_replaced(pool: Pool) -> None:
    gates = [threading.Lock(), threading.Lock()]
    for number, gate in enumerate(gates):
        gate.acquire()
        pool.does[number] = gate.acquire  # C code, which no exception ends
    hung = [job(0), job(1)]
    for claimed in hung:
        pool.threads.start(claimed)
    await await_until(lambda: len(pool.threads._interrupts._armed) == 2)
    for claimed in hung:
        pool.threads.interrupt(claimed)
        error = pool.threads.give_up(claimed)
        assert isinstance(error, JobInterrupted)
        assert pool.threads.give_up(claimed) is None
    assert pool.threads.lost == 2
    for number in range(2, 50):
        pool.threads.start(job(number))
    await await_until(lambda: len(pool.ended) == 48)
    for gate in gates:
        gate.release()
    await await_until(lambda: pool.threads.lost == 0)
    assert not {0, 1} & pool.ended.keys()  # they have ended, and nobody hears of it
    assert pool.threads._threads <= 2


async def test_what_swallows_its_interrupt_is_given_up_too(pool: Pool) -> None:
    begun, swallowed, go = Flag(), Flag(), Flag()

    def stubborn() -> None:
        try:
            begun.set()
            while not go.is_set():
                time.sleep(0.01)
        except BaseException:
            swallowed.set()
        while not go.is_set():
            time.sleep(0.01)

    pool.does[0] = stubborn
    claimed = job(0)
    pool.threads.start(claimed)
    await await_until(begun.is_set)
    pool.threads.interrupt(claimed)
    await await_until(swallowed.is_set)
    assert pool.threads.give_up(claimed) is not None
    pool.threads.start(job(1))
    await await_until(lambda: pool.ended)
    go.set()
    await await_until(lambda: pool.threads.lost == 0)
    assert pool.ended == {1: [(1, None)]}


@pytest.mark.usefixtures("restless")
async def test_a_job_that_ends_while_it_is_given_up_ends_once(pool: Pool) -> None:
    """Either its end is heard, or it is given up, and never both."""
    given_up = 0
    for number in range(300):
        begun, go = Flag(), Flag()

        def swallow(begun: Flag = begun, go: Flag = go) -> None:
            begun.set()
            while not go.is_set():
                try:
                    time.sleep(0.001)
                except JobInterrupted:
                    pass

        pool.does[number] = swallow
        claimed = job(number)
        pool.threads.start(claimed)
        await await_until(begun.is_set)
        pool.threads.interrupt(claimed)
        if number % 2:  # it may be about to end, and else it goes on
            go.set()
        if pool.threads.give_up(claimed) is not None:
            given_up += 1
            pool.ended.setdefault(number, []).append((None, None))
        go.set()
        await await_until(lambda: number in pool.ended)
    await await_until(lambda: pool.threads.lost == 0)
    assert all(len(ends) == 1 for ends in pool.ended.values())
    assert given_up
    assert pool.threads._threads <= 2
    pool.threads.start(job(1_000))
    await await_until(lambda: 1_000 in pool.ended)
    assert pool.ended[1_000] == [(1_000, None)]


@pytest.mark.usefixtures("restless")
async def test_interrupts_that_come_too_late_leave_python_as_it_was(pool: Pool) -> None:
    """A pending one that was taken back left a profiled thread in an endless loop (Python 3.11)."""
    jobs = [job(number) for number in range(200)]
    for claimed in jobs:
        pool.threads.start(claimed)
        pool.threads.interrupt(claimed)
    await await_until(lambda: len(pool.ended) == len(jobs))
    sys.setprofile(lambda *_: None)
    try:
        total = sum(n for n in range(1_000) if n % 2)
    finally:
        sys.setprofile(None)
    assert total == 250_000
