"""The runner: calls tasks. Async ones on the event loop, sync ones in threads that are kept.

Threads take work from a SimpleQueue, which is written in C, and hand completions back in batches:
waking the loop for each job would cost more than most jobs. A suspect has a process of its own: its
thread waits for that.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from headrace.clock import monotonic
from headrace.consumer import report
from headrace.consumer.call import call
from headrace.consumer.cell import NoCell
from headrace.consumer.claimed import Claimed
from headrace.logs import current_job

Finished = Callable[[Claimed, Any, BaseException | None], None]


class Runner:
    """Runs claimed jobs.

    Args:
        finished: told on the event loop how each run ended.
        threads: how many sync jobs may run at once.
        in_cell: runs a job in a process of its own, and waits for it.
    """

    def __init__(self, finished: Finished, threads: int, in_cell: Callable[[Claimed], Any]) -> None:
        self._finished = finished
        self._in_cell = in_cell
        self._loop = asyncio.get_running_loop()
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._busy = 0  # sync jobs that were started and have not been handed back
        self._inbox: SimpleQueue[Claimed | None] = SimpleQueue()
        self._outbox: deque[tuple[Claimed, Any, BaseException | None]] = deque()
        self._notified = False
        self._base = contextvars.copy_context()

    def start(self, claimed: Claimed) -> None:
        """Run a job; how it ends is told to ``finished``."""
        task = claimed.task
        assert task is not None
        if task.is_async and not claimed.alone:
            # A context of its own: whoever calls this may itself run in another job's.
            job = self._run_async(claimed)
            claimed.runner = self._loop.create_task(job, context=self._base.copy())
            return
        self._busy += 1
        if self._busy > len(self._threads) < self._most:
            name = f"headrace-task-{len(self._threads)}"
            # Daemon: a task that hangs must not keep a process from ending after its grace period.
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._inbox.put(claimed)

    def cancel(self, claimed: Claimed) -> None:
        """Cancel a job if it is async. One that has not begun yet finds out when it begins."""
        if claimed.runner is not None and claimed.started:
            claimed.runner.cancel()

    def close(self) -> None:
        """Let idle threads end; busy ones end with their job or with the process."""
        for _ in self._threads:
            self._inbox.put(None)

    async def _run_async(self, claimed: Claimed) -> None:
        current_job.set(claimed.context)
        claimed.started = monotonic()
        try:
            value = await call(claimed)
        except BaseException as error:  # also SystemExit: a task does not end the consumer
            self._finished(claimed, None, error)
        else:
            self._finished(claimed, value, None)

    def _work(self) -> None:
        while (claimed := self._inbox.get()) is not None:
            value: Any = None
            error: BaseException | None = None
            try:
                run = self._in_cell if claimed.alone else _call_in_thread
                value = self._base.copy().run(run, claimed)
            except BaseException as raised:
                error = raised
            self._outbox.append((claimed, value, error))
            # Read after the append: the drain resets it before it empties the outbox.
            if not self._notified:
                self._notified = True
                try:
                    self._loop.call_soon_threadsafe(self._drain)
                except RuntimeError:  # the loop is closed: the consumer has left without us
                    return
            del claimed, value, error  # do not keep a job alive while waiting for the next

    def _drain(self) -> None:
        self._notified = False
        while self._outbox:
            self._busy -= 1
            claimed, value, error = self._outbox.popleft()
            if isinstance(error, NoCell):
                report.no_cell(claimed, error)
                claimed.alone = False
                self.start(claimed)
            else:
                self._finished(claimed, value, error)


def _call_in_thread(claimed: Claimed) -> Any:
    current_job.set(claimed.context)
    claimed.started = monotonic()
    return call(claimed)
