"""Takes the jobs of a test from their claim to their outcome: what a consumer does, with a job at a time.

Its steps are the consumer's own: ``claimed.read``, ``run.invoke`` (in ``runs``), ``outcomes.of_run``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import Any, Final

from headrace import results
from headrace.consumer import outcomes, report
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.outcomes import OutcomePolicy
from headrace.consumer.run import Failure
from headrace.errors import Reject, ResultError, Retry
from headrace.operations import Outcome
from headrace.store.sync import complete
from headrace.task import Task
from headrace.testing.listening import ListenersHere
from headrace.testing.memory import Memory
from headrace.testing.recorded import Awaited, Recorded
from headrace.testing.runs import Crash, Run, Runner, stop

MOST_RUNS: Final = 1_000
"""Runs at one instant, beyond those of the jobs: soon reached by a task that enqueues itself."""

_UNKNOWN_TASK_TTL_MS: Final = 86_400_000  # as a consumer's

_Jobs = Generator[ClaimedJob, Run, list[Recorded]]


class Drive:
    """Runs what is due.

    Attributes:
        crashes: how many consumers are to be lost, by point ("before" or "after" a run) and task.
    """

    def __init__(self, tasks: Mapping[str, Task[Any, Any]], memory: Memory, runner: Runner) -> None:
        self.crashes: Counter[tuple[str, str]] = Counter()
        self._tasks = tasks
        self._memory = memory
        self._runner = runner
        self._claims = 0
        self._hooks = ListenersHere(tasks)

    def run(
        self, until_ms: int, failures: list[BaseException], enough: Awaited | None = None
    ) -> list[Recorded]:
        """Run what is due until an instant, and what that enqueues, one job after the other.

        Args:
            until_ms: the instant, by the test's clock.
            failures: gets what tasks have raised.
            enough: stop when this is over.

        Raises:
            RuntimeError: jobs do not come to an end.
        """

        async def here(claimed: ClaimedJob) -> Run:
            return self._runner.run(claimed)

        return complete(self._through(self._jobs(until_ms, failures, enough), here))

    async def arun(
        self, until_ms: int, failures: list[BaseException], enough: Awaited | None = None
    ) -> list[Recorded]:
        """Run what is due, as ``run`` does, in this event loop."""
        return await self._through(self._jobs(until_ms, failures, enough), self._runner.arun)

    async def _through(
        self, jobs: _Jobs, run: Callable[[ClaimedJob], Awaitable[Run]]
    ) -> list[Recorded]:
        try:
            claimed = next(jobs)
            while True:
                try:
                    ended = await run(claimed)
                except BaseException as error:
                    claimed = jobs.throw(error)
                else:
                    claimed = jobs.send(ended)
        except StopIteration as end:
            ran: list[Recorded] = end.value
            return ran

    def _jobs(self, until_ms: int, failures: list[BaseException], enough: Awaited | None) -> _Jobs:
        """Claim one job after the other, as a flow: it gives the job, and is sent how it ran."""
        ran: list[Recorded] = []
        at_ms = count = most = 0
        while enough is None or not enough.over:
            job = self._memory.take(until_ms)
            if job is None:
                break
            if self._memory.now_ms != at_ms:
                at_ms, count = self._memory.now_ms, 0
                most = len(self._memory.jobs) + MOST_RUNS
            count += 1
            if count > most:
                self._memory.settle(job, Outcome(job.id, 0, "release"))
                raise RuntimeError(
                    f"{count:,} jobs have run at one instant, and there are more, as {job!r}: does a "
                    "task enqueue itself, or is it retried, without a delay?"
                )
            yield from self._one(job, ran, failures)
        if enough is None:
            self._memory.now_ms = max(self._memory.now_ms, until_ms)
        return ran

    def _one(
        self, job: Recorded, ran: list[Recorded], failures: list[BaseException]
    ) -> Generator[ClaimedJob, Run, None]:
        self._claims += 1
        claimed = read(
            job.job,
            job.k,
            self._claims,
            tasks=self._tasks,
            leased_until=float("inf"),
            moved=False,
        )
        self._memory.adopted(job, claimed.job)
        if claimed.unrunnable is not None:
            outcome = outcomes.of_unrunnable(claimed, self._policy())
            report.unrunnable(claimed, outcome)
            self._settle(claimed, job, outcome)
            return
        ran.append(job)
        if self._is_lost("before", job):
            self._memory.crash(job)
            return
        job.stop, job.runs = partial(stop, claimed), job.runs + 1
        try:
            run = yield claimed
        except Crash:
            self._memory.crash(job)
            return
        except BaseException:
            self._memory.settle(job, Outcome(claimed.head.id, claimed.number, "release"))
            raise
        finally:
            job.stop = None
        if self._is_lost("after", job):
            self._memory.crash(job)
        else:
            self._judge(claimed, job, run, failures)

    def _judge(
        self, claimed: ClaimedJob, job: Recorded, run: Run, failures: list[BaseException]
    ) -> None:
        error = run.end.error if isinstance(run.end, Failure) else None
        try:
            outcome = outcomes.of_run(claimed, run.end, self._policy())
        except Exception as problem:  # as a consumer's dispatcher does
            outcome, error = outcomes.unjudged(claimed, problem, self._policy()), problem
        report.ended(claimed, outcome, error, self._hooks)
        job.error = run.error
        if outcome.verb == "done":
            job.value = _told(claimed, run)
        self._settle(claimed, job, outcome)
        meant = isinstance(run.error, Retry | Reject) or job.state == "cancelled"
        if run.error is not None and not meant:
            failures.append(run.error)

    def _settle(self, claimed: ClaimedJob, job: Recorded, outcome: Outcome) -> None:
        self._memory.settle(job, outcome)
        claimed.outcome = outcome
        report.settled([(claimed, outcome)], (), self._hooks)

    def _policy(self) -> OutcomePolicy:
        return OutcomePolicy(
            "testing",
            _UNKNOWN_TASK_TTL_MS,
            clock_ahead_ms=self._memory.ahead_ms,
            # No jitter: a retry waits for as long as it may, so that a test can tell when it is due.
            uniform=lambda: 1.0,
        )

    def _is_lost(self, point: str, job: Recorded) -> bool:
        left = self.crashes[point, job.task]
        self.crashes[point, job.task] = max(0, left - 1)
        return left > 0


def _told(claimed: ClaimedJob, run: Run) -> Any:
    """Return what somebody who waits would get; what was returned, when nobody can wait."""
    if not run.end or claimed.task is None or isinstance(run.end, Failure):
        return run.value
    try:
        value = results.value_of(claimed.head.id, run.end)
        return value if claimed.task.decode_result is None else claimed.task.decode_result(value)
    except ResultError:  # it cannot be told: job.result() says why
        return run.value
