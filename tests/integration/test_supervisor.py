"""Several consumers under a supervisor, as processes: children and supervisors are killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from redis import Redis

from headrace import Headrace
from headrace.keys import keys_of
from tests.support import invariants
from tests.support.journal import lines_of
from tests.support.processes import Process, clean_environment, processes
from tests.support.traced import leaves_a_thread_in_c_code
from tests.support.wait import WAIT_S, wait_until

K = keys_of("queue")
LEASE_S = 600  # far beyond the tests: nothing here waits for a lease


class Line(NamedTuple):
    """One line of the journal: a task began or ended a job."""

    event: str
    number: int
    delivery: int
    pid: int


class Scene:
    """A supervisor of two consumers with one slot each, and the journal of their tasks."""

    def __init__(self, url: str, redis: Redis, folder: Path) -> None:
        self.app = Headrace(url)
        self.redis = redis
        self._journal = folder / "journal"
        self._journal.touch()
        self.env = clean_environment(HEADRACE_URL=url, HEADRACE_TEST_JOURNAL=str(self._journal))

    @contextmanager
    def supervisor(
        self,
        folder: Path,
        *flags: str,
        app: str = "acceptance.shop",
        workers: int = 2,
        grace_s: float = 0.2,
    ) -> Iterator[Process]:
        command = (sys.executable, "-m", "headrace", "consume", f"tests.{app}:app")
        usual = (
            "-w",
            str(workers),
            "-c",
            "1",
            "--lease",
            str(LEASE_S),
            "--grace-period",
            str(grace_s),
        )
        with processes(folder) as start:
            process = start(*command, *usual, *flags, env=self.env)
            try:
                yield process
            finally:
                process.end()
                for line in self.lines("start"):  # orphans, when the test has failed
                    if not is_gone(line.pid):
                        with suppress(ProcessLookupError):
                            os.kill(line.pid, signal.SIGKILL)

    def lines(self, event: str) -> list[Line]:
        lines = lines_of(self._journal)
        return [Line(e, int(n), int(d), int(pid)) for e, n, _, d, pid in lines if e == event]

    def both_nap(self, process: Process) -> list[Line]:
        """Wait until each of the two runs a long job, and give the beginnings."""
        self.app.enqueue_many(self.app.call("nap", n, 60) for n in range(2))
        wait_until(lambda: len(self.lines("start")) == 2, "both run a job")
        assert process.alive(), process.output
        naps = self.lines("start")
        assert len({nap.pid for nap in naps}) == 2
        return naps

    def claims(self) -> list[bytes]:
        return [job for _, job in invariants.read(self.redis).claims.values()]


@pytest.fixture
def scene(url: str, redis: Redis, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(url, redis, tmp_path)
    yield scene
    scene.app.close()


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; nobody may have waited for an orphan."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}


def test_the_job_of_a_killed_child_runs_again_at_once_in_the_one_that_replaces_it(
    scene: Scene, tmp_path: Path
) -> None:
    with scene.supervisor(tmp_path) as process:
        victim, other = scene.both_nap(process)
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: len(scene.lines("start")) == 3, "the job runs again")
        again = scene.lines("start")[2]
        assert (again.number, again.delivery) == (victim.number, 1)
        assert again.pid not in {victim.pid, other.pid}
        assert not is_gone(other.pid)
        # It may have been the job that killed it.
        assert [b'"crashes":1' in job for job in scene.claims()].count(True) == 1
        assert "died (exit code -9)" in process.output
        assert process.end() == 0, process.output
    invariants.check(scene.redis)


def test_a_child_that_is_killed_again_and_again_is_replaced_again_and_again(
    scene: Scene, tmp_path: Path
) -> None:
    with scene.supervisor(tmp_path) as process:
        naps = scene.both_nap(process)
        for round_ in range(2):
            os.kill(naps[-1].pid, signal.SIGKILL)
            count = 3 + round_
            wait_until(lambda: len(scene.lines("start")) == count, "replaced")
            naps = scene.lines("start")
        assert naps[-1].delivery == 2
        assert process.end() == 0, process.output
    assert not scene.redis.llen(K.dead)


def test_sigterm_ends_all_and_gives_back_what_runs(scene: Scene, tmp_path: Path) -> None:
    with scene.supervisor(tmp_path) as process:
        naps = scene.both_nap(process)
        assert process.end() == 0, process.output
        assert all(is_gone(nap.pid) for nap in naps)
    state = invariants.check(scene.redis)
    assert len(state.pending) == 2
    assert state.counters == {"enqueued": 2, "release": 2}


def test_sigterm_lets_short_jobs_finish(scene: Scene, tmp_path: Path) -> None:
    with scene.supervisor(tmp_path, grace_s=20) as process:
        scene.app.enqueue_many(scene.app.call("nap", n, 0.5) for n in range(2))
        wait_until(lambda: len(scene.lines("start")) == 2, "both run a job")
        assert process.end() == 0, process.output
    assert len(scene.lines("end")) == 2
    assert invariants.check(scene.redis).counters == {"enqueued": 2, "done": 2}


def test_children_end_by_themselves_when_their_supervisor_is_killed(
    scene: Scene, tmp_path: Path
) -> None:
    with scene.supervisor(tmp_path) as process:
        naps = scene.both_nap(process)
        process.kill()
        wait_until(lambda: all(is_gone(nap.pid) for nap in naps), "the children end")
    state = invariants.check(scene.redis)
    assert state.counters == {"enqueued": 2, "release": 2}


@pytest.mark.parametrize("children", [0, 2])
def test_sigterm_while_it_starts_ends_it_too(scene: Scene, tmp_path: Path, children: int) -> None:
    with scene.supervisor(tmp_path, workers=4) as process:
        wait_until(lambda: len(children_of(process.pid)) > children, "it starts")
        os.kill(process.pid, signal.SIGTERM)
        assert process.popen.wait(WAIT_S) == 0, process.output
    assert "died" not in process.output
    invariants.check(scene.redis)


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def test_tasks_that_do_not_end_do_not_keep_it_from_ending(scene: Scene, tmp_path: Path) -> None:
    with scene.supervisor(tmp_path, app="integration.consumer.stubborn", workers=3) as process:
        for n, task in enumerate(("swallow", "hang_in_a_thread", "hang")):
            scene.app.enqueue(task, n)
        wait_until(lambda: len(scene.lines("start")) == 3, "all run")
        assert process.end() == 0, process.output
        assert all(is_gone(line.pid) for line in scene.lines("start"))
    assert invariants.check(scene.redis).counters == {"enqueued": 3, "release": 3}


def test_a_burst_ends_all_when_there_is_nothing_left(scene: Scene, tmp_path: Path) -> None:
    scene.app.enqueue_many(scene.app.call("note", n) for n in range(200))
    with scene.supervisor(tmp_path, "--burst") as process:
        assert process.popen.wait(WAIT_S) == 0, process.output
    assert sorted(line.number for line in scene.lines("end")) == list(range(200))
    assert invariants.ends(invariants.check(scene.redis).counters) == {"enqueued": 200, "done": 200}


def takeovers(output: str) -> list[str]:
    """Return what the supervisor said of replacements, in order: begun, taken over, ended."""
    words = ("replacing ", " takes over from ", " has been replaced")
    return [word.strip() for line in output.splitlines() for word in words if word in line]


IN_TURN = ["replacing", "takes over from", "has been replaced"]


@pytest.mark.parametrize("workers", [1, 2])
def test_after_so_many_jobs_a_child_is_replaced_by_one_that_claims_before_it_ends(
    scene: Scene, tmp_path: Path, workers: int
) -> None:
    count = 0
    with scene.supervisor(tmp_path, "--max-jobs", "3", workers=workers, grace_s=600) as process:
        while len(takeovers(process.output)) < 6:  # two of them, one after the other
            scene.app.enqueue_many(scene.app.call("note", n) for n in range(count, count + 5))
            count += 5
            wait_until(lambda: len(scene.lines("end")) >= count, "all ran")
        assert process.alive()
        said = takeovers(process.output)
        assert said[:6] == IN_TURN + IN_TURN  # one at a time, and none ends before another claims
        assert process.end() == 0, process.output
    assert sorted(line.number for line in scene.lines("end")) == list(range(count))
    assert len({line.pid for line in scene.lines("end")}) > workers
    counters = invariants.check(scene.redis).counters
    assert (counters["enqueued"], counters["done"]) == (count, count)
    assert "died" not in process.output


def test_a_child_that_has_grown_beyond_its_memory_is_replaced(scene: Scene, tmp_path: Path) -> None:
    with scene.supervisor(
        tmp_path, "--max-memory", "300", app="integration.greedy", workers=1, grace_s=600
    ) as process:
        for number in range(2):
            scene.app.enqueue("keep", number, 400)
            wait_until(
                lambda: takeovers(process.output).count("has been replaced") == number + 1,
                "replaced",
            )
        assert process.end() == 0, process.output
    first, second = scene.lines("end")
    assert first.pid != second.pid
    assert " MiB" in process.output


def test_a_child_that_is_larger_than_its_memory_from_the_start_is_not_replaced_for_ever(
    scene: Scene, tmp_path: Path
) -> None:
    with scene.supervisor(tmp_path, "--max-memory", "1", workers=1) as process:
        wait_until(lambda: "is not replaced for its memory" in process.output)
        scene.app.enqueue("note", 1)
        wait_until(lambda: scene.lines("end"))
        assert not takeovers(process.output)
        assert process.end() == 0, process.output


def test_a_burst_ends_after_so_many_jobs(scene: Scene, tmp_path: Path) -> None:
    scene.app.enqueue_many(scene.app.call("note", n) for n in range(20))
    with scene.supervisor(tmp_path, "--burst", "--max-jobs", "3", workers=1) as process:
        assert process.popen.wait(WAIT_S) == 0, process.output
    assert len(scene.lines("end")) == 3
    assert len(invariants.check(scene.redis).pending) == 17


@leaves_a_thread_in_c_code
@pytest.mark.parametrize("workers", [1, 2])
def test_a_consumer_whose_threads_do_not_end_is_replaced(
    scene: Scene, tmp_path: Path, workers: int
) -> None:
    with scene.supervisor(
        tmp_path, app="integration.greedy", workers=workers, grace_s=600
    ) as process:
        scene.app.enqueue("hang", 0)
        wait_until(lambda: "threads do not end" in process.output, "it asks for it")
        if workers > 1:
            wait_until(lambda: takeovers(process.output) == IN_TURN, "replaced")
        scene.app.enqueue("note", 1)
        wait_until(lambda: scene.lines("end"), "jobs go on")
        assert process.end() == 0, process.output
    assert invariants.check(scene.redis).counters["dead"] == 1
