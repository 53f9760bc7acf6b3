"""The check at the end of the demo: where is every single job, and is that where it should be? Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace import results, wire
from headrace.demo.census import ATTEMPTS, Counted
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
    """A dead letter, read; what cannot be read of it is left empty, and then does not fit."""

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
        dead: the dead letters, in the order of their paths.
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
    found.dead = sorted(map(_read, evidence.letters), key=lambda letter: letter.path)
    letters: dict[str, list[Letter]] = {}
    for letter in found.dead:
        letters.setdefault(letter.job_id, []).append(letter)
    for job_id, path in evidence.jobs.items():
        own = letters.pop(job_id, [])
        faults = _faults(job_id, path, own, evidence, found)
        found.problems += [f"{path} (job {job_id}): {fault}" for fault in faults]
    for strange in letters:
        found.problems.append(f"a dead letter of a job that nobody enqueued: {strange!r}")
    found.problems += _faults_of_sums(evidence, found)
    return found


def _faults(
    job_id: str, path: str, letters: list[Letter], evidence: Evidence, found: Audit
) -> Iterator[str]:
    """Find what is wrong with one job; note how it ended."""
    end = evidence.ends.get(job_id)
    if end is None:
        yield "it is dead, and nobody was told" if letters else "it has not ended, and is nowhere"
        return
    if len(letters) > 1:
        yield f"it has {len(letters)} dead letters"
    expected = evidence.expected.get(path)
    try:
        value: Counted = results.value_of(job_id, end)
    except JobFailed as error:
        yield from _faults_of_dead(path, error, letters, expected)
        return
    found.done[path] = value
    found.by_pid[value["pid"]] += 1
    if value["delivery"]:
        found.again.add(job_id)
    elif job_id in evidence.held:
        yield "the killed consumer had it, and it was not delivered again"
    if letters:
        yield "it is done, and in the dead letters too"
    yield from _faults_of_counts(value, expected)


def _faults_of_dead(
    path: str, error: JobFailed, letters: list[Letter], expected: Finding | None
) -> Iterator[str]:
    if error.error_type != expected:
        yield f"it is dead, which was not expected: {error}"
    if not letters:
        yield "it is dead, and its dead letter is missing"
        return
    letter = letters[0]
    if letter.path != path or letter.error.type != error.error_type:
        yield f"its dead letter is of another: {letter.error.type} on {letter.path!r}"
    if letter.attempts != ATTEMPTS:
        yield f"it died after {letter.attempts} attempts, not {ATTEMPTS}"


def _faults_of_counts(value: Counted, expected: Finding | None) -> Iterator[str]:
    counts = {"lines": value["lines"], "tokens": value["tokens"], "sha256": value["sha256"]}
    if counts != expected:
        yield f"it gave {counts}; the plain loop gives {expected}. Did the file change meanwhile?"


def _faults_of_sums(evidence: Evidence, found: Audit) -> Iterator[str]:
    """Find what is wrong with the queue's own counts."""
    snapshot = evidence.snapshot
    count = snapshot.counters.get
    for place in ("waiting", "processing", "delayed", "foreign"):
        if left := getattr(snapshot, place):
            yield f"the queue is not empty: {place} {left:,}"
    for what, said, seen in (
        ("accepted", count("enqueued", 0), len(evidence.jobs)),
        ("done", count("done", 0), len(found.done)),
        ("dead", snapshot.dead, len(found.dead)),
        ("done or dead", count("done", 0) + snapshot.dead, len(evidence.jobs)),
    ):
        if said != seen:
            yield f"the queue counts {said:,} jobs {what}; there are {seen:,}"


def _read(raw: bytes) -> Letter:
    parts, path = wire.split(raw), ""
    try:
        args = wire.read_body(wire.redriven(raw)).args  # the job as it would go back
        path = str(args[0])
    except Exception:  # then it holds no job of ours
        parts = None
    job_id, attempts = (parts[0].id, parts[0].attempt) if parts else ("", 0)
    return Letter(job_id, path, attempts, wire.read_error(raw) or wire.Error(reason="malformed"))
