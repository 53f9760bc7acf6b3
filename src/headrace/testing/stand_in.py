"""What stands in for Redis while a test runs: the application's producer, and the stores that handles ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from headrace.errors import HeadraceError, ReplyLost, ResultTimeout, StoreUnavailable
from headrace.flows import Flow
from headrace.operations import Operation
from headrace.producer import Call, Producer
from headrace.store import AsyncStore, SharedStore, Store
from headrace.testing.flows import MemoryFlow
from headrace.testing.memory import Memory
from headrace.testing.recorded import Awaited, Recorded

R = TypeVar("R")

Fault = type[StoreUnavailable] | type[ReplyLost]
_Make = Callable[[Memory, Operation[Any]], Any]


class NotExercised(HeadraceError):
    """What was asked of Redis is not there without it: test it on a real server (``testing.server``)."""


class StandIn:
    """Answers what the application asks of Redis.

    Args:
        memory: the queues.
        drive: runs what is due, until a job or a workflow is over …
        adrive: … and the same, awaited.

    Attributes:
        fault: what each request ends with, None while all is well: ``StoreUnavailable`` before it has
            done anything, ``ReplyLost`` afterwards.
    """

    def __init__(
        self,
        memory: Memory,
        drive: Callable[[Awaited], None],
        adrive: Callable[[Awaited], Awaitable[None]],
    ) -> None:
        self.memory = memory
        self.drive = drive
        self.adrive = adrive
        self.fault: Fault | None = None

    def send(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Accept jobs, as ``Producer.send`` does."""
        self._fail_before()
        ids = self.memory.accept(calls)
        self._fail_after()
        return ids

    def answer(self, operation: Operation[R]) -> R:
        """Answer one request.

        Raises:
            NotExercised: it is none of those that can be answered.
        """
        self._fail_before()
        flows = self.memory.flows
        if flows.answers(operation):
            make: _Make | None = _of_workflow
        else:
            make = _ANSWERS.get(operation.name)
        if make is None:
            raise NotExercised(
                f"{operation.name!r} needs a Redis, and there is none in this test: run it on a real "
                "one (headrace.testing.server, or the fixture headrace_server)"
            )
        answer = operation.parse(make(self.memory, operation))
        self._fail_after()
        return answer

    def awaited(self, step: object) -> Recorded | MemoryFlow | None:
        """Return the job or workflow whose end a request waits for; None when it waits for nothing to come."""
        if not isinstance(step, Operation) or step.name != "BLMOVE":
            return None
        about = _id_of_result(step)
        job = self.memory.find(about) or self.memory.flows.find(about)
        return None if job is None or job.over else job

    def _fail_before(self) -> None:
        if self.fault is StoreUnavailable:
            raise StoreUnavailable("the test has taken Redis away")

    def _fail_after(self) -> None:
        if self.fault is ReplyLost:
            raise ReplyLost("the test has lost the reply")


class MemoryProducer(Producer):
    """The producer of an application under test."""

    def __init__(self, url: str, stand_in: StandIn, max_pending: int) -> None:
        self.url = url
        self.max_pending = max_pending
        self.joins_queues = True
        self._stand_in = stand_in
        self.store: MemoryStore = MemoryStore(stand_in)
        self._questions = AsyncMemoryStore(stand_in)

    def send(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Enqueue jobs."""
        return self._stand_in.send(calls)

    async def asend(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Enqueue jobs. Others have a turn meanwhile, as they do while Redis is asked."""
        await asyncio.sleep(0)
        return self._stand_in.send(calls)

    def astore(self) -> SharedStore:
        """Return what answers awaited questions."""
        return cast("SharedStore", self._questions)

    def close(self) -> None:
        """Close nothing: nothing is open."""

    async def aclose(self) -> None:
        """Close nothing: nothing is open."""


class MemoryStore(Store):
    """Answers what blocks."""

    def __init__(self, stand_in: StandIn) -> None:
        self.url = ""
        self._stand_in = stand_in

    def run(self, operation: Operation[R]) -> R:
        """Run one operation."""
        return self._stand_in.answer(operation)

    def run_all(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations."""
        return [self._stand_in.answer(one) for one in operations]

    def follow(self, flow: Flow[R]) -> R:
        """Drive a flow to its end; before it waits for a job's end, run what is due."""
        steps = _Steps(self._stand_in, flow)
        while not steps.over:
            if (job := steps.awaited()) is not None:
                self._stand_in.drive(job)
                _check_over(job)
            steps.answer()
        return steps.value

    def close(self) -> None:
        """Close nothing: nothing is open."""


class AsyncMemoryStore(AsyncStore):
    """Answers what is awaited."""

    def __init__(self, stand_in: StandIn) -> None:
        self.url = ""
        self._stand_in = stand_in

    async def run(self, operation: Operation[R]) -> R:
        """Run one operation."""
        await asyncio.sleep(0)
        return self._stand_in.answer(operation)

    async def run_all(
        self, operations: Sequence[Operation[Any]], _: Callable[[], None] | None = None
    ) -> list[Any]:
        """Run operations."""
        await asyncio.sleep(0)
        return [self._stand_in.answer(one) for one in operations]

    async def follow(self, flow: Flow[R]) -> R:
        """Drive a flow to its end; before it waits for a job's end, run what is due."""
        await asyncio.sleep(0)
        steps = _Steps(self._stand_in, flow)
        while not steps.over:
            if (job := steps.awaited()) is not None:
                await self._stand_in.adrive(job)
                _check_over(job)
            steps.answer()
        return steps.value

    async def close(self, *, nowait: bool = False) -> None:
        """Close nothing: nothing is open."""


class _Steps(Generic[R]):
    """A flow under way."""

    value: R

    def __init__(self, stand_in: StandIn, flow: Flow[R]) -> None:
        self._stand_in = stand_in
        self._flow = flow
        self._step: Any = None
        self.over = False
        self._go_on(lambda: next(flow))

    def awaited(self) -> Recorded | MemoryFlow | None:
        return self._stand_in.awaited(self._step)

    def answer(self) -> None:
        step = self._step
        try:
            many = isinstance(step, list)
            answers = [self._stand_in.answer(one) for one in (step if many else [step])]
        except (StoreUnavailable, ReplyLost) as error:
            failed = error
            self._go_on(lambda: self._flow.throw(failed))
        else:
            self._go_on(lambda: self._flow.send(answers if many else answers[0]))

    def _go_on(self, step: Callable[[], Any]) -> None:
        try:
            self._step = step()
        except StopIteration as end:
            self.over, self.value = True, end.value


def _check_over(job: Recorded | MemoryFlow) -> None:
    if job.over:
        return
    if isinstance(job, MemoryFlow):
        why = "nothing of it is due, and time stands still in a test: advance(…) makes delayed members due"
        raise ResultTimeout(f"no result of {job!r}: {why}")
    if job.state == "delayed":
        why = "it is delayed, and time stands still in a test: advance(…) makes it due"
    else:
        why = f"it is {job.state}, and whoever waits for it here keeps it from going on"
    raise ResultTimeout(f"no result of job {job.id}, {job!r}: {why}")


def _id_of_result(operation: Operation[Any]) -> str:
    return _id_of_key(str(operation.args[1]))


def _id_of_key(key: str) -> str:
    return key.rpartition(":")[2]


def _of_workflow(memory: Memory, operation: Operation[Any]) -> Any:
    with memory.lock:
        return memory.flows.answer(operation)


def _find(memory: Memory, operation: Operation[Any]) -> Any:
    job = memory.find(str(operation.args[0]))
    if job is None:
        return b"unknown", b""
    if job.end and memory.now_ms < job.end_until_ms:
        return b"ended", job.end
    if not memory.remembers(job):
        return b"unknown", b""
    return job.state.encode(), job.job if job.state == "dead" else b""


def _cancel(memory: Memory, operation: Operation[Any]) -> Any:
    job = memory.find(str(operation.args[0]))
    if job is None or not memory.cancel(job, int(operation.args[3])):
        return b"absent"
    return b"cancelled" if job.over else b"requested"


def _await_result(memory: Memory, operation: Operation[Any]) -> Any:
    flow = memory.flows.find(_id_of_result(operation))
    if flow is not None:
        return flow.end or None
    job = memory.find(_id_of_result(operation))
    return job.end if job is not None and job.end and memory.now_ms < job.end_until_ms else None


def _ended(memory: Memory, operation: Operation[Any]) -> Any:
    ends = {job.id: job.end for job in memory.jobs if memory.now_ms < job.end_until_ms}
    answer: list[Any] = [len(operation.keys)]
    for place, key in enumerate(operation.keys, 1):
        if end := ends.get(_id_of_key(key)):
            answer += [place, end]
    return answer


# What handles ask. ``seek``: ``find`` has told all that is known; no job waits in a lane.
_ANSWERS: Final[dict[str, _Make]] = {
    "find": _find,
    "seek": lambda *_: (b"", 0),
    "cancel": _cancel,
    "lanes/why": lambda *_: [],
    "lanes/cancel": lambda *_: b"absent",
    "BLMOVE": _await_result,
    "gathering/ended": _ended,
}
