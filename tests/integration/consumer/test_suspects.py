"""Suspects: jobs beside which consumers were lost run alone, in a process that may die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import JobFailed, wire
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.slots import HAND_BACKS, Slots
from headrace.keys import keys_of
from headrace.task import Task
from headrace.wire import Head
from tests.acceptance import poison
from tests.support.consuming import QUICK, Site
from tests.support.journal import lines_of
from tests.support.wait import WAIT_S, await_until, wait_until

Event = tuple[str, str, int, int, float]


class Journal:
    """What the tasks say they did, in whatever process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def events(self, what: str, job_id: str | None = None) -> list[Event]:
        lines = lines_of(self.path)
        return [
            (event, job, int(delivery), int(pid), float(at))
            for event, job, delivery, pid, at in lines
            if event == what and job_id in (None, job)
        ]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    journal = Journal(tmp_path / "journal")
    monkeypatch.setenv("HEADRACE_TEST_JOURNAL", str(journal.path))
    return journal


@pytest.fixture
async def suspects(site: Site) -> Any:
    """Give the queue of the poisonous application, and forget afterwards where it was."""
    before, site.app = site.app, poison.app
    poison.app.use(site.url)
    yield site
    await poison.app.aclose()
    site.app = before


def suspect(
    site: Site,
    task: Task[Any, Any],
    *args: Any,
    crashes: int = 2,
    returns: int = 0,
    **fields: Any,
) -> str:
    """Push a job as it is after so many lost consumers and uncharged returns; give its id."""
    call = task.call(*args)
    head, body = wire.split(call.job) or (Head(""), b"")
    head = Head(head.id, delivery=crashes + returns, crashes=crashes)
    extra = b"".join(b',"%b":%d' % (name.encode(), value) for name, value in fields.items())
    site.push(wire.join(head, extra + body))
    return head.id


def gone(pid: int) -> bool:
    """Tell whether a process has ended, and whoever started it has noticed."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def a_job(number: int, crashes: int = 0, delivery: int = 0) -> ClaimedJob:
    head = Head(f"job{number}", crashes=crashes, delivery=delivery or crashes)
    raw = wire.join(head, b',"task":"t"}')
    return read(raw, keys_of("queue"), number, tasks={}, leased_until=0.0, moved=False)


def suspicious(number: int) -> ClaimedJob:
    claimed = a_job(number, crashes=2)
    claimed.unrunnable = None  # whatever its task is
    return claimed


class TestSlots:
    @pytest.fixture
    def slots(self) -> Slots:
        return Slots(3, None, patience_s=0.05)

    def put(self, slots: Slots, claimed: ClaimedJob) -> ClaimedJob:
        claimed.unrunnable = None  # whatever its task is
        assert slots.take(claimed)
        slots.enqueue(claimed)
        return claimed

    def test_beside_a_suspect_nothing_is_claimed_and_nothing_starts(self, slots: Slots) -> None:
        one = self.put(slots, a_job(1, crashes=2))
        assert (slots.free, slots.wanted) == (0, 0)
        assert not slots.take(a_job(2))
        assert not slots.take(suspicious(3))
        assert slots.next() is one
        assert (slots.free, slots.wanted) == (0, 0)
        assert not slots.take(a_job(2))

    def test_a_suspect_goes_back_while_others_run_and_nothing_is_claimed_until_they_have_ended(
        self, slots: Slots
    ) -> None:
        other = self.put(slots, a_job(1))
        assert slots.next() is other
        one = suspicious(2)
        assert not slots.take(one)
        assert (slots.suspect, slots.free, slots.wanted) == (None, 0, 0)
        assert not slots.take(a_job(3))  # it came in the same claim
        slots.ended(other)
        assert slots.wanted == 1
        assert slots.take(one)

    def test_others_that_do_not_end_hold_a_suspect_up_for_a_while_only(self, slots: Slots) -> None:
        for number in range(2):
            self.put(slots, a_job(number))
            assert slots.next()
        one = suspicious(4)
        assert not slots.take(one)
        wait_until(lambda: slots.wanted == 1)
        self.put(slots, one)
        assert slots.next() is one

    def test_one_that_nobody_has_taken_is_kept_and_is_not_held_up(self, slots: Slots) -> None:
        for number in range(3):
            self.put(slots, a_job(number))
            assert slots.next()
        one = self.put(slots, a_job(4, crashes=2, delivery=12))
        assert slots.next() is None
        wait_until(lambda: slots.held_up() == [] and slots.next() is one)
        assert len(slots.running) == 4  # beyond the slots: it has a process of its own

    def test_after_a_suspect_one_job_at_a_time_is_claimed_until_one_is_none(
        self, slots: Slots
    ) -> None:
        for number in (1, 2):
            self.put(slots, a_job(number, crashes=2))
            claimed = slots.next()
            assert claimed is not None
            claimed.alone = True
            slots.ended(claimed)
            slots.suspect = None
            assert (slots.free, slots.wanted) == (3, 1)
        self.put(slots, a_job(3))
        assert slots.wanted == slots.free == 2


class TestRunning:
    @pytest.mark.parametrize("task", [poison.innocent, poison.ainnocent])
    async def test_a_suspect_runs_in_another_process_and_its_result_comes_back(
        self, suspects: Site, journal: Journal, task: Task[Any, Any]
    ) -> None:
        job_id = suspect(suspects, task, 17)
        async with suspects.consumer(lease=QUICK):
            assert await poison.app.job(job_id).aresult(timeout=WAIT_S) == 17
            await suspects.drained()
        [(_, _, delivery, pid, _)] = journal.events("start")
        assert delivery == 2
        assert pid != os.getpid()
        assert gone(pid)

    @pytest.mark.parametrize("task", [poison.telling, poison.atelling], ids=["sync", "async"])
    async def test_a_suspect_tells_from_its_own_process_what_it_does(
        self, suspects: Site, journal: Journal, task: Task[Any, Any]
    ) -> None:
        job = suspects.app.job(suspect(suspects, task, 200))
        async with suspects.consumer(lease=QUICK):
            async with asyncio.timeout(WAIT_S):
                assert [item async for item in job.stream()] == [*range(200)]
            progress = await job.aprogress()
            assert progress is not None
            assert (progress.done, progress.note, progress.delivery) == (1, "counting", 2)
            (run,) = await job.ahistory()
            assert (run.outcome, run.delivery) == ("done", 2)
        [(_, _, _, pid, _)] = journal.events("start")
        assert pid != os.getpid()

    async def test_a_job_of_one_crash_or_of_forgiven_ones_is_no_suspect(
        self, suspects: Site, journal: Journal
    ) -> None:
        suspect(suspects, poison.innocent, 1, crashes=1)
        redriven = json.loads(poison.innocent.call(2).job)
        suspects.push(
            {"id": redriven["id"], "crashes": 5, **redriven, "error": {"reason": "crashed"}}
        )
        async with suspects.consumer(lease=QUICK):
            await suspects.drained()
        assert [pid for *_, pid, _ in journal.events("end")] == [os.getpid()] * 2

    @pytest.mark.parametrize(
        ("kind", "reason", "attempt"),
        [("again", "max_attempts", 2), ("never", "rejected", 1), ("reject", "rejected", 1)],
    )
    async def test_a_suspect_that_fails_is_judged_as_its_task_wishes(
        self,
        suspects: Site,
        caplog: pytest.LogCaptureFixture,
        kind: str,
        reason: str,
        attempt: int,
    ) -> None:
        job_id = suspect(suspects, poison.fail, kind)
        async with suspects.consumer(lease=QUICK):
            [letter] = await suspects.died()
            with pytest.raises(JobFailed, match=reason):
                await poison.app.job(job_id).aresult(timeout=WAIT_S)
        assert (letter["attempt"], letter["crashes"]) == (attempt, 2)
        error = letter["error"]
        assert error["reason"] == reason
        assert error["type"] == {"again": "OSError", "never": "Fussy", "reject": "Reject"}[kind]
        assert "poison.py" in error["traceback"]
        assert not {"signal", "exit_code", "peak_mib"} & error.keys()
        assert error["type"] in caplog.text
        assert "poison.py" in caplog.text  # the traceback came with it

    async def test_a_suspect_enqueues_where_its_consumer_consumes(
        self, suspects: Site, journal: Journal
    ) -> None:
        suspect(suspects, poison.parent)
        async with suspects.consumer(lease=QUICK):
            await await_until(lambda: journal.events("end"), "the child's job has run")
            await suspects.drained()

    async def test_a_task_that_no_new_process_finds_runs_in_the_consumer_and_it_says_so(
        self, suspects: Site, journal: Journal, caplog: pytest.LogCaptureFixture
    ) -> None:
        jobs = [suspect(suspects, poison.app.tasks[name]) for name in ("nested", "anested")]
        async with suspects.consumer(lease=QUICK):
            assert await poison.app.job(jobs[0]).aresult(timeout=WAIT_S) == 7
            assert await poison.app.job(jobs[1]).aresult(timeout=WAIT_S) == 8
            await suspects.drained()
        assert [pid for *_, pid, _ in journal.events("start")] == [os.getpid()] * 2
        assert caplog.text.count("in the consumer's own process") == 2
        assert "_wrapped.<locals>.nested" in caplog.text


class TestDying:
    @pytest.mark.parametrize(
        ("how", "name", "exit_code", "seen"),
        [
            ("kill", "SIGKILL", None, ""),
            ("linger", "SIGKILL", None, "in linger"),
            ("exit", "", 3, ""),
            ("segfault", "SIGSEGV", None, "in string_at"),
            ("hog", "SIGABRT", None, "in hog"),
        ],
    )
    async def test_the_letter_of_a_dead_suspect_says_what_it_died_of(
        self,
        suspects: Site,
        journal: Journal,
        caplog: pytest.LogCaptureFixture,
        how: str,
        name: str,
        exit_code: int | None,
        seen: str,
    ) -> None:
        job_id = suspect(suspects, poison.poison, how, crashes=4)
        async with suspects.consumer(lease=QUICK):
            [letter] = await suspects.died()
            with pytest.raises(JobFailed, match="crashed"):
                await poison.app.job(job_id).aresult(timeout=WAIT_S)
        assert (letter["id"], letter["crashes"], letter["delivery"]) == (job_id, 5, 5)
        assert "attempt" not in letter
        error = letter["error"]
        assert error["reason"] == "crashed"
        assert (error.get("signal", ""), error.get("exit_code")) == (name, exit_code)
        assert (name or "exit code 3") in error["message"]
        assert seen in error.get("traceback", "")
        assert error["peak_mib"] >= (100 if how == "hog" else 5)
        assert error["peak_mib"] < 1000
        assert "failed for good: ProcessDied" in caplog.text
        assert len(journal.events("start")) == 1

    async def test_an_async_suspect_may_die_as_well(self, suspects: Site, journal: Journal) -> None:
        suspect(suspects, poison.apoison, crashes=4)
        async with suspects.consumer(lease=QUICK):
            [letter] = await suspects.died()
        assert letter["error"]["signal"] == "SIGKILL"

    async def test_a_death_below_the_bound_is_a_retry_that_charges_a_crash_and_no_attempt(
        self, suspects: Site, journal: Journal
    ) -> None:
        job_id = suspect(suspects, poison.poison, "exit")
        async with suspects.consumer(lease=QUICK):
            [letter] = await suspects.died()
        assert (letter["crashes"], letter["delivery"]) == (5, 5)
        assert "attempt" not in letter
        assert [d for _, _, d, _, _ in journal.events("start", job_id)] == [2, 3, 4]
        assert suspects.counters() == {"retry": 2, "dead": 1}

    async def test_max_crashes_bounds_the_deaths(self, suspects: Site, journal: Journal) -> None:
        suspect(suspects, poison.poison, "exit")
        policy = replace(QUICK, max_crashes=3)
        async with suspects.consumer(lease=policy):
            [letter] = await suspects.died()
        assert letter["crashes"] == 3


class TestEnding:
    @pytest.mark.parametrize("task", [poison.obedient, poison.aobedient])
    async def test_a_suspect_is_told_that_its_time_is_over(
        self, suspects: Site, journal: Journal, task: Task[Any, Any]
    ) -> None:
        suspect(suspects, task, timeout=1, max_attempts=1)
        async with suspects.consumer(lease=QUICK):
            [letter] = await suspects.died()
        assert (letter["error"]["reason"], letter["attempt"]) == ("timeout", 1)
        assert len(journal.events("start")) == len(journal.events("stopped-timeout")) == 1

    async def test_a_suspect_that_does_not_listen_is_killed(
        self, suspects: Site, journal: Journal
    ) -> None:
        suspect(suspects, poison.deaf, timeout=1, max_attempts=1)
        async with suspects.consumer(lease=QUICK):
            [letter] = await suspects.died()
        assert (letter["error"]["reason"], letter["attempt"]) == ("timeout", 1)
        assert letter["crashes"] == 2
        pid = journal.events("start")[0][3]
        await await_until(lambda: gone(pid), what="its process is gone")

    async def test_a_running_suspect_can_be_cancelled(
        self, suspects: Site, journal: Journal
    ) -> None:
        job_id = suspect(suspects, poison.obedient)
        async with suspects.consumer(lease=QUICK):
            [(*_, pid, _)] = await await_until(lambda: journal.events("start"), "it runs")
            os.kill(pid, signal.SIGTERM)  # as service managers do; without a word, it is not meant
            assert await poison.app.job(job_id).acancel()
            await suspects.drained()
        assert journal.events("stopped-cancelled")
        assert suspects.counters() == {"cancel": 1}

    @pytest.mark.parametrize("task", [poison.obedient, poison.deaf])
    async def test_a_suspect_is_given_back_uncharged_when_the_grace_is_over(
        self, suspects: Site, journal: Journal, task: Task[Any, Any]
    ) -> None:
        suspect(suspects, task)
        async with suspects.consumer(lease=QUICK, grace_s=0.2):
            await await_until(lambda: journal.events("start"), "it runs")
        [job] = [json.loads(job) for job in suspects.state().pending]
        assert (job["crashes"], job["delivery"]) == (2, 3)
        pid = journal.events("start")[0][3]
        await await_until(lambda: gone(pid), what="its process is gone")

    async def test_a_suspect_that_is_lost_is_ended_and_changes_nothing(
        self, suspects: Site, journal: Journal
    ) -> None:
        job_id = suspect(suspects, poison.obedient)
        async with suspects.consumer(lease=QUICK, check=False, grace_s=0.1):
            await await_until(lambda: journal.events("start"), "it runs")
            job = suspects.redis.hget(suspects.k.claims, job_id).split(b" ", 1)[1]
            suspects.redis.hset(suspects.k.claims, job_id, b"somebody:1 " + job)
            await await_until(lambda: journal.events("stopped-lost"), "it is told")
        assert suspects.letters() == []
        assert suspects.counters().get("done", 0) == 0
        await await_until(lambda: gone(journal.events("start")[0][3]), what="it is gone")


class TestAlone:
    async def test_a_suspect_waits_until_the_others_have_ended_and_nothing_starts_beside_it(
        self, suspects: Site, journal: Journal
    ) -> None:
        slow = [await poison.ainnocent.aenqueue(n, seconds=1.0) for n in range(3)]
        async with suspects.consumer(concurrency=10):
            await await_until(lambda: len(journal.events("start")) == 3, "they run")
            job_id = suspect(suspects, poison.innocent, 9, crashes=3)
            for n in range(20):
                await poison.ainnocent.aenqueue(n)
            await await_until(lambda: len(journal.events("end")) == 24, "all are done")
            await suspects.drained()
        begin, end = journal.events("start", job_id)[0][4], journal.events("end", job_id)[0][4]
        for start in journal.events("start"):
            assert start[1] == job_id or not begin <= start[4] <= end
        assert all(journal.events("end", job.id)[0][4] < begin for job in slow)
        deliveries = [
            delivery for _, job, delivery, _, _ in journal.events("start") if job != job_id
        ]
        assert suspects.letters() == []
        assert max(deliveries) <= 1  # handed back at most once, and not charged

    async def test_what_came_with_a_suspect_is_handed_back_before_it_starts(
        self, suspects: Site, journal: Journal
    ) -> None:
        before = [await poison.innocent.aenqueue(n) for n in range(3)]
        job_id = suspect(suspects, poison.innocent, 9)
        after = [await poison.innocent.aenqueue(n) for n in range(3)]
        async with suspects.consumer(concurrency=10):
            await await_until(lambda: len(journal.events("end")) == 7, "all are done")
            await suspects.drained()
        order = [job for _, job, *_ in journal.events("start")]
        assert order[0] == job_id
        assert order[1:] == [job.id for job in before + after] or sorted(order[1:]) == sorted(
            job.id for job in before + after
        )
        assert suspects.counters()["release"] == 6

    async def test_suspects_run_one_after_the_other(self, suspects: Site, journal: Journal) -> None:
        for n in range(4):
            suspect(suspects, poison.innocent, n)
        async with suspects.consumer(concurrency=10):
            await await_until(lambda: len(journal.events("end")) == 4, "all are done")
            await suspects.drained()
        times = sorted(event[4] for what in ("start", "end") for event in journal.events(what))
        ends = sorted(event[4] for event in journal.events("end"))
        assert times[1::2] == ends  # start, end, start, end, …
        assert suspects.counters()["release"] == 3  # those that came with the first

    async def test_a_suspect_does_not_wait_for_others_for_ever(
        self, suspects: Site, journal: Journal
    ) -> None:
        await poison.ainnocent.aenqueue(1, seconds=30)
        async with suspects.consumer(concurrency=2, lease=QUICK, grace_s=0.1) as running:
            running.consumer._slots._patience_s = 0.2
            await await_until(lambda: journal.events("start"), "the slow one runs")
            job_id = suspect(suspects, poison.innocent, 9)
            assert await poison.app.job(job_id).aresult(timeout=WAIT_S) == 9

    async def test_a_suspect_that_was_handed_back_often_is_kept_and_goes_back_when_the_consumer_ends(
        self, suspects: Site, journal: Journal
    ) -> None:
        slow = await poison.ainnocent.aenqueue(1, seconds=1)
        async with suspects.consumer(concurrency=2) as running:
            await await_until(lambda: journal.events("start"), "the slow one runs")
            job_id = suspect(suspects, poison.innocent, 9, returns=HAND_BACKS)
            await await_until(lambda: suspects.redis.hexists(suspects.k.claims, job_id))
            running.stop()
            await running.ended()
        assert [event[1] for event in journal.events("end")] == [slow.id]
        [job] = [json.loads(job) for job in suspects.state().pending]
        assert (job["id"], job["crashes"], job["delivery"]) == (job_id, 2, 3 + HAND_BACKS)
