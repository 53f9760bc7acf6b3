"""Runs in processes of their own: several at once, killed when their time is over, held to their caps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import Context, JobFailed
from headrace.job import Job
from headrace.policy import LeasePolicy
from headrace.task import Task
from tests.integration.consumer import limited_tasks as tasks
from tests.support.consuming import LONG_S, QUICK, Site, lent
from tests.support.processes import ROOT, clean_environment, processes
from tests.support.wait import WAIT_S, await_until

ONLY_HINTS = LeasePolicy(lease_s=LONG_S, bare_lease_s=LONG_S)
"""Leases that are extended after minutes: whoever hears of a cancellation has heard the hint."""


@pytest.fixture
async def limited(site: Site) -> AsyncIterator[Site]:
    async with lent(site, tasks.app):
        yield site


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def begun(mark: Path) -> int:
    """Wait for a run that leaves this mark, and give its process."""

    def last() -> int:
        lines = mark.read_text().split() if mark.exists() else []
        return int(lines[-1]) if lines else 0

    pid: int = await await_until(last, what=f"{mark.name} has begun")
    return pid


async def result(job: Job[Any]) -> Any:
    return await job.aresult(timeout=WAIT_S)


class TestRunning:
    @pytest.mark.parametrize("task", [tasks.process, tasks.aprocess])
    async def test_each_run_has_a_process_of_its_own(
        self, limited: Site, task: Task[[], int]
    ) -> None:
        jobs = [await task.aenqueue() for _ in range(3)]
        async with limited.consumer(concurrency=2):
            pids = [await result(job) for job in jobs]
            await limited.drained()
        assert len({*pids, os.getpid()}) == 4
        assert all(gone(pid) for pid in pids)

    async def test_as_many_run_at_once_as_there_are_slots(
        self, limited: Site, tmp_path: Path
    ) -> None:
        marks = [str(tmp_path / name) for name in "abc"]
        jobs = [
            await tasks.meet.aenqueue(mine, other)
            for mine, other in zip(marks, marks[1:] + marks[:1], strict=True)
        ]
        async with limited.consumer(concurrency=3):
            assert [await result(job) for job in jobs] == [True] * 3

    @pytest.mark.parametrize(
        ("kind", "reason", "attempt"),
        [("again", "max_attempts", 2), ("retry", "max_attempts", 2), ("reject", "rejected", 1)],
    )
    async def test_a_failure_is_judged_as_in_the_consumers_process(
        self, limited: Site, kind: str, reason: str, attempt: int
    ) -> None:
        job = await tasks.fail.aenqueue(kind)
        async with limited.consumer():
            with pytest.raises(JobFailed) as failed:
                await result(job)
            [letter] = await limited.died()
        assert failed.value.reason == reason
        assert (letter["attempt"], letter.get("crashes", 0)) == (attempt, 0)

    async def test_what_no_new_process_finds_fails_and_does_not_run_in_the_consumer(
        self, limited: Site, tmp_path: Path
    ) -> None:
        await tasks.app.aenqueue("nested", str(tmp_path / "mark"))
        async with limited.consumer():
            [letter] = await limited.died()
        assert letter["error"]["type"] == "IsolationUnavailable"
        assert "a new process would not find" in letter["error"]["message"]
        assert not (tmp_path / "mark").exists()


class TestEnding:
    async def test_one_that_hangs_is_killed_when_its_time_is_over(
        self, limited: Site, tmp_path: Path
    ) -> None:
        await tasks.hang.aenqueue(str(tmp_path / "mark"))
        async with limited.consumer():
            pid = await begun(tmp_path / "mark")
            [letter] = await limited.died()
        assert gone(pid)
        assert (letter["error"]["reason"], letter["attempt"]) == ("timeout", 1)
        assert "crashes" not in letter

    @pytest.mark.parametrize("task", [tasks.stay, tasks.astay, tasks.hang])
    async def test_a_cancel_ends_it_at_once(
        self, limited: Site, tmp_path: Path, task: Task[[str], None]
    ) -> None:
        mark = tmp_path / "mark"
        job = await task.options(timeout=LONG_S).aenqueue(str(mark))
        async with limited.consumer(lease=ONLY_HINTS):
            pid = await begun(mark)
            assert await job.acancel()
            await limited.drained()
            assert await job.astatus() == "cancelled"
        assert gone(pid)
        assert limited.ends() == {"enqueued": 1, "cancel": 1}
        assert task is tasks.hang or (tmp_path / "mark-cancelled").exists()

    async def test_when_the_consumer_ends_it_goes_back_uncharged_and_its_process_is_gone(
        self, limited: Site, tmp_path: Path
    ) -> None:
        await tasks.stay.aenqueue(str(tmp_path / "mark"))
        async with limited.consumer(grace_s=0.1):
            pid = await begun(tmp_path / "mark")
        await await_until(lambda: gone(pid), what="its process is gone")
        [job] = map(json.loads, limited.state().pending)
        assert (job["delivery"], job.get("crashes"), job.get("attempt")) == (1, None, None)

    async def test_one_that_dies_by_itself_is_charged_a_crash_and_holds_up_nobody(
        self, limited: Site, tmp_path: Path
    ) -> None:
        await tasks.die.aenqueue(str(tmp_path / "mark"))
        beside = await tasks.stay.aenqueue(str(tmp_path / "beside"))
        async with limited.consumer(lease=replace(QUICK, max_crashes=3), concurrency=2):
            pid = await begun(tmp_path / "beside")
            [letter] = await limited.died()  # at its third: from the second on it is no suspect
            assert not gone(pid)
            await beside.acancel()
            await limited.drained()
        error = letter["error"]
        assert (error["reason"], error["signal"], letter["crashes"]) == ("crashed", "SIGKILL", 3)
        assert len((tmp_path / "mark").read_text().split()) == 3
        assert "attempt" not in letter

    async def test_with_its_fork_server_it_dies_and_runs_again(
        self, limited: Site, tmp_path: Path
    ) -> None:
        mark = tmp_path / "mark"
        job = await tasks.stay.aenqueue(str(mark))
        async with limited.consumer(lease=QUICK) as running:
            first = await begun(mark)
            server: Any = running.consumer._jobs._executor._isolation
            os.kill(server._server._process.pid, signal.SIGKILL)
            await await_until(lambda: gone(first), what="its process is gone")
            await await_until(lambda: len(mark.read_text().split()) == 2, "it runs again")
            await job.acancel()
            await limited.drained()
        assert limited.ends() == {"enqueued": 1, "retry": 1, "cancel": 1}

    async def test_with_a_consumer_that_is_killed_its_processes_die_too(
        self, limited: Site, tmp_path: Path
    ) -> None:
        module = "tests.integration.consumer.limited_tasks:app"
        command = [sys.executable, "-m", "headrace", "consume", module, "--url", limited.url]
        mark = tmp_path / "mark"
        job = await tasks.stay.aenqueue(str(mark))
        environment = clean_environment(PYTHONPATH=str(ROOT / "src"))
        with processes(tmp_path) as start:
            consumer = start(*command, env=environment)
            pid = await begun(mark)
            consumer.kill()
        await await_until(lambda: gone(pid), what="its process is gone")
        assert await job.astatus() == "processing"
        # As whoever leads ends the leases of who is gone: that counts in a grace, too.
        limited.redis.zadd(limited.k.leases, {job.id: 0}, xx=True)
        async with limited.consumer(lease=QUICK):
            await await_until(lambda: len(mark.read_text().split()) == 2, "it runs again")
            await job.acancel()
            await limited.drained()


class TestCaps:
    @pytest.mark.skipif(sys.platform != "linux", reason="the kernel has to hold memory to it")
    @pytest.mark.parametrize("task", [tasks.hold, tasks.ahold])
    async def test_more_memory_than_the_cap_is_a_failed_attempt_that_says_so(
        self, limited: Site, task: Task[[int], int]
    ) -> None:
        small, large = await task.aenqueue(32), await task.aenqueue(512)
        async with limited.consumer():
            assert await result(small) == 32
            with pytest.raises(JobFailed, match="memory: more than 128 MiB") as failed:
                await result(large)
            [letter] = await limited.died()
        error = letter["error"]
        assert failed.value.reason == error["reason"] == "limit_exceeded"
        assert (letter["attempt"], letter.get("crashes")) == (2, None)
        assert error["type"] == "LimitExceeded"
        assert 0 < error["peak_mib"] < 512
        assert "limited_tasks.py" in error["traceback"]

    @pytest.mark.skipif(sys.platform != "linux", reason="the kernel has to hold memory to it")
    async def test_a_task_may_give_up_at_the_first_overrun(self, limited: Site) -> None:
        await tasks.hold_once.aenqueue(512)
        async with limited.consumer():
            [letter] = await limited.died()
        assert (letter["error"]["reason"], letter["attempt"]) == ("rejected", 1)

    @pytest.mark.parametrize("deaf", [False, True])
    async def test_more_processor_time_than_the_cap_ends_it(
        self, limited: Site, *, deaf: bool
    ) -> None:
        await tasks.spin.aenqueue(deaf=deaf)
        async with limited.consumer():
            [letter] = await limited.died()
        error = letter["error"]
        assert (error["reason"], error["message"]) == ("limit_exceeded", "cpu: more than 1 s")
        assert (letter["attempt"], letter.get("crashes")) == (1, None)
        assert "in spin" in error["traceback"]


class TestSoftTimeout:
    @pytest.mark.parametrize(
        "task", [tasks.wind_up, tasks.awind_up, tasks.wind_up_alone, tasks.awind_up_alone]
    )
    async def test_it_is_told_and_may_end_in_its_own_way(
        self, limited: Site, task: Task[[], str]
    ) -> None:
        job = await task.options(timeout=LONG_S).aenqueue()
        async with limited.consumer():
            assert await result(job) == "soft_timeout"

    async def test_one_that_goes_on_is_ended_at_its_timeout(self, site: Site) -> None:
        told: list[str | None] = []

        @site.app.task(max_attempts=1)
        async def goes_on(ctx: Context) -> None:
            while ctx.stop_reason != "timeout":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    told.append(ctx.stop_reason)
            raise asyncio.CancelledError

        async with site.consumer():
            await goes_on.options(soft_timeout=0.1, timeout=0.3).aenqueue()  # type: ignore[call-arg]
            [letter] = await site.died()
        assert letter["error"]["reason"] == "timeout"
        assert told == ["soft_timeout", "timeout"]

    async def test_one_that_lets_it_pass_has_timed_out(self, site: Site) -> None:
        @site.app.task(max_attempts=1, soft_timeout=0.1)
        async def lets_it_pass() -> None:
            await asyncio.Event().wait()

        async with site.consumer():
            await lets_it_pass.aenqueue()
            [letter] = await site.died()
        assert (letter["error"]["reason"], letter["attempt"]) == ("timeout", 1)
