"""The isolated runner: the consumer's side, called in a thread that waits.

How the protocol goes: a fork server is spawned, once; it forks a child for each request. The child says
that it has begun, then how it ended; the server says how the child's process ended. To end it, we tell
it why, send SIGTERM, and a moment later SIGKILL.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from headrace.clock import monotonic
from headrace.consumer.claimed import ClaimedJob
from headrace.consumer.outcomes import (
    IsolatedOutcome,
    IsolationUnavailable,
    OutcomePolicy,
    ProcessDied,
)
from headrace.consumer.run import Failure
from headrace.context import is_final
from headrace.errors import JobStopped
from headrace.isolation import caps
from headrace.isolation.child import Begun, ChildRequest, Ended, NotBegun
from headrace.isolation.process import BEGIN_S, LEAVE_S, LOOK_S, Child, ForkServer
from headrace.logs import JsonFormatter, TextFormatter
from headrace.plain import make
from headrace.task import Task


class IsolatedRunner:
    """Runs jobs of one consumer, each in a process of its own: as many at once as threads call it.

    Args:
        policy: what outcomes go by.
    """

    def __init__(self, policy: OutcomePolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()  # around the server: who it is, and what it is asked
        self._server: ForkServer | None = None
        self._closed = False

    def run(self, claimed: ClaimedJob) -> IsolatedOutcome | Failure:
        """Run a job in a process of its own, and wait for how it ends.

        Raises:
            IsolationUnavailable: it was not begun.
            JobStopped: it was told to end, and did.
            ProcessDied: its process ended without an answer.
        """
        timeout_s = claimed.deadline and claimed.deadline - monotonic()
        claimed.deadline, claimed.started = None, monotonic()  # its time begins when it does
        try:
            child = self._start(_request(claimed, self._policy))
            try:
                return _wait_for(child, claimed, timeout_s)
            finally:
                child.end()
        except IsolationUnavailable:
            claimed.deadline = timeout_s and monotonic() + timeout_s
            raise

    def close(self) -> None:
        """Let the fork server end, if there is one, and with it all that runs."""
        with self._lock:
            self._closed = True
            server, self._server = self._server, None
            if server is not None:
                server.close()

    def _start(self, request: ChildRequest) -> Child:
        # The fork server that is there may have left just now, for nobody had come for a while.
        for _ in range(3):
            with self._lock:
                if self._closed:
                    raise JobStopped("shutdown")
                server = self._server = self._server or ForkServer()
                child = server.request(request)
            if child is not None and child.has_started():
                return child
            with self._lock:
                if self._server is server:
                    self._server = None
                    server.close()
        raise IsolationUnavailable("the process that starts others ends at once, again and again")


def _wait_for(
    child: Child, claimed: ClaimedJob, timeout_s: float | None
) -> IsolatedOutcome | Failure:
    assert claimed.context is not None
    begun, told, kill_at = False, None, math.inf
    while True:
        died = child.has_ended()  # asked before it is listened to: what it said last is not missed
        message = child.hear(0.0 if died else LOOK_S)
        if isinstance(message, Ended):
            return _answer(message)
        if isinstance(
            message, NotBegun
        ):  # once it has begun it must not begin again, in the consumer
            raise (
                RuntimeError(f"its run was not judged: {message.why}")
                if begun
                else IsolationUnavailable(message.why)
            )
        if isinstance(message, Begun):
            begun, claimed.deadline = True, timeout_s and monotonic() + timeout_s
        elif died:
            return _of_death(child.death(), claimed, begun=begun)
        elif claimed.context.stop_reason != told:
            told = claimed.context.stop_reason
            assert told is not None
            child.tell(told)
            if is_final(told):
                kill_at = monotonic() + LEAVE_S
        elif monotonic() > kill_at:
            child.kill()
        elif not begun and monotonic() > claimed.started + BEGIN_S:
            raise IsolationUnavailable(f"its process did not begin within {BEGIN_S:g} s")


def _answer(message: Ended) -> IsolatedOutcome:
    if not message.type:
        return IsolatedOutcome(message.outcome, None)
    error = make(message.type, message.text)
    error.add_note(message.traceback)  # for the log
    return IsolatedOutcome(message.outcome, error)


def _of_death(death: ProcessDied, claimed: ClaimedJob, *, begun: bool) -> Failure:
    reason = claimed.context.stop_reason if claimed.context is not None else None
    if is_final(reason):
        stopped = JobStopped(reason)
        if death.stack:
            stopped.add_note(death.stack)  # where it was
        raise stopped
    if not begun:
        raise IsolationUnavailable(f"before it began, {death}")
    over = caps.of_death(claimed, death)
    if over is None:
        raise death
    return over


def _request(claimed: ClaimedJob, policy: OutcomePolicy) -> ChildRequest:
    task = claimed.task
    assert task is not None
    module, path = _address(task)
    app = getattr(task.producer, "__self__", None)
    handlers = [handler.formatter for handler in logging.getLogger().handlers]
    ours = [one for one in handlers if isinstance(one, JsonFormatter | TextFormatter)]
    level = logging.getLevelName(logging.getLogger().level).lower()
    return ChildRequest(
        module,
        path,
        next((name for name, _ in _places(app)), ""),
        url=task.producer().url,
        queue=claimed.k.queue,
        number=claimed.number,
        job=claimed.job,
        consumer=policy.consumer,
        clock_ahead_ms=policy.clock_ahead_ms,
        log_level=level if ours else "",
        log_json=bool(ours) and isinstance(ours[0], JsonFormatter),
    )


def _address(task: Task[Any, Any]) -> tuple[str, str]:
    """Find the module and the name under which a new process finds the task again."""
    home = sys.modules.get(getattr(task.function, "__module__", ""))
    # An object's or a partial's module is that of its class.
    for place in _places(task, home):
        return place
    found: Any = home
    path: str = getattr(task.function, "__qualname__", task.name)
    for name in path.split("."):  # a method's, say
        found = getattr(found, name, None)
    if found is not task or home is None:
        raise IsolationUnavailable(f"a new process would not find {path} as a module's name")
    return home.__name__, path


def _places(wanted: object, first: ModuleType | None = None) -> Iterator[tuple[str, str]]:
    """Find the modules in which something stands, and its name there."""
    for module in [first, *sys.modules.values()] if wanted is not None else ():
        names = (
            [name for name, value in [*vars(module).items()] if value is wanted] if module else []
        )
        if module and names:
            yield module.__name__, names[0]
