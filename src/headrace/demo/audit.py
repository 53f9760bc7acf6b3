"""The check at the end of the demo: where is every single job, and is that where it should be? Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace import results, wire
from headrace.demo.census import ATTEMPTS, TASK, Counted
from headrace.demo.inventory import Finding
from headrace.errors import JobFailed
from headrace.operations import Snapshot


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of the jobs.

    Attributes:
        jobs: the path of each job that was accepted, by id.
        ends: how each job ended, encoded, by id.
        letters: the dead letters.
        held: ids of the jobs that were in the hands of the consumer that was killed.
        snapshot: the queue afterwards.
        expected: what the plain loop found, by path.
    """

    jobs: Mapping[str, str]
    ends: Mapping[str, bytes]
    letters: Sequence[bytes]
    held: frozenset[str]
    snapshot: Snapshot
    expected: Mapping[str, Finding]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, read."""

    job_id: str
    path: str
    attempts: int
    error: wire.Error


@dataclass(slots=True)
class Audit:
    """What the check found.

    Attributes:
        problems: what is not as it should be; empty when every job is accounted for.
        done: what the done jobs returned, by path.
        dead: the dead letters.
        again: ids of the done jobs that were delivered more than once.
        by_pid: how many done jobs each process ran.
    """

    problems: list[str] = field(default_factory=list)
    done: dict[str, Counted] = field(default_factory=dict)
    dead: list[Letter] = field(default_factory=list)
    again: set[str] = field(default_factory=set)
    by_pid: Counter[int] = field(default_factory=Counter)


def audit(evidence: Evidence) -> Audit:
    """Check that each accepted job is done, with the right result, or dead for the right reason."""
    found = Audit()
    letters: dict[str, list[Letter]] = {}
    for raw in evidence.letters:
        letter = _read(raw)
        letters.setdefault(letter.job_id, []).append(letter)
        found.dead.append(letter)
    for job_id, path in evidence.jobs.items():
        end = evidence.ends.get(job_id)
        found.problems += _faults_of(job_id, path, end, letters.pop(job_id, []), evidence, found)
    for strange in letters.values():
        found.problems.append(f"a dead letter of a job that nobody enqueued: {strange[0].job_id}")
    found.problems += _faults_of_sums(evidence, found)
    return found


def _faults_of(
    job_id: str,
    path: str,
    end: bytes | None,
    letters: list[Letter],
    evidence: Evidence,
    found: Audit,
) -> Iterator[str]:
    """Find what is wrong with one job; note its end."""
    expected, who = evidence.expected.get(path), f"job {job_id} ({path})"
    if end is None:
        yield f"{who} has not ended: it is nowhere" if not letters else f"{who} is dead untold"
        return
    if len(letters) > 1:
        yield f"{who} has {len(letters)} dead letters"
    try:
        value: Counted = results.value_of(job_id, end)
    except JobFailed as error:
        if not letters:
            yield f"{who} is dead, and its dead letter is missing: {error}"
        elif error.error_type != expected:
            yield f"{who} is dead: {error}"
        elif letters[0].attempts != ATTEMPTS:
            yield f"{who} died after {letters[0].attempts} attempts, not {ATTEMPTS}"
        return
    found.done[path] = value
    found.by_pid[value["pid"]] += 1
    if value["delivery"]:
        found.again.add(job_id)
    elif job_id in evidence.held:
        yield f"{who} was in the hands of the killed consumer, and was not delivered again"
    if letters:
        yield f"{who} is done, and in the dead letters too"
    counts = {name: value[name] for name in ("lines", "tokens", "sha256")}  # type: ignore[literal-required]
    if counts != expected:
        yield f"{who} gave {counts}; the plain loop found {expected}"


def _faults_of_sums(evidence: Evidence, found: Audit) -> Iterator[str]:
    """Find what is wrong with the queue's own counts."""
    snapshot = evidence.snapshot
    count = snapshot.counters.get
    for place in ("waiting", "processing", "delayed", "foreign"):
        if left := getattr(snapshot, place):
            yield f"the queue is not empty: {place} {left}"
    for what, said, seen in (
        ("accepted", count("enqueued", 0), len(evidence.jobs)),
        ("done", count("done", 0), len(found.done)),
        ("dead", snapshot.dead, len(found.dead)),
        ("done + dead", count("done", 0) + snapshot.dead, len(evidence.jobs)),
    ):
        if said != seen:
            yield f"the queue counts {said} jobs {what}; there are {seen}"


def _read(raw: bytes) -> Letter:
    """Read a dead letter; what cannot be read of it is left empty, and then does not match."""
    parts, error = wire.split(raw), wire.read_error(raw)
    args: list[Any] = []
    try:
        body = wire.read_body(raw)
        args = body.args if body.task == TASK else []
    except Exception:
        parts = None
    job_id, attempts = (parts[0].id, parts[0].attempt) if parts else ("", 0)
    path = str(args[0]) if args else ""
    return Letter(job_id, path, attempts, error or wire.Error(reason="malformed"))
