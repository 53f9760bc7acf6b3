"""The demo, whole: `headrace demo` on real files, with a consumer killed midway; and the check that decides."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from headrace import results, wire
from headrace.demo.audit import Evidence, audit
from headrace.demo.inventory import plain_loop, take_inventory
from headrace.ids import new_id
from headrace.operations import Snapshot
from tests.support.processes import ROOT, clean_environment

FILES = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with real files of Python's own library."""
    folder = tmp_path_factory.mktemp("files")
    library = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(library.glob("*.py"))[:FILES]:
        shutil.copy(file, folder)
    return folder


def demo(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "demo", *args],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=55, check=False,
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


def test_a_person_is_told_what_happens_and_how_it_ended(folder: Path) -> None:
    ended = demo("--files", str(folder), "--no-kill", "--consumers", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (
        f"Every job is accounted for: {FILES + 5} accepted = {FILES} done + 5 dead." in ended.stdout
    )
    url = next(word for word in ended.stdout.split() if word.startswith("redis://"))
    with socket.socket() as probe:
        address = urlsplit(url)
        assert probe.connect_ex((address.hostname, address.port)) != 0, "its server still listens"


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
