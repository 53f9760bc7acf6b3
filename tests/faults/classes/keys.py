"""Unique keys: jobs that have one run one after the other, whoever dies, and a key goes with its job."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from headrace import Job
from headrace.keys import keys_of
from headrace.options import JobOptions
from tests.faults import history as records
from tests.faults import lab_app
from tests.faults.bench import Bench
from tests.faults.classes.registry import fault_class
from tests.faults.evidence import Verdict, Violation
from tests.faults.history import History, Run, canary
from tests.faults.roles import QUEUE
from tests.support import invariants

_KEYS = 10  # of each mode: few, so that there is nearly always an earlier job
_BATCH = 20
_MODES: dict[str, JobOptions] = {
    "keep": {"if_exists": "keep"},
    "replace": {"if_exists": "replace", "delay": 0.1},
}


@dataclass
class _Asked:
    """What was enqueued.

    Attributes:
        accepted: the numbers of jobs that were enqueued, by key, in order, each with its handle.
        kept: the numbers of those that gave way to an earlier job.
    """

    accepted: defaultdict[str, list[tuple[int, Job[None]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    kept: set[int] = field(default_factory=set)


@fault_class("unique keys, consumers SIGKILL", cost_s=60, short=0.1)
def unique_keys(bench: Bench) -> Verdict:
    """Kill consumers of jobs with keys: no two of a key run at once, each accepted one runs or is replaced."""
    bench.serve_redis()
    bench.maintainer()
    for _ in range(3):
        bench.consumer()
    lab_app.app.use(bench.url)
    asked = _Asked()
    for turn in range(max(20, round(400 * bench.scale))):
        _ask(bench, asked, _BATCH * turn)
        if turn % 4 == 0:
            bench.kill(bench.any_consumer())
            bench.consumer()
        bench.pause(0.0, 0.2)
    drained = bench.drained()
    replaced = {
        number
        for jobs in asked.accepted.values()
        for number, job in jobs
        if job.status() == "cancelled"
    }
    lab_app.app.close()
    bench._end_processes()
    verdict = Verdict(_wrong(records.read(bench.history), asked, replaced))
    verdict.jobs = sum(map(len, asked.accepted.values()))
    if not drained:
        verdict.violations.append(Violation("I11", f"{bench.waiting()} jobs have not ended"))
    with bench.redis() as redis:
        invariants.check(redis)
        if left := [*redis.scan_iter(f"{keys_of(QUEUE).unique('')}*")]:
            verdict.violations.append(Violation("I12", f"keys of jobs that have ended: {left}"))
    bench.closing.close()
    return verdict


def _ask(bench: Bench, asked: _Asked, first: int) -> None:
    keys, calls = [], []
    for number in range(first, first + _BATCH):
        mode = bench.rng.choice([*_MODES])
        keys.append(f"{mode}-{bench.rng.randrange(_KEYS)}")
        options: JobOptions = {**_MODES[mode], "key": keys[-1]}
        calls.append(lab_app.app.call_with("nap", (number, canary(number), 0.03), {}, options))
    jobs = lab_app.app.enqueue_many(calls)
    for number, key, call, job in zip(range(first, first + _BATCH), keys, calls, jobs, strict=True):
        if job.id == call.job_id:
            asked.accepted[key].append((number, job))
        else:
            asked.kept.add(number)


def _wrong(history: History, asked: _Asked, replaced: set[int]) -> list[Violation]:
    runs = defaultdict[int, list[Run]](list)
    for run in history.runs:
        runs[run.number].append(run)
    found = [
        Violation("I1", f"job {number} runs although an earlier one had its key")
        for number in asked.kept & runs.keys()
    ]
    for key, jobs in asked.accepted.items():
        done = [n for n, _ in jobs if any(run.how == "ok" for run in runs[n])]
        lost = {n for n, _ in jobs} - replaced - {*done}
        found += [Violation("I1", f"job {number} of {key} is nowhere") for number in lost]
        if key.startswith("keep"):
            found += _together(key, [runs[number] for number, _ in jobs])
    return found


def _together(key: str, jobs: list[list[Run]]) -> list[Violation]:
    """Jobs that keep their key until they end begin after the one before has ended."""
    found: list[Violation] = []
    ended_at = 0.0
    for runs in filter(None, jobs):
        if min(run.started_at for run in runs) < ended_at:
            found.append(Violation("I9", f"{runs[0].number} of {key} began before the last ended"))
        ended_at = max(run.ended_at or run.started_at for run in runs)
    return found
