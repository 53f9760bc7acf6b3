"""The thread pool: threads that run sync jobs: kept, and woken only as far as it pays.

To wake a thread takes longer than a quick job, and all that are awake compete for Python's one lock.
So while jobs are quick, one thread gets many and runs them in turn. What waits for a tick is taken
by others, and what waits for another is handed back. While jobs are slow, each wakes a thread at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from typing import Any, Final

from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.interrupts import Interrupts, interrupted_at

Finished = Callable[[ClaimedJob, Any, BaseException | None], None]

TICK_S: Final = 0.001
"""How long a job, or its end, may wait behind others at most, while jobs are quick."""

_QUICK_S: Final = 0.0005  # ten times what it takes to wake a thread
_NEW_WEIGHT: Final = 0.1  # of the newest run in the moving average: about the last ten count
_FEW: Final = 0.3  # an interrupted thread makes a quick job look slow: one in ten or so


class ThreadPool:
    """Runs jobs in threads. All methods belong to the event loop.

    Args:
        run: runs one job, in a thread.
        finished: told on the event loop how each run ended.
        returned: gets back the jobs for which no thread has time.
        most: how many threads there may be.
    """

    def __init__(
        self,
        run: Callable[[ClaimedJob], Any],
        finished: Finished,
        returned: Callable[[list[ClaimedJob]], None],
        *,
        most: int,
    ) -> None:
        self._run = run
        self._finished = finished
        self._returned = returned
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[ClaimedJob] = deque()
        self._ended: deque[tuple[ClaimedJob, Any, BaseException | None]] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()  # each wakes one: True to work, False to end
        self._lock = threading.Lock()  # around the numbers of those who are awake:
        self._called = 0  # they wake up, and will look for a job
        self._working = 0
        self._threads = 0
        self._names = count()
        self._interrupts = Interrupts()
        self._lost: list[threading.Thread] = []
        self._slow = 1.0  # the share of slow jobs among the last
        self._told = False
        self._ticks = 0  # since jobs began to wait

    @property
    def quick(self) -> bool:
        """Whether jobs end so soon that more than one may be given to a thread."""
        return self._slow < _FEW

    def start(self, claimed: ClaimedJob) -> None:
        """Run a job as soon as a thread has time for it."""
        self._jobs.append(claimed)
        with self._lock:
            if not self._called + self._working or not self.quick:
                self._wake()
        if not self._ticks:
            self._ticks = 1
            self._loop.call_later(TICK_S, self._tick)

    def interrupt(self, claimed: ClaimedJob) -> None:
        """Raise ``JobInterrupted`` in the thread that runs a job, once; elsewhere it does nothing."""
        self._interrupts.interrupt(claimed)

    def give_up(self, claimed: ClaimedJob) -> BaseException | None:
        """Leave the thread of an interrupted job to itself: another one takes its place.

        Whatever that thread still does counts no more. Gives an exception that says where it is, or
        None when the job has ended meanwhile.
        """
        thread = self._interrupts.give_up(claimed)
        if thread is None:
            return None
        self._lost += [one for one in threading.enumerate() if one.ident == thread]
        with self._lock:
            self._working -= 1
            self._threads -= 1
        return interrupted_at(thread)

    @property
    def lost(self) -> int:
        """How many threads were given up and have not ended since."""
        self._lost = [thread for thread in self._lost if thread.is_alive()]
        return len(self._lost)

    def close(self) -> None:
        """Let idle threads end; busy ones end with their job or with the process."""
        for _ in range(self._threads):
            self._calls.put(False)

    def _wake(self) -> None:
        if self._called + self._working == self._most:
            return
        self._called += 1
        if self._called + self._working > self._threads:
            name = f"headrace-task-{next(self._names)}"
            self._threads += 1
            # Daemon: a task that hangs must not keep a process from ending after its grace period.
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._calls.put(True)

    def _tick(self) -> None:
        """Look after what still waits, and hear what has ended meanwhile."""
        back: list[ClaimedJob] = []
        with self._lock:
            if self._ticks == 1:
                for _ in range(len(self._jobs)):
                    self._wake()
            elif self._called + self._working == self._most:
                while len(self._jobs) > self._called:
                    back.insert(0, self._jobs.pop())
            self._ticks = self._ticks % 2 + 1 if self._jobs else 0
        if self._ticks:
            self._loop.call_later(TICK_S, self._tick)
        if back:
            self._returned(back)
        self._drain()

    def _drain(self) -> None:
        self._told = False
        while self._ended:
            self._finished(*self._ended.popleft())

    # — in a thread —

    def _work(self) -> None:
        me = threading.get_ident()
        while self._calls.get():
            claimed = self._next(called=True)
            while claimed is not None:
                began = monotonic()
                value, error = self._interrupts.attempt(claimed, me, self._run)
                if not self._interrupts.counts(claimed):
                    return  # another thread has taken this one's place
                slow = monotonic() - began > _QUICK_S
                self._slow += _NEW_WEIGHT * (slow - self._slow)
                self._ended.append((claimed, value, error))
                if (slow or not self.quick or not self._jobs) and not self._tell():
                    return
                del claimed, value, error  # do not keep a job alive while waiting for the next
                claimed = self._next()

    def _next(self, *, called: bool = False) -> ClaimedJob | None:
        """Take the next job; without one, note that this thread goes to sleep."""
        with self._lock:  # whoever brings a job looks, after that, who is awake
            self._called -= called
            self._working += called
            if self._jobs:
                return self._jobs.popleft()
            self._working -= 1
            return None

    def _tell(self) -> bool:
        """Let the loop hear what has ended; False if there is no loop any more."""
        # Read after the append: the drain resets it before it empties what has ended.
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # it is closed: the consumer has left without us
                return False
        return True
