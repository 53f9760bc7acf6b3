"""``headrace consume --reload``: changed code runs, and no job is lost or charged for it."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from headrace import Headrace
from tests.integration.test_supervisor import children_of, is_gone
from tests.support import invariants
from tests.support.commands import environment
from tests.support.processes import Process, processes
from tests.support.wait import WAIT_S, wait_until

SHOP = """\
import os, time
from pathlib import Path
from headrace import Headrace

app = Headrace()


def write(line: str) -> None:
    with open("journal", "a") as journal:
        journal.write(f"{line}\\n")


@app.task
def note(number: int) -> None:
    write(f"VERSION {number}")


@app.task
def wait_for(number: int, name: str) -> None:
    write(f"begun {number}")
    until = time.monotonic() + 600
    while not Path(name).exists() and time.monotonic() < until:
        time.sleep(0.01)
    write(f"VERSION {number}")
"""


class Shop:
    """An application in a directory, and the program that runs its jobs."""

    def __init__(self, url: str, folder: Path) -> None:
        self.app = Headrace(url)
        self.folder = folder
        self.process: Process
        self.save("first")

    def save(self, version: str, *, name: str = "shop.py") -> None:
        (self.folder / name).write_text(SHOP.replace("VERSION", version))

    def enqueue(self, task: str, *args: object) -> None:
        self.app.enqueue(task, *args)

    def wrote(self, *lines: str) -> None:
        wait_until(lambda: set(lines) <= set(self.lines()), f"the journal has {lines}")

    def lines(self) -> list[str]:
        journal = self.folder / "journal"
        return journal.read_text().splitlines() if journal.exists() else []

    def said(self, pattern: str, times: int = 1) -> None:
        def found() -> bool:
            assert self.process.alive(), self.process.output
            return len(re.findall(pattern, self.process.output)) >= times

        wait_until(found, f"it says {pattern!r}")

    def starts(self, times: int = 1) -> None:
        """Wait until the consumers have been started so often."""
        self.said("consumes queue;", times)


@contextmanager
def reloading(url: str, folder: Path, *flags: str) -> Iterator[Shop]:
    logs = folder / "logs"
    code = folder / "code"
    for one in (logs, code):
        one.mkdir()
    shop = Shop(url, code)
    usual = ("-c", "1", "--lease", "600", "--grace-period", "600")
    with processes(logs) as start:
        command = (sys.executable, "-m", "headrace", "consume", "shop", *usual, *flags)
        shop.process = start(*command, env=environment(url), cwd=code)
        try:
            yield shop
        finally:
            shop.app.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_changed_code_runs_and_no_job_is_lost_or_charged(
    url: str, redis: Redis, tmp_path: Path, workers: int
) -> None:
    with reloading(url, tmp_path, "--reload", "-w", str(workers)) as shop:
        shop.starts(workers)
        for number in range(workers):
            shop.enqueue("wait_for", number, "go")
        shop.wrote(*(f"begun {number}" for number in range(workers)))
        for number in range(10, 20):
            shop.enqueue("note", number)
        shop.save("second")
        shop.said("changed: shop.py")
        shop.said("stopping: 1 running jobs", workers)
        (shop.folder / "go").touch()
        # What ran has come to its end as it began; what waited runs with the new code.
        shop.wrote(*(f"first {number}" for number in range(workers)))
        shop.wrote(*(f"second {number}" for number in range(10, 20)))
        assert shop.process.end() == 0, shop.process.output
        assert len(shop.lines()) == 2 * workers + 10  # each job ran once
        assert "died" not in shop.process.output
    counters = invariants.check(redis).counters
    assert invariants.ends(counters) == {"enqueued": workers + 10, "done": workers + 10}


def test_a_syntax_error_is_shown_and_the_next_change_is_waited_for(
    url: str, redis: Redis, tmp_path: Path
) -> None:
    with reloading(url, tmp_path, "-r") as shop:
        shop.starts()
        good = (shop.folder / "shop.py").read_text()
        (shop.folder / "shop.py").write_text(good + "\nx = = 1\n")
        shop.said(r"module 'shop' cannot be imported: SyntaxError: .* \(shop.py, line \d+\)")
        shop.said("ended with exit code 2; the next change starts it anew")
        shop.enqueue("note", 1)
        shop.save("third")
        shop.wrote("third 1")
        assert shop.process.end() == 0, shop.process.output
    assert invariants.check(redis).counters["done"] == 1


def test_it_can_be_ended_while_it_waits_for_a_change(url: str, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r") as shop:
        (shop.folder / "shop.py").write_text("raise RuntimeError('not yet')\n")
        shop.said("RuntimeError: not yet")
        shop.said("the next change starts it anew")
        shop.process.popen.send_signal(signal.SIGINT)
        assert shop.process.popen.wait(WAIT_S) == 0, shop.process.output


def test_what_is_saved_in_the_middle_of_a_restart_is_not_missed(url: str, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r") as shop:
        shop.starts()
        shop.enqueue("wait_for", 1, "go")
        shop.wrote("begun 1")
        shop.save("second")
        shop.said("stopping: 1 running jobs")
        shop.save("third")  # while the old one drains
        shop.said("changed: shop.py", 2)
        (shop.folder / "go").touch()
        shop.wrote("first 1")
        shop.said("runs shop at", 2)
        shop.save("fourt")  # while the new one begins; as long as "third", and within its second
        shop.said("runs shop at", 3)  # the second may have ended before it said that it consumes
        shop.enqueue("note", 2)
        shop.wrote("fourt 2")


def test_other_files_start_nothing(url: str, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r") as shop:
        for name in (".venv", "node_modules", "tasks"):
            (shop.folder / name).mkdir()
        shop.starts()
        for name in ("notes.txt", ".venv/x.py", "node_modules/x.py", "tasks/mail.py"):
            shop.save("second", name=name)
        shop.said("changed: ")
        shop.starts(2)
        assert set(re.findall("changed: (.*)", shop.process.output)) == {"tasks/mail.py"}


def test_ctrl_c_ends_it_all_at_once(url: str, redis: Redis, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r", "-w", "2") as shop:
        shop.starts(2)
        shop.enqueue("wait_for", 1, "never")
        shop.wrote("begun 1")
        family = descendants(shop.process.pid)
        assert len(family) >= 3  # a supervisor and its two
        shop.process.popen.send_signal(signal.SIGINT)
        shop.said("stopping: no job is running")
        shop.said("stopping: 1 running jobs")
        shop.process.popen.send_signal(signal.SIGINT)  # the second one ends it
        assert shop.process.popen.wait(WAIT_S) == 0, shop.process.output
        wait_until(lambda: all(is_gone(pid) for pid in family), "nobody is left")
    state = invariants.check(redis)
    assert len(state.pending) == 1
    assert state.counters == {"enqueued": 1, "release": 1}


def test_its_consumers_end_when_it_is_killed(url: str, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r") as shop:
        shop.starts()
        family = descendants(shop.process.pid)
        shop.process.kill()
        wait_until(lambda: all(is_gone(pid) for pid in family), "nobody is left")


def test_a_burst_that_is_over_is_over(url: str, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r", "--burst") as shop:
        assert shop.process.popen.wait(WAIT_S) == 0, shop.process.output


def test_probes_are_answered_by_each_start(url: str, tmp_path: Path) -> None:
    with reloading(url, tmp_path, "-r", "--health-port", "0") as shop:
        shop.starts()
        shop.save("second")
        shop.starts(2)
        shop.said("probes are answered at", 2)


def test_without_watchfiles_it_says_how_to_install_it(url: str, tmp_path: Path) -> None:
    code = "import sys; sys.modules['watchfiles'] = None; from headrace.cli import main; sys.exit(main())"
    with processes(tmp_path) as start:
        command = (sys.executable, "-c", code, "consume", "shop", "--reload")
        process = start(*command, env=environment(url), cwd=tmp_path)
        assert process.popen.wait(WAIT_S) == 2
        assert 'pip install "headrace[reload]"' in process.output
        assert len(process.output.splitlines()) == 1


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, children first; helpers of multiprocessing, too."""
    found = children_of(pid)
    return found + [one for child in found for one in descendants(child)]
