"""The demo, whole: `headrace demo` on real files, with a consumer killed midway; and the check that decides."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from headrace import results, wire
from headrace.demo.audit import Evidence, audit
from headrace.demo.inventory import plain_loop, take_inventory
from headrace.ids import new_id
from headrace.operations import Snapshot
from tests.support.processes import ROOT, Process, clean_environment, processes
from tests.support.wait import WAIT_S, wait_until

FILES = 360  # with fewer, all may be counted before a consumer could be killed
FEW = 40
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with real files of Python's own library."""
    folder = tmp_path_factory.mktemp("files")
    files = [*LIBRARY.glob("*.py"), *LIBRARY.glob("[a-su-z]*/*.py")]  # without lib/test
    for file in sorted(files)[:FILES]:
        shutil.copy(file, folder / "-".join(file.relative_to(LIBRARY).parts))
    return folder


def some_of(folder: Path, beside: Path) -> Path:
    """Give a folder with a few of these files."""
    few = beside / "few"
    few.mkdir()
    for file in sorted(folder.iterdir())[:FEW]:
        shutil.copy(file, few)
    return few


def demo(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "demo", *args],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


def test_every_job_is_accounted_for_and_nothing_is_left_running(folder: Path) -> None:
    ended = demo("--files", str(folder), "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    assert told["accounted_for"] is True and told["problems"] == []
    jobs = told["jobs"]
    assert (jobs["accepted"], jobs["done"], jobs["dead"]) == (FILES + 5, FILES, 5)
    assert [jobs[place] for place in ("pending", "processing", "delayed", "foreign")] == [
        0,
        0,
        0,
        0,
    ]
    assert {letter["error"] for letter in told["dead_letters"]} == {"FileNotFoundError"}
    assert {letter["attempts"] for letter in told["dead_letters"]} == {3}
    for sum_ in ("files", "lines", "tokens"):
        assert told["queue"][sum_] == told["plain_loop"][sum_] > 0
    for consumer in told["consumers"]:
        assert not Path("/proc", str(consumer["pid"])).exists()
    assert [consumer["killed"] for consumer in told["consumers"]].count(True) == 1
    assert told["kill"]["held"], "the killed consumer had nothing in its hands"
    assert told["kill"]["done_seconds"] > 0


def test_a_person_is_told_what_happens_and_how_it_ended(folder: Path, tmp_path: Path) -> None:
    few = some_of(folder, tmp_path)
    ended = demo("--files", str(few), "--no-kill", "--consumers", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"Every job is accounted for: {FEW + 5} accepted = {FEW} done + 5 dead." in ended.stdout
    url = next(word for word in ended.stdout.split() if word.startswith("redis://"))
    with socket.socket() as probe:
        address = urlsplit(url)
        assert probe.connect_ex((address.hostname, address.port)) != 0, "its server still listens"


@contextlib.contextmanager
def running(folder: Path, logs: Path, until: str) -> Iterator[tuple[Process, dict[int, str]]]:
    """Give a demo that has come so far, and its children's command lines by pid.

    It does not end before the block has: one of its files is a pipe to which nobody writes.
    """
    few, held = some_of(folder, logs), logs / "held"
    command = [sys.executable, "-m", "headrace", "demo", "--files", str(few)]
    with processes(logs) as start, contextlib.ExitStack() as stack:
        process = start(*command, env=clean_environment(TMPDIR=str(logs)))
        # It knows its files then, and its consumers have not been started yet.
        wait_until(lambda: "a private" in process.output, "it has a server")
        os.mkfifo(held)
        last = max(few.iterdir())
        held.replace(last)
        stack.callback(let_go, last)
        wait_until(lambda: until in process.output, f"{until!r}")
        yield process, children_of(process.pid)


def let_go(pipe: Path) -> None:
    """Let whoever opens the pipe for reading find its end."""
    with contextlib.suppress(OSError):  # nobody does
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def children_of(parent: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            ppid = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if ppid == parent:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = command.decode()
    return found


def all_gone(pids: Iterator[int] | dict[int, str]) -> bool:
    return not any(Path("/proc", str(pid)).exists() for pid in pids)


@linux
def test_ctrl_c_ends_everything_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path, "jobs accepted") as (process, children):
        assert len(children) == 5, children  # Redis, the server, three consumers
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(WAIT_S) == 130
        assert "stopped" in process.output and "Traceback" not in process.output
        assert all_gone(children)
        assert not list(tmp_path.glob("headrace-demo-*"))


@linux
def test_a_demo_that_is_killed_takes_its_processes_with_it(folder: Path, tmp_path: Path) -> None:
    with running(folder, tmp_path, "jobs accepted") as (process, children):
        process.kill()
        wait_until(lambda: all_gone(children), f"the end of {children}")


@linux
def test_a_consumer_that_is_lost_unasked_is_told_with_its_last_words(
    folder: Path, tmp_path: Path
) -> None:
    with running(folder, tmp_path, "kill -9") as (process, children):
        names = re.compile(r"--name (demo-\d) ")
        pid, name = next((pid, m[1]) for pid, text in children.items() if (m := names.search(text)))
        os.kill(pid, signal.SIGKILL)
        assert process.popen.wait(WAIT_S) == 1
        _, told, words = process.output.partition(
            f"the demo has failed: {name} ended (exit code -9):\n"
        )
        # Its start, or, if it has run some of the jobs that fail, the end of what it said of them.
        assert told and (f"{name} consumes queue" in words or "not-there" in words)
        assert all_gone(children)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    ended = demo("--files", str(tmp_path / "none"))
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr and str(tmp_path / "none") in ended.stderr


@pytest.fixture
def evidence(folder: Path, tmp_path: Path) -> Evidence:
    """Give what a run looks like in which all went well."""
    inventory = take_inventory(folder, tmp_path)
    paths = [*inventory.files[:3], *inventory.missing[:1]]
    expected = plain_loop(paths, lambda _: None)
    jobs = {new_id(): path for path in paths}
    ends: dict[str, bytes] = {}
    letters: list[bytes] = []
    for job_id, path in jobs.items():
        found = expected[path]
        if isinstance(found, str):
            error = wire.Error(reason="max_attempts", type=found)
            body = wire.encode_call("count_file", (path,), {})
            letters.append(wire.letter(wire.Head(job_id, attempt=3), body, error))
            ends[job_id] = results.encode_error(error)
        else:
            ends[job_id] = results.encode_value({**found, "pid": 1, "delivery": 0})
    counters = {"enqueued": 4, "done": 3, "dead": 1}
    empty = dict.fromkeys(("pending", "priority", "delayed", "processing", "leases", "claims"), 0)
    snapshot = Snapshot(
        queue="queue", now_ms=0, dead=1, paused=False, oldest=b"", first_priority=b"", due_at_ms=None,
        counters=counters, **empty,
    )  # fmt: skip
    return Evidence(jobs, ends, letters, frozenset(), snapshot, expected)


def test_a_run_in_which_all_went_well_has_no_problems(evidence: Evidence) -> None:
    assert audit(evidence).problems == []


def test_a_job_that_is_nowhere_is_a_problem(evidence: Evidence) -> None:
    job_id = next(iter(evidence.jobs))
    ends = {other: end for other, end in evidence.ends.items() if other != job_id}
    assert any(job_id in text for text in audit(dataclasses.replace(evidence, ends=ends)).problems)


def test_a_wrong_result_is_a_problem(evidence: Evidence) -> None:
    job_id, path = next(iter(evidence.jobs.items()))
    wrong = {**evidence.expected[path], "sha256": "0" * 64, "pid": 1, "delivery": 0}  # type: ignore[dict-item]
    ends = {**evidence.ends, job_id: results.encode_value(wrong)}
    assert any(path in text for text in audit(dataclasses.replace(evidence, ends=ends)).problems)


def test_a_second_dead_letter_is_a_problem(evidence: Evidence) -> None:
    assert audit(dataclasses.replace(evidence, letters=[*evidence.letters] * 2)).problems


def test_a_job_that_waits_is_a_problem(evidence: Evidence) -> None:
    waiting = dataclasses.replace(evidence.snapshot, pending=1)
    assert audit(dataclasses.replace(evidence, snapshot=waiting)).problems


def test_a_file_that_should_have_failed_and_did_not_is_a_problem(evidence: Evidence) -> None:
    expected = dict.fromkeys(evidence.expected, "FileNotFoundError")
    assert len(audit(dataclasses.replace(evidence, expected=expected)).problems) == 3


def test_a_dead_letter_that_is_missing_strange_or_of_another_is_a_problem(
    evidence: Evidence,
) -> None:
    (letter,) = evidence.letters
    dead = wire.split(letter)
    assert dead is not None
    strange = letter.replace(dead[0].id.encode(), new_id().encode())
    other = letter.replace(b"not-there-1", b"not-there-2")
    early = letter.replace(b'"attempt":3', b'"attempt":2')
    for letters in ([], [strange], [other], [early], [letter, strange], [b"not a job"]):
        assert audit(dataclasses.replace(evidence, letters=letters)).problems, letters


def test_a_job_of_the_killed_consumer_has_to_be_delivered_again(evidence: Evidence) -> None:
    job_id, path = next(iter(evidence.jobs.items()))
    held = dataclasses.replace(evidence, held=frozenset([job_id]))
    assert any(path in text for text in audit(held).problems)
    again = {**evidence.expected[path], "pid": 1, "delivery": 1}  # type: ignore[dict-item]
    ends = {**held.ends, job_id: results.encode_value(again)}
    found = audit(dataclasses.replace(held, ends=ends))
    assert found.problems == [] and found.again == {job_id}


@pytest.mark.parametrize("counter", ["enqueued", "done"])
def test_a_queue_that_counts_otherwise_is_a_problem(evidence: Evidence, counter: str) -> None:
    counters = evidence.snapshot.counters
    wrong = dataclasses.replace(
        evidence.snapshot, counters={**counters, counter: counters[counter] + 1}
    )
    assert audit(dataclasses.replace(evidence, snapshot=wrong)).problems
