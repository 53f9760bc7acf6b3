"""Telling: how a consumer tells an application of events, without waiting for it.

Of how a run has ended it is told when Redis knows. If the consumer dies before, the job runs again, and its
next end is told; if it dies right after, nobody is told: counters in Redis count those, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Final
from weakref import WeakKeyDictionary

from headrace.context import Context
from headrace.handoff import FollowUp, Member
from headrace.hooks.bridge import awaiting, wait_on
from headrace.hooks.events import Event, EventName, Listener, Listeners

log: logging.Logger = logging.getLogger("headrace.consumer")

MOST: Final = 10_000
"""So many events may wait; what is more, because listeners are slow, is not told."""

LISTEN_S: Final = 30.0
"""How long an async listener may take for one event."""

CLOSE_S: Final = 5.0
"""How long a consumer that ends waits for listeners."""

_EVENTS: Final[Mapping[str, tuple[EventName, ...]]] = {
    "done": ("succeeded",),
    "retry": ("failed", "retried"),
    "dead": ("failed", "dead"),
    "drop": ("failed", "dead"),
}


class ConsumerHooks:
    """What hooks need of a consumer: the way to its event loop, and a thread that tells of events.

    Made in the context of which its jobs have copies. Belongs to the event loop, but for ``tell``.

    Args:
        lend: lets so many more jobs run than there are slots, for so many take none.
        tasks: the tasks that are known here.

    Attributes:
        lend: the same.
        context: in which what belongs to no single job runs: a copy of it.
    """

    def __init__(self, lend: Callable[[int], None], tasks: Mapping[str, Any]) -> None:
        self.lend: Callable[[int], None] = lend
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._decided: WeakKeyDictionary[object, list[Event]] = WeakKeyDictionary()
        self._waiting: SimpleQueue[tuple[Event, Listener] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = asyncio.Event()
        self._untold = 0
        awaiting.set(partial(wait_on, self._loop))
        consumer_hooks.set(self)
        self.context: contextvars.Context = copy_context()

    def decide(
        self, job: object, context: Context, verb: str, error: BaseException | None, **more: float
    ) -> None:
        """Note how a run has ended, until Redis knows.

        Args:
            job: stands for the job, as long as it is there.
            context: of the run.
            verb: what becomes of the job.
            error: a copy of what was raised.
            more: ``took_s``, ``again_in_s``.
        """
        self._decided[job] = [
            _event(name, context, error=error, **more) for name in _EVENTS.get(verb, ())
        ]

    def known(self, job: object, listeners: Listeners) -> None:
        """Tell how a run has ended: Redis knows."""
        for event in self._decided.pop(job, ()):
            self.tell(event, listeners.get(event.name, ()))

    def handed_on(self, jobs: Iterable[FollowUp]) -> None:
        """Tell that jobs are enqueued, or will be in a workflow, that another one has handed on: Redis knows."""
        for one in jobs:
            # Of one with a key nobody has said whether that was free.
            own = () if one.key else (Member(one.job_id, one.queue, one.told),)
            for job_id, queue, task in one.members or own:
                if task in self._tasks:
                    listeners = self._tasks[task].listeners.get("enqueued", ())
                    self.tell(Event("enqueued", job_id, queue, task), listeners)

    def tell(self, event: Event, listeners: Sequence[Listener]) -> None:
        """Have listeners told, some time soon. Safe from any thread."""
        for listener in listeners:
            if self._waiting.qsize() >= MOST:
                self._untold += 1
                if self._untold % MOST == 1:
                    log.error("listeners are slow: %d events are not told", self._untold)
                return
            self._waiting.put((event, listener))
            with self._lock:
                if self._thread is None:
                    # Not in the context of the job that happens to be the first.
                    work, name = partial(self.context.run, self._work), "headrace-events"
                    self._thread = threading.Thread(target=work, name=name, daemon=True)
                    self._thread.start()

    async def close(self) -> None:
        """Wait until all is told, but not for long."""
        if self._thread is None:
            return
        self._waiting.put(None)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._closed.wait()
        except TimeoutError:
            left = self._waiting.qsize()
            log.error("listeners do not end within %g s: %d events are not told", CLOSE_S, left)

    # — in its thread —

    def _work(self) -> None:
        while (told := self._waiting.get()) is not None:
            call(*told, self._await)
            del told
        with suppress(RuntimeError):  # the loop is closed: the consumer has left without us
            self._loop.call_soon_threadsafe(self._closed.set)

    def _await(self, listening: Any) -> None:
        wait_on(self._loop, asyncio.wait_for(listening, LISTEN_S))


consumer_hooks: ContextVar[ConsumerHooks | None] = ContextVar("consumer_hooks", default=None)
"""Those of the consumer that runs here; None where a job runs without one."""


def call(event: Event, listener: Listener, await_: Callable[[Any], Any]) -> None:
    """Call a listener; what goes wrong is written into the log."""
    try:
        heard = listener(event)
        if inspect.isawaitable(heard):
            await_(heard)
    except BaseException:  # also SystemExit: a listener does not end the consumer
        log.exception("a listener of %r failed, job %s", event.name, event.job_id)


def tell_started(context: Context, listeners: Listeners) -> None:
    """Tell that a run begins."""
    started = listeners.get("started")
    if not started:
        return
    event, here = _event("started", context), consumer_hooks.get()
    if here is not None:
        here.tell(event, started)
        return

    def work() -> None:
        for listener in started:
            call(event, listener, asyncio.run)

    # Of a job that runs alone. It waits, for its process ends with it; in a thread, for it may be on a loop.
    thread = threading.Thread(target=copy_context().run, args=(work,))
    thread.start()
    thread.join()


def _event(name: EventName, context: Context, **more: Any) -> Event:
    about = (context.job_id, context.queue, context.task, context.attempt)
    return Event(name, *about, **more)
