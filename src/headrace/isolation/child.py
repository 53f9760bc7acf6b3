"""The child: one job of one task, run and judged in this process, and told to the consumer.

It begins as a fork of a process that knows nothing of the consumer: what it needs comes as a
``ChildRequest``, and what it gives goes as messages over a pipe.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NoReturn

from headrace import logs
from headrace.app import Headrace
from headrace.consumer import outcomes
from headrace.consumer.claimed import ClaimedJob, read
from headrace.consumer.outcomes import OutcomePolicy
from headrace.consumer.run import End, Failure, invoke, is_awaitable, success
from headrace.context import current_job
from headrace.hooks import awaiting
from headrace.isolation import caps
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.lifespan import held_open
from headrace.operations import Outcome
from headrace.plain import name_of, plain_copy, traceback_of
from headrace.reports import Reporter
from headrace.task import Task

Run = Callable[[Coroutine[Any, Any, End]], End]

END_OF_STACK: Final = b"\0"
"""Stands behind each stack that is written while the job runs, as no text does: who is killed may be in the midst."""

_STACK_EVERY_S: Final = 0.5  # for a SIGKILL leaves no message: the last of these has to do


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """What a child has to know.

    Attributes:
        module: where its task stands …
        path: … and under which name.
        home: the module of its application, which may be another; "" if unknown.
        url: where Redis is, for jobs that the task enqueues.
        queue: the job's queue.
        number: its claim number.
        job: its bytes.
        consumer: the consumer's name.
        clock_ahead_ms: Redis' clock against this machine's.
        log_level: how logs are written, when the consumer uses ours; "" it does not.
        log_json: for machines instead of people.
    """

    module: str
    path: str
    home: str
    url: str = field(repr=False)  # with user and password
    queue: str
    number: int
    job: bytes
    consumer: str
    clock_ahead_ms: int
    log_level: str
    log_json: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """The task was found, and is called now."""


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The task was not found, or could not be imported; or something of ours failed: why."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: the outcome, and the type, text and traceback of what was raised, or ""."""

    outcome: Outcome
    type: str
    text: str
    traceback: str


def main(request: ChildRequest, messages: Connection, stacks: Connection) -> NoReturn:
    """Run the job of a request, and end this process."""
    os.setpgid(0, 0)
    faulthandler.enable(stacks.fileno())
    threading.Thread(target=_watch, args=(stacks,), name="headrace-parent", daemon=True).start()
    if request.log_level:
        logs.configure(request.log_level, json=request.log_json)
    try:
        _run(request, messages)
    except BaseException as problem:  # what is left to do here is to say so
        messages.send(_not_found(problem))
    logging.shutdown()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(0)  # and not back into the fork server that this is a copy of


def _run(request: ChildRequest, messages: Connection) -> None:
    with ExitStack() as stack:
        try:
            task, app = _find(request)
            claimed = _claimed(request, task)
            run = stack.enter_context(held_open(app))
            stack.enter_context(_reporting(request, claimed))
        except BaseException as problem:  # also SystemExit, of an application that is imported
            messages.send(_not_found(problem))
            return
        try:
            end = _call(claimed, messages, run)
        except BaseException as raised:  # also SystemExit: a task does not end its process
            end = caps.failed(claimed, raised)
        policy = OutcomePolicy(request.consumer, 0, clock_ahead_ms=request.clock_ahead_ms)
        # Before the lifespan closes: the job is over, whatever becomes of that.
        messages.send(_ended(outcomes.of_run(claimed, end, policy), end))


@contextmanager
def _reporting(request: ChildRequest, claimed: ClaimedJob) -> Iterator[None]:
    """Let the job report what it does, as its consumer, whose claim it is."""
    label = f"{CONNECTION_PREFIX}{request.consumer}"
    # No thread is interrupted here: each may begin the reporter's.
    reporter = Reporter(
        request.url, label, request.consumer, lambda *_: claimed, lambda begin: begin()
    )
    try:
        yield
    finally:
        reporter.close()


def _not_found(problem: BaseException) -> NotBegun:
    return NotBegun(f"{name_of(type(problem))}: {plain_copy(problem)}")


def _watch(stacks: Connection) -> None:
    """Write down where the job is, again and again, until the consumer is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while not wait([parent.sentinel], _STACK_EVERY_S):
        # Written from here it holds the interpreter, so that no frame changes under it.
        faulthandler.dump_traceback(stacks.fileno())
        os.write(stacks.fileno(), END_OF_STACK)
    os.kill(os.getpid(), signal.SIGKILL)


def _find(request: ChildRequest) -> tuple[Task[Any, Any], Headrace | None]:
    if request.home:
        importlib.import_module(request.home)  # it may include the task, which is a library's
    found: Any = importlib.import_module(request.module)
    for name in request.path.split("."):
        found = getattr(found, name)
    if not isinstance(found, Task):
        raise TypeError(
            f"{request.module}.{request.path} is a {type(found).__name__} there, no task"
        )
    app = getattr(found.producer, "__self__", None)
    if not isinstance(app, Headrace):
        return found, None
    app.use(request.url)
    return found, app


def _claimed(request: ChildRequest, task: Task[Any, Any]) -> ClaimedJob:
    return read(
        request.job,
        keys_of(request.queue),
        request.number,
        tasks={task.name: task},
        leased_until=0.0,
        moved=False,
        max_bytes=sys.maxsize,
    )


def _call(claimed: ClaimedJob, messages: Connection, run: Run) -> End:
    context, task = claimed.context, claimed.task
    assert context is not None
    assert task is not None
    current_job.set(context)
    awaiting.set(run)  # for hooks that are async, around a task that is not

    def told(*_: object) -> bool:
        # The signal alone may come from whoever ends all processes at once: the consumer decides.
        while messages.poll():
            context.stop_reason = messages.recv()
        return context.stop_reason is not None

    signal.signal(signal.SIGTERM, told)
    told()  # perhaps before there was this handler
    messages.send(Begun())
    with caps.held_to(task.config.limits):
        value = invoke(claimed)
        if not is_awaitable(value):
            return success(claimed, value)
        return run(_run_async(claimed, value, told))


async def _run_async(claimed: ClaimedJob, value: Any, told: Callable[[], bool]) -> End:
    job = asyncio.ensure_future(_await(claimed, value))

    def stop() -> None:
        if told():
            job.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    return await job


async def _await(claimed: ClaimedJob, value: Any) -> End:
    # It is judged here, because asyncio writes down what its tasks return.
    try:
        while is_awaitable(value):
            value = await value
        return success(claimed, value)
    except BaseException as error:
        return caps.failed(claimed, error)


def _ended(outcome: Outcome, end: End) -> Ended:
    if not isinstance(end, Failure):
        return Ended(outcome, "", "", "")
    error = end.error
    return Ended(outcome, type(error).__name__, str(error), traceback_of(error))
