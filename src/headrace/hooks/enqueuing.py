"""Enqueuing with hooks: each sees what is to be sent, and may change it, and sees what became of it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace.errors import InvalidSetting
from headrace.hooks.events import Event, Listener
from headrace.hooks.hooks import Chain
from headrace.hooks.steps import Step, name_of
from headrace.options import JobOptions
from headrace.producer import Call, Producer
from headrace.store.sync import complete

R = TypeVar("R")

log: logging.Logger = logging.getLogger("headrace.producer")

Make = Callable[[tuple[Any, ...], dict[str, Any], JobOptions], Call[Any]]
"""Makes a job anew, of other arguments and options."""


_IsNew = Callable[[Call[Any], str], bool]
"""Whether it is told here and now that a job is enqueued, which has this id."""


def _with_its_id(job: Call[Any], job_id: str) -> bool:
    return job_id == job.job_id  # else its key was taken


def _always(*_: object) -> bool:
    return True


def _never(*_: object) -> bool:
    return False


@dataclass(slots=True)
class EnqueueRequest:
    """What is about to be enqueued. A hook may change ``args``, ``kwargs`` and ``options`` before it yields.

    Attributes:
        task: the task's name.
        args: positional arguments, as the caller passed them.
        kwargs: keyword arguments.
        options: the job options, as ``task.options(…)`` takes them.
        job_id: "" until the job is accepted; with a ``key`` it may be an earlier job's.
        schedule: "", or the name of the schedule that enqueues such a job at each of its ticks, from now on.
        queue: where it goes, unless a hook sets another one in ``options``; of a divided queue its partition.
    """

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: JobOptions
    job_id: str = ""
    schedule: str = ""
    queue: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What travels beside the arguments, and is the job's ``Context.headers``; may be changed."""
        return self.options.setdefault("headers", {})


class AroundEnqueue:
    """The hooks around the enqueues of one task.

    Args:
        steps: they; the first is the outermost.
        listeners: who hears that a job is enqueued.
    """

    def __init__(self, steps: Sequence[Step], listeners: Sequence[Listener]) -> None:
        self.steps = steps
        self.listeners = listeners

    def hooked(self, call: Call[R], request: EnqueueRequest, make: Make) -> Call[R]:
        """Return a job with its hooks, which come into play when it is sent."""
        return HookedCall._make(call).with_hooks(self, request, make)


def around_enqueue_of(chain: Chain) -> AroundEnqueue | None:
    """Return what stands around an enqueue; None for nothing."""
    steps: list[Step] = []
    listeners: list[Listener] = []
    for hooks in chain:
        steps += hooks.enqueue
        listeners += hooks.listeners.get("enqueued", ())
    return AroundEnqueue(steps, listeners) if steps or listeners else None


class HookedCall(Call[Any]):
    """A job that is ready to be enqueued, and has hooks."""

    around: AroundEnqueue
    request: EnqueueRequest
    make: Make

    def with_hooks(self, around: AroundEnqueue, request: EnqueueRequest, make: Make) -> HookedCall:
        """Give it its hooks; return it."""
        self.around, self.request, self.make = around, request, make
        return self

    def hand_on(self, add: Callable[[Call[Any], str], str]) -> str:
        """Hand the job on through its hooks (``Context.enqueue``); return the id that it will have.

        It is enqueued when the job ends that hands it on: its consumer tells of that.
        """
        told = self.request.task if self.around.listeners else ""
        return _driven(lambda jobs: [add(jobs[0], told)], (self,), _never)[1][0]

    def _replace(self, **fields: Any) -> HookedCall:
        """Return a copy with other fields, and the same hooks."""
        changed = HookedCall(*super()._replace(**fields))
        return changed.with_hooks(self.around, self.request, self.make)


def send_hooked(
    producer: Producer, calls: Sequence[Call[Any]]
) -> tuple[list[Call[Any]], list[str]]:
    """Enqueue jobs through their hooks; return the jobs as they were sent, and their ids.

    Raises what ``Producer.send`` raises, and what a hook does; InvalidSetting when one is async.
    """
    return _driven(producer.send, calls, _with_its_id)


async def asend_hooked(
    producer: Producer, calls: Sequence[Call[Any]]
) -> tuple[list[Call[Any]], list[str]]:
    """Enqueue jobs through their hooks, as ``send_hooked`` does."""
    return await _send(producer.asend, calls, _with_its_id)


def start_hooked(
    start: Callable[[Sequence[Call[Any]]], list[str]], calls: Sequence[Call[Any]]
) -> None:
    """Start a workflow of these calls through their hooks.

    Raises what ``start`` raises, which gives the ids of all members, and what a hook does; InvalidSetting when
    one is async.
    """
    _driven(start, calls, _always)


async def astart_hooked(
    start: Callable[[Sequence[Call[Any]]], Awaitable[list[str]]], calls: Sequence[Call[Any]]
) -> None:
    """Start a workflow through the hooks of its calls, as ``start_hooked`` does."""
    await _send(start, calls, _always)


def hand_on_hooked(
    hand_on: Callable[[Sequence[Call[Any]]], list[str]], calls: Sequence[Call[Any]]
) -> None:
    """Hand a workflow of these calls on through their hooks: its consumer tells when it is enqueued.

    Raises what ``start_hooked`` raises.
    """
    _driven(hand_on, calls, _never)


def passed(call: Call[Any], schedule: str) -> Call[Any]:
    """Return the call of a schedule as its hooks leave it: they see it once, and not at each tick.

    Raises what a hook does; InvalidSetting when one is async.
    """
    if not isinstance(call, HookedCall):
        return call
    return _driven(lambda _: [""], (call,), _never, schedule)[0][0]


async def apassed(call: Call[Any], schedule: str) -> Call[Any]:
    """Return the call of a schedule as its hooks leave it, as ``passed`` does."""
    if not isinstance(call, HookedCall):
        return call

    async def send(_: object) -> list[str]:
        return [""]

    return (await _send(send, (call,), _never, schedule))[0][0]


def _driven(
    send: Callable[[Sequence[Call[Any]]], list[str]],
    calls: Sequence[Call[Any]],
    is_new: _IsNew,
    schedule: str = "",
) -> tuple[list[Call[Any]], list[str]]:
    """Send jobs through their hooks where nothing can be awaited."""
    for one in calls:
        if isinstance(one, HookedCall):
            _check_sync(one.around.steps)

    async def awaited(jobs: Sequence[Call[Any]]) -> list[str]:
        return send(jobs)

    return complete(_send(awaited, calls, is_new, schedule))


async def _send(
    send: Callable[[Sequence[Call[Any]]], Awaitable[list[str]]],
    calls: Sequence[Call[Any]],
    is_new: _IsNew,
    schedule: str = "",
) -> tuple[list[Call[Any]], list[str]]:
    # Copies of their own: a call may be sent more than once.
    requests = [_request(one, schedule) for one in calls]
    sent: list[Call[Any]] = []
    ids: list[str] = []
    raised: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            try:
                for one, request in zip(calls, requests, strict=True):
                    sent.append(await _entered(stack, one, request))
                ids = await send(sent)
            except BaseException as error:
                raised = error
                raise
            for request, job_id in zip(requests, ids, strict=True):
                if request is not None:
                    request.job_id = job_id
        if raised is not None:
            raise raised  # it was swallowed, and the jobs are not enqueued
    finally:
        raised = None  # else it and this frame keep each other alive
    for one, job, job_id in zip(calls, sent, ids, strict=True):
        if isinstance(one, HookedCall) and is_new(job, job_id):
            _tell(one.around.listeners, Event("enqueued", job_id, job.queue, one.request.task))
    return sent, ids


def _request(call: Call[Any], schedule: str) -> EnqueueRequest | None:
    if not isinstance(call, HookedCall):
        return None
    asked = call.request
    options = _copied(asked.options)
    more = {"schedule": schedule, "queue": call.queue}
    return EnqueueRequest(asked.task, asked.args, {**asked.kwargs}, options, **more)


async def _entered(
    stack: AsyncExitStack, call: Call[Any], request: EnqueueRequest | None
) -> Call[Any]:
    """Open the hooks of a job, and make it anew, for they may have changed it."""
    if request is None or not isinstance(call, HookedCall):
        return call
    for step in call.around.steps:
        made = step.make(request)
        if step.kind == "opened_async":
            await stack.enter_async_context(made)
        else:
            stack.enter_context(made)
    if not request.options.get("headers", True):
        del request.options["headers"]  # somebody looked, and there are none
    if not call.around.steps:
        return call
    # Also when nothing seems to have changed: an argument may have been changed within.
    made = call.make(request.args, request.kwargs, request.options)
    return Call._make(made)._replace(decode=call.decode)


def _copied(options: JobOptions) -> JobOptions:
    copy = options.copy()
    if "headers" in copy:
        copy["headers"] = {**copy["headers"]}
    return copy


def _tell(listeners: Sequence[Listener], event: Event) -> None:
    for listener in listeners:
        try:
            listener(event)
        except Exception:
            log.exception("a listener of 'enqueued' failed, job %s", event.job_id)


def _check_sync(steps: Sequence[Step]) -> None:
    for step in steps:
        if step.kind == "opened_async":
            raise InvalidSetting(
                f"the hook {name_of(inspect.unwrap(step.make))} is async, so that jobs can be enqueued by the "
                "awaited methods alone (aenqueue, aenqueue_many, aadd); write it without async for the others"
            )
