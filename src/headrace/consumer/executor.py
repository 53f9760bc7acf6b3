"""The executor: calls tasks. Async ones on the event loop, sync ones in threads that are kept.

A suspect has a process of its own, and so has a job whose task asks for one: its thread waits for that.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any, Final

from headrace.clock import monotonic
from headrace.consumer import report
from headrace.consumer.aside import Aside
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import Isolation, IsolationUnavailable
from headrace.consumer.run import End, Later, failure, invoke, is_awaitable, success
from headrace.consumer.thread_pool import Finished, ThreadPool
from headrace.context import current_job
from headrace.plain import is_plain, is_plain_error

INTERRUPT_AFTER_S: Final = 1.0
"""A sync job that was told to end has so long to look at its context, and to end in its own way."""

GIVE_UP_AFTER_S: Final = 5.0
"""After so long its thread is given up: it is in a call of C code, or does not let itself be ended."""


class Executor:
    """Runs claimed jobs.

    Args:
        finished: told on the event loop how each run ended.
        returned: gets back the jobs that it could not begin.
        threads: how many sync jobs may run at once.
        isolation: runs suspects, and the jobs of tasks that ask for it.
    """

    def __init__(
        self,
        finished: Finished,
        returned: Callable[[list[ClaimedJob]], None],
        threads: int,
        isolation: Isolation,
    ) -> None:
        self._finished = finished
        self._isolation = isolation
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPool(self._run_sync, self._hear_sync, returned, most=threads)
        self._alone = ThreadPool(self._run_alone, self._hear, returned, most=threads)
        self._base = contextvars.copy_context()
        self._aside = Aside()

    def start(self, claimed: ClaimedJob) -> None:
        """Run a job; how it ends is told to ``finished``, and may be before this returns."""
        task = claimed.task
        assert task is not None
        if task.is_async and not claimed.alone:
            self._start_async(claimed)
        else:
            (self._alone if claimed.alone else self._threads).start(claimed)

    def cancel(self, claimed: ClaimedJob) -> None:
        """Cancel a job if it is async. One that has not begun yet finds out when it begins."""
        if claimed.async_run is not None and claimed.started:
            claimed.async_run.cancel()

    def insist(self, claimed: ClaimedJob, now: float) -> BaseException | None:
        """End a sync job that was told to end, and goes on: interrupt it, then give its thread up.

        Gives the exception with which its run ends when the thread has been given up.
        """
        if claimed.async_run is not None or claimed.alone or claimed.context is None:
            return None  # it is cancelled; or its process is ended
        claimed.stopped_at = claimed.stopped_at or now
        if now - claimed.stopped_at >= INTERRUPT_AFTER_S:
            self._threads.interrupt(claimed)
        late = now - claimed.stopped_at >= GIVE_UP_AFTER_S
        # While Redis is silent the job may still be ours, and end well.
        in_doubt = claimed.context.stop_reason == "lost" and claimed.phase == "running"
        error = self._threads.give_up(claimed) if late and not in_doubt else None
        if error is not None:
            report.given_up(claimed, self.lost_threads)
        return error

    @property
    def lost_threads(self) -> int:
        """How many threads were given up and have not ended since."""
        return self._threads.lost

    def close(self) -> None:
        """Let idle threads end, and all processes; busy threads end with their job or with this process."""
        self._threads.close()
        self._alone.close()
        self._isolation.close()

    def _start_async(self, claimed: ClaimedJob, later: Later | None = None) -> None:
        # A context of its own: whoever calls this may itself run in another job's.
        job, context = self._run_async(claimed, later), self._base.copy()
        if sys.version_info >= (3, 12):  # here and now, up to where it first waits
            claimed.async_run = asyncio.Task(
                job, loop=self._loop, context=context, eager_start=True
            )
        else:
            claimed.async_run = self._loop.create_task(job, context=context)

    async def _run_async(self, claimed: ClaimedJob, later: Later | None = None) -> None:
        current_job.set(claimed.context)
        if later is None:
            claimed.started = monotonic()
        end: End
        try:
            value = invoke(claimed) if later is None else later.begin(claimed)
            while is_awaitable(value):
                value = await value
            plain = not (claimed.result_ttl_ms or claimed.wanted) or is_plain(value)
            end = success(claimed, value) if plain else await self._aside.success(claimed, value)
        except BaseException as error:  # also SystemExit: a task does not end the consumer
            plain = is_plain_error(error)
            end = failure(claimed, error) if plain else await self._aside.failure(claimed, error)
        self._finished(claimed, end, None)
        # A failure's traceback leads to this frame: a circle, which the collector would have to find.
        del end

    @property
    def quick(self) -> bool:
        """Whether sync jobs run in turn in one thread, for each takes no time worth another one."""
        return self._threads.quick

    def _run_sync(self, claimed: ClaimedJob) -> Any:
        return self._base.copy().run(_call_in_thread, claimed)

    def _run_alone(self, claimed: ClaimedJob) -> Any:
        return self._base.copy().run(self._isolation.run, claimed)

    def _hear_sync(self, claimed: ClaimedJob, value: Any, error: BaseException | None) -> None:
        if isinstance(value, Later):
            self._start_async(claimed, value)
        else:
            self._finished(claimed, value, error)

    def _hear(self, claimed: ClaimedJob, value: Any, error: BaseException | None) -> None:
        if isinstance(error, IsolationUnavailable) and not claimed.isolated:
            report.not_isolated(claimed, error)
            claimed.alone = False
            self.start(claimed)
        else:
            self._finished(claimed, value, error)


def _call_in_thread(claimed: ClaimedJob) -> End | Later:
    current_job.set(claimed.context)
    claimed.started = monotonic()
    try:
        value = invoke(claimed)
        return Later(value) if is_awaitable(value) else success(claimed, value)
    except BaseException as error:  # also SystemExit: a task does not end the consumer
        return failure(claimed, error)
