"""An application under test, without Redis: its jobs are kept in memory, and run when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from headrace.app import Headrace
from headrace.errors import JobCancelled, JobFailed, ReplyLost, StoreUnavailable
from headrace.job import Job
from headrace.options import Seconds, seconds
from headrace.task import Task
from headrace.testing.drive import Drive
from headrace.testing.memory import Memory, in_turn
from headrace.testing.recorded import Awaited, Recorded, Stage
from headrace.testing.runs import Runner
from headrace.testing.stand_in import Fault, MemoryProducer, StandIn


class Inline:
    """The jobs of an application under test: what was enqueued, and what became of it.

    From now on the application keeps its jobs here, in whatever thread or event loop they are enqueued,
    until ``close``. As a context manager it closes itself.

    Args:
        app: the application.
        state: what its lifespan would yield, with stand-ins for a test: then that is not opened.

    Attributes:
        app: the same.

    Raises:
        InvalidSetting: a module in which the application discovers its tasks cannot be imported.
    """

    def __init__(self, app: Headrace, *, state: Mapping[str, Any] | None = None) -> None:
        app.import_discovered()  # as a consumer does
        self.app = app
        self._runner = Runner(app, state)
        self._turns = threading.RLock()
        self._before = app._producer, app._held  # noqa: SLF001 - the seam for this
        most: int = app._sending["max_pending"]  # noqa: SLF001
        self._memory = Memory(app.tasks, most)
        self._drive = Drive(app.tasks, self._memory, self._runner)
        self._stand_in = StandIn(self._memory, self._run_until, self._arun_until)
        producer = MemoryProducer(app.redis_url.url, self._stand_in, most)
        app._producer, app._held = producer, True  # noqa: SLF001

    def __repr__(self) -> str:
        """Return all jobs and where they are: what a failed assertion shows."""
        jobs = ", ".join(f"{job!r} {job.state}" for job in self.enqueued)
        return f"Inline({jobs or 'no jobs'})"

    # — what was enqueued —

    @property
    def enqueued(self) -> list[Recorded]:
        """All jobs that were accepted, by whomever, in their order; also those that have run since."""
        with self._memory.lock:
            return list(self._memory.jobs)

    @property
    def pending(self) -> list[Recorded]:
        """The jobs that ``run`` would run now, the next one first."""
        return sorted(self._in("pending"), key=in_turn)

    @property
    def delayed(self) -> list[Recorded]:
        """The jobs that wait for an instant to come, the next one first."""
        return sorted(self._in("delayed"), key=lambda job: (job.due_at_ms, job.turn))

    @property
    def done(self) -> list[Recorded]:
        """The jobs that are done."""
        return self._in("done")

    @property
    def dead(self) -> list[Recorded]:
        """The dead letters."""
        return self._in("dead")

    @property
    def cancelled(self) -> list[Recorded]:
        """The jobs that were cancelled."""
        return self._in("cancelled")

    def jobs_of(self, task: Task[Any, Any] | str) -> list[Recorded]:
        """Return the jobs of one task, in the order in which they were accepted."""
        name = task if isinstance(task, str) else task.name
        return [one for one in self.enqueued if one.task == name]

    def job(self, which: Job[Any] | Task[Any, Any] | str) -> Recorded:
        """Return one job.

        Args:
            which: its handle, its id, or the task that it is the only job of.

        Raises:
            AssertionError: there is no such job, or several.
        """
        if isinstance(which, Task):
            jobs = self.jobs_of(which)
            if len(jobs) != 1:
                raise AssertionError(
                    f"{len(jobs)} jobs of {which.name}, not one: {jobs} of {self!r}"
                )
            return jobs[0]
        found = self._memory.find(which if isinstance(which, str) else which.id)
        if found is None:
            raise AssertionError(f"{which!r} was not enqueued in this test: {self!r}")
        return found

    def result(self, which: Job[Any] | Recorded | Task[Any, Any] | str) -> Any:
        """Return what a job's function returned, also when its task keeps no results.

        Args:
            which: as in ``job``.

        Raises:
            AssertionError: it has not run to its end.
            JobFailed: it is dead; the cause is what the task raised.
            JobCancelled: it was cancelled.
        """
        job = which if isinstance(which, Recorded) else self.job(which)
        if job.state == "done":
            return job.value
        if job.state in ("dead", "dropped"):
            said = (
                f"{type(job.error).__name__}: {job.error}" if job.error is not None else job.reason
            )
            raise JobFailed(
                f"{job!r} failed: {said}",
                reason=job.reason,
                error_type=type(job.error).__name__ if job.error is not None else "",
            ) from job.error
        if job.state == "cancelled":
            raise JobCancelled(f"{job!r} was cancelled")
        raise AssertionError(f"{job!r} has no result: it is {job.state}") from job.error

    def clear(self) -> None:
        """Forget all jobs, and the crashes that were to come."""
        with self._memory.lock:
            self._memory.clear()
            self._drive.crashes.clear()

    def _in(self, state: Stage) -> list[Recorded]:
        return [one for one in self.enqueued if one.state == state]

    # — time —

    @property
    def now(self) -> datetime:
        """The instant by the clock of this test, which only the test moves."""
        return datetime.fromtimestamp(self._memory.now_ms / 1000, UTC)

    def advance(self, by: Seconds) -> None:
        """Let time pass: delayed jobs and retries fall due. ``run`` runs them."""
        self._memory.advance(round(seconds("by", by) * 1000))

    # — they run —

    def run(self, within: Seconds = 0, *, raises: bool = True) -> list[Recorded]:
        """Run what is due, and what that enqueues, one after the other, until nothing is due.

        Sync tasks run in this thread, async ones in an event loop of their own.

        Args:
            within: let so much time pass meanwhile, seconds, and run each job when it falls due.
            raises: raise what tasks have raised, when all is done; False leaves it to their retries
                and dead letters. ``Retry`` and ``Reject`` are never raised.

        Returns:
            The jobs that were run, in this order; one that was run twice stands there twice.

        Raises:
            Exception: the first that a task has raised.
            RuntimeError: jobs do not come to an end; or an event loop runs here: use ``arun``.
            LifespanFailed: the application's lifespan cannot be opened.
        """
        __tracebackhide__ = True  # of pytest: what a task raises is shown without our frames
        failures: list[BaseException] = []
        with self._turns:
            self._runner.check_no_loop_runs()
            ran = self._drive.run(self._until_ms(within), failures)
        if raises:
            _raise(failures)
        return ran

    async def arun(self, within: Seconds = 0, *, raises: bool = True) -> list[Recorded]:
        """Run what is due, as ``run`` does: async tasks in this event loop, sync ones in a thread."""
        __tracebackhide__ = True
        failures: list[BaseException] = []
        ran = await self._drive.arun(self._until_ms(within), failures)
        if raises:
            _raise(failures)
        return ran

    def _run_until(self, over: Awaited) -> None:
        """Run what is due, until a job or a workflow is over: somebody waits for it."""
        with self._turns:
            self._runner.check_no_loop_runs()
            self._drive.run(self._memory.now_ms, [], over)

    async def _arun_until(self, over: Awaited) -> None:
        await self._drive.arun(self._memory.now_ms, [], over)

    def _until_ms(self, within: Seconds) -> int:
        return self._memory.now_ms + round(seconds("within", within) * 1000)

    # — what goes wrong —

    def crash(
        self,
        *,
        before: Task[Any, Any] | None = None,
        after: Task[Any, Any] | None = None,
        times: int = 1,
    ) -> None:
        """Lose the consumer of the next jobs of a task: each runs again, charged with a crash.

        Args:
            before: the job is claimed, and its function is not called.
            after: its function is called, and Redis never hears how that ended.
            times: how often; five crashes end a job in the dead letters.
        """
        for point, task in (("before", before), ("after", after)):
            if task is not None:
                self._drive.crashes[point, task.name] += times

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Let Redis be away while the block runs: what asks it gets ``StoreUnavailable``."""
        with self._failing(StoreUnavailable):
            yield

    @contextmanager
    def replies_lost(self) -> Iterator[None]:
        """Let Redis do what it is asked, while the block runs, and each answer be lost: ``ReplyLost``."""
        with self._failing(ReplyLost):
            yield

    @contextmanager
    def _failing(self, fault: Fault) -> Iterator[None]:
        before, self._stand_in.fault = self._stand_in.fault, fault
        try:
            yield
        finally:
            self._stand_in.fault = before

    # — it ends —

    def close(self) -> None:
        """Close the lifespan, and give the application its own producer back."""
        self._runner.close()
        self.app._producer, self.app._held = self._before  # noqa: SLF001 - the seam for this

    async def aclose(self) -> None:
        """Close as ``close`` does, and wait for the lifespan to close in this event loop."""
        await self._runner.aclose()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def run_inline(app: Headrace, *, state: Mapping[str, Any] | None = None) -> Inline:
    """Have an application keep its jobs in memory: the ``with`` and ``async with`` form of ``Inline``.

    Args:
        app: the application.
        state: what its lifespan would yield, with stand-ins for a test: then that is not opened.

    Raises what ``Inline`` raises.
    """
    return Inline(app, state=state)


def _raise(failures: list[BaseException]) -> None:
    __tracebackhide__ = True
    if not failures:
        return
    first, *others = failures
    for other in others:
        first.add_note(f"another job failed, too: {type(other).__name__}: {other}")
    raise first
