"""The handle of a workflow that was started: ask how far it is, wait for its end, cancel it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from headrace import operations as op
from headrace import results, wire
from headrace.clock import monotonic
from headrace.encryption import refused_of_workflow
from headrace.errors import JobFailed, NoResult, ResultTimeout
from headrace.flows import PAGE, Flow
from headrace.keys import Keys, keys_of
from headrace.lanes import operations as lanes
from headrace.operations import Operation, command, run
from headrace.producer import Producer
from headrace.workflows.keys import REMEMBERED_MS, begun_of, workflow_keys
from headrace.workflows.member import of_job_id, read_failure

_WAIT_S: Final = 5.0  # how long one request blocks; short, so that a dead connection is noticed

_KEPT_MS: Final = 86_400_000
"""For how long it is known that a workflow was cancelled before it began."""

_PASSES: Final = 10
"""So often a cancel looks for members that move at most; hardly ever is it more than twice."""

WorkflowState = Literal["waiting", "running", "failed", "done", "cancelled", "unknown"]


class FailedMember(NamedTuple):
    """A member that has failed.

    Attributes:
        n: its number, in the order of the steps, from 0.
        job_id: its job: ``headrace dlq redrive``, ``headrace explain``.
        queue: where its dead letter is, "" if there is none.
        reason: one of the words of a dead letter, or ``cancelled``.
        message: what it said.
    """

    n: int
    job_id: str
    queue: str
    reason: str
    message: str


class WorkflowStatus(NamedTuple):
    """How far a workflow is.

    Attributes:
        state: waiting: a job has handed it on, and it begins soon; running; failed: a member is dead, and what follows waits until it is redriven; done;
            cancelled; unknown: it never was, or has been over for longer than its ``ttl``.
        total: how many members it has.
        ended: how many of them have ended.
        running: how many of them wait in their queues or run.
        failed: those that are dead.
    """

    state: WorkflowState
    total: int = 0
    ended: int = 0
    running: int = 0
    failed: tuple[FailedMember, ...] = ()


class Workflow:
    """A workflow that was started. Each method has an awaited twin with an ``a`` in front.

    Args:
        producer: through which it asks.
        queue: its home: the queue of its first job.
        workflow_id: its id.
        decode: makes what it returns of plain JSON; None when it is that.
    """

    __slots__ = ("_decode", "_producer", "id", "queue")

    def __init__(
        self,
        producer: Producer,
        queue: str,
        workflow_id: str,
        *,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        self._producer = producer
        self._decode = decode
        self.id: str = workflow_id
        self.queue: str = queue

    def __repr__(self) -> str:
        return f"Workflow(id={self.id!r}, queue={self.queue!r})"

    def status(self) -> WorkflowStatus:
        """Return how far it is.

        Raises:
            StoreError: Redis did not answer.
        """
        return self._producer.store.follow(status_of(keys_of(self.queue), self.id))

    async def astatus(self) -> WorkflowStatus:
        """Return how far it is, as ``status`` does."""
        return await self._producer.astore().follow(status_of(keys_of(self.queue), self.id))

    def result(self, timeout: float | None = None) -> Any:
        """Wait for what its last step returns, or for the list of what its last steps return.

        Args:
            timeout: seconds to wait; None for as long as it takes.

        Raises:
            JobFailed: a member is dead, so that it waits for somebody to redrive it.
            JobCancelled: it was cancelled.
            NoResult: nothing is known of it.
            ResultTimeout: it did not end in time, and goes on.
            StoreError: Redis did not answer.
        """
        return self._value(self._producer.store.follow(self._result(timeout)))

    async def aresult(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109  as result()
        """Wait for what it returns, as ``result`` does."""
        return self._value(await self._producer.astore().follow(self._result(timeout)))

    def cancel(self) -> bool:
        """Cancel it as a whole; False when it is over already.

        Nothing follows any more. Members that wait in their queues are taken out, those that run are
        asked to stop.

        Raises:
            StoreError: Redis did not answer; repeated, it goes on.
        """
        return self._producer.store.follow(cancelled(keys_of(self.queue), self.id))

    async def acancel(self) -> bool:
        """Cancel it as a whole, as ``cancel`` does."""
        return await self._producer.astore().follow(cancelled(keys_of(self.queue), self.id))

    def _result(self, timeout_s: float | None) -> Flow[bytes]:
        k = keys_of(self.queue)
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while True:
            left_s = _WAIT_S if deadline is None else min(_WAIT_S, deadline - monotonic())
            # Redis rounds to milliseconds, and 0 would block for ever.
            end: bytes | None = yield op.await_result(k, self.id, max(0.001, left_s))
            if end is not None:
                return end
            # In this order: it may begin between the two.
            waits, state = op.unfailed(
                (yield [_handed_on(k, self.id), _ask(k, self.id, "HGET", "state")])
            )
            if state is None and not waits:
                raise NoResult(
                    f"nothing is known of workflow {self.id} in queue {self.queue!r}: it never was "
                    "there, or it has been over for longer than its ttl="
                )
            if deadline is not None and monotonic() >= deadline:
                raise ResultTimeout(f"workflow {self.id} has not ended within {timeout_s} s")

    def _value(self, end: bytes) -> Any:
        try:
            value = results.value_of(self.id, end)
        except JobFailed as error:
            raise JobFailed(
                f"a member of workflow {self.id} failed ({error.reason}): status() says which",
                reason=error.reason,
                error_type=error.error_type,
                traceback="",
            ) from None
        return refused_of_workflow(value) if self._decode is None else self._decode(value)


def _ask(k: Keys, workflow_id: str, name: str, *fields: str) -> Operation[Any]:
    return command(name, workflow_keys(k, workflow_id).hash, *fields, parse=lambda raw: raw)


def _handed_on(k: Keys, workflow_id: str) -> Operation[int]:
    """Ask how many members a workflow will have that a job has handed on, and that has not begun; else 0."""
    return command("GET", begun_of(k, workflow_id), parse=lambda raw: int(raw or 0))


def status_of(k: Keys, workflow_id: str) -> Flow[WorkflowStatus]:
    """Read how far a workflow is."""
    fields = ("state", "total", "left", "running", "failed")
    # In this order: it may begin between the two.
    waits, (state, *numbers) = op.unfailed(
        (yield [_handed_on(k, workflow_id), _ask(k, workflow_id, "HMGET", *fields)])
    )
    if state is None:
        return WorkflowStatus("waiting", waits) if waits else WorkflowStatus("unknown")
    total, left, running, failed = map(int, numbers)
    dead: list[FailedMember] = []
    cursor = "0"
    while failed:
        scan = _ask(k, workflow_id, "HSCAN", cursor, "MATCH", "dead:*", "COUNT", "1000")
        cursor_raw, pairs = yield scan
        dead += [_failed(n, why) for n, why in zip(pairs[::2], pairs[1::2], strict=True)]
        cursor = cursor_raw.decode()
        if cursor == "0":
            break
    return WorkflowStatus(state.decode(), total, total - left, running, tuple(sorted(set(dead))))


def _failed(field: bytes, raw: bytes) -> FailedMember:
    why = read_failure(raw)
    n = int(field.partition(b":")[2])
    return FailedMember(n, why.job_id, why.queue, why.reason, why.message)


def stop(k: Keys, workflow_id: str) -> Operation[str]:
    """Let nothing follow any more; return the state that it had. Repeated, it changes nothing."""
    used = (*workflow_keys(k, workflow_id), begun_of(k, workflow_id))
    args = (results.CANCELLED, workflow_id, _KEPT_MS, REMEMBERED_MS)
    return run("workflows/stop", used, args, op.text)


def cancelled(k: Keys, workflow_id: str) -> Flow[bool]:
    """Cancel a workflow and its members; False when it was over."""
    state: str = yield stop(k, workflow_id)
    if state in ("done", "unknown"):
        return False
    if state == "waiting":
        return True
    raw, running = yield _ask(k, workflow_id, "HMGET", "queues", "running")
    queues = [keys_of(queue) for queue in (raw or k.queue.encode()).decode().split()]
    seen: set[str] = set()
    # One that moves meanwhile (a retry, a lane) is missed where it was not any more and where it was not
    # yet. So whoever is missing is looked for until nobody else is there.
    # Of those that are seen, what carries one to another node is no member.
    for n in range(_PASSES):
        others = yield from _cancel_others(queues, workflow_id, seen)
        if sum(map(bool, map(of_job_id, seen))) >= int(running or 0) or (n and not others):
            break
    return True


def _cancel_others(queues: Sequence[Keys], workflow_id: str, seen: set[str]) -> Flow[bool]:
    """Cancel the members that are not ``seen`` yet, wherever they are; return whether there were any.

    Those that wait are taken out, those that run are asked to stop. One that is gone when its turn comes
    has ended, or moves: the next pass may see it.
    """
    tried: set[str] = set()
    for k in queues:
        yield from _cancel_listed(k, workflow_id, seen, tried)
        for key in (k.claims, k.limited):
            yield from _cancel_hashed(k, key, workflow_id, seen, tried)
    return bool(tried)


def _cancel_listed(k: Keys, workflow_id: str, seen: set[str], tried: set[str]) -> Flow[None]:
    mark = b'"workflow":{"id":"%b"' % workflow_id.encode()
    waiting = ("LRANGE", k.pending), ("ZRANGE", k.delayed), ("ZRANGE", k.priority)
    # A blocking move leaves a member without a claim for a moment; or until a sweep, if nobody is there.
    for name, key in (*waiting, ("LRANGE", k.processing)):
        at = 0
        while page := (yield command(name, key, at, at + PAGE - 1, parse=lambda raw: raw)):
            members = [(_member_id(job, workflow_id), job) for job in page if mark in job]
            new = [(one, job) for one, job in members if one and one not in seen | tried]
            for job_id, job in new:
                yield from _cancel(k, job_id, job, seen, tried)
            at += 0 if new else PAGE  # what is taken out brings others forward


def _cancel_hashed(
    k: Keys, key: str, workflow_id: str, seen: set[str], tried: set[str]
) -> Flow[None]:
    cursor = "0"
    while True:
        # What stands in a claim is a whole job: some at a time.
        scan = command("HSCAN", key, cursor, "MATCH", f"{workflow_id}-*", "COUNT", PAGE, parse=list)
        cursor_raw, pairs = yield scan
        for job_id in (raw.decode() for raw in pairs[::2]):
            if job_id not in seen and job_id not in tried:
                yield from _cancel(k, job_id, b"", seen, tried)
        cursor = cursor_raw.decode()
        if cursor == "0":
            return


def _cancel(k: Keys, job_id: str, job: bytes, seen: set[str], tried: set[str]) -> Flow[None]:
    """Cancel a job where it was seen. It is not looked for elsewhere: most that are gone have ended."""
    tried.add(job_id)
    word: str = yield op.cancel(k, job_id, job, result_ttl_ms=0, result=b"")
    if word == "absent":
        word = yield lanes.cancel(k, job_id, job, result_ttl_ms=0, result=b"")
    if word != "absent":
        seen.add(job_id)


def _member_id(job: bytes, workflow_id: str) -> str:
    """Return the id of a member, or of one on its way to another node; "" if it is neither."""
    parts = wire.split(job)
    is_member = parts is not None and parts[0].id.startswith(f"{workflow_id}-")
    return parts[0].id if parts is not None and is_member else ""
