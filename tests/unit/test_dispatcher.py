"""Jobs in hand start as soon as there is a slot, whatever way they came to wait for one."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace import Headrace
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.claims import Claims
from headrace.consumer.dispatcher import Dispatcher
from headrace.consumer.outcomes import OutcomePolicy
from headrace.consumer.slots import Slots
from headrace.isolation.runner import IsolatedRunner
from headrace.keys import keys_of

K = keys_of("queue")


class Threads:
    """An executor whose threads never get to run."""

    quick = True

    def __init__(self) -> None:
        self.started: list[ClaimedJob] = []

    def start(self, claimed: ClaimedJob) -> None:
        self.started.append(claimed)

    def cancel(self, claimed: ClaimedJob) -> None: ...


async def dispatched(count: int, slots: Slots) -> tuple[Dispatcher, Threads]:
    app: Any = Headrace("redis://127.0.0.1:1")
    task = app.task(name="note")(lambda _: None)
    policy = OutcomePolicy("me", 1_000)
    jobs = Dispatcher(
        app.tasks,
        Claims([K]),
        slots,
        policy=policy,
        isolation=IsolatedRunner(policy),
        wake=asyncio.Event(),
    )
    jobs._executor = threads = Threads()  # type: ignore[assignment]
    for number in range(count):
        jobs.arrive(task.call(number).job, K, number, 1e12, moved=False)
    await asyncio.sleep(0)
    return jobs, threads


async def test_what_no_thread_had_time_for_starts_in_its_order_when_slots_are_free() -> None:
    slots = Slots(2, None)
    jobs, threads = await dispatched(6, slots)
    first = threads.started.copy()
    assert [claimed.number for claimed in first] == [0, 1, 2, 3, 4, 5]  # two slots, and ahead
    jobs._take_back(first)  # all at once: the threads were about to sleep, and all had been told
    assert [claimed.number for claimed in threads.started[6:]] == [0, 1]
    assert [claimed.number for claimed in slots.ready] == [2, 3, 4, 5]


async def test_what_no_thread_had_time_for_waits_while_all_slots_are_taken() -> None:
    slots = Slots(2, None)
    jobs, threads = await dispatched(4, slots)
    jobs._take_back(threads.started[2:])
    assert len(threads.started) == 4
    assert [claimed.number for claimed in slots.ready] == [2, 3]


async def test_a_job_that_is_lost_while_it_waits_again_does_not_start() -> None:
    slots = Slots(2, None)
    jobs, threads = await dispatched(4, slots)
    lost = threads.started[2]
    jobs.stop(lost, "cancelled")  # which a thread would have found out, had one had time
    jobs._take_back(threads.started[2:])
    assert lost in slots.ready
    jobs.lose(lost)
    await asyncio.sleep(0)
    assert (lost in slots.ready, lost.phase) == (False, "gone")


async def test_what_was_given_back_meanwhile_is_not_taken_back() -> None:
    slots = Slots(2, None)
    jobs, threads = await dispatched(4, slots)
    jobs.end_grace(at_once=True)
    jobs._take_back(threads.started[2:])
    assert not slots.ready
    assert len(threads.started) == 4
    assert {claimed.phase for claimed in threads.started} == {"ended"}
