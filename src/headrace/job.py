"""The handle of a job that was enqueued: ask where it is, wait for its result, cancel it."""

from __future__ import annotations

from typing import Final, Generic, TypeVar, cast

from headrace import flows, results
from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import NoResult, ResultTimeout, StoreFull
from headrace.flows import Flow, State
from headrace.keys import keys_of
from headrace.producer import Producer

R = TypeVar("R")

_WAIT_S: Final = 5.0  # how long one request blocks; short, so that a dead connection is noticed


class Job(Generic[R]):
    """A job that was enqueued. Each method has an awaited twin with an ``a`` in front.

    Args:
        producer: through which it asks.
        queue: the queue it went to.
        job_id: its id.
        job: its bytes as enqueued, b"" when unknown: then ``status`` has to search.
        result_ttl_s: how long its result is kept; None not at all; 0 the task decides.
    """

    __slots__ = ("_job", "_producer", "_result_ttl_s", "id", "queue")

    def __init__(
        self,
        producer: Producer,
        queue: str,
        job_id: str,
        *,
        job: bytes = b"",
        result_ttl_s: float | None = 0,
    ) -> None:
        self._producer = producer
        self._job = job
        self._result_ttl_s = result_ttl_s
        self.id = job_id
        self.queue = queue

    def __repr__(self) -> str:
        return f"Job(id={self.id!r}, queue={self.queue!r})"

    def status(self) -> State:
        """Tell where the job is: pending, processing, delayed, dead, done or cancelled.

        A job of which nothing is left is ``done``; so is one that Redis never had. A job that was
        retried is looked for through the whole queue.

        Raises:
            StoreError: Redis did not answer.
        """
        return self._producer.store.follow(self._status())

    async def astatus(self) -> State:
        """Tell where the job is, as ``status`` does."""
        return await self._producer.astore().follow(self._status())

    def result(self, timeout: float | None = None) -> R:
        """Wait for what the task returns; blocks without polling.

        Args:
            timeout: seconds to wait; None for as long as it takes.

        Raises:
            NoResult: the task keeps no results.
            ResultTimeout: none came in time; the job goes on.
            JobFailed: the job ended in the dead letters.
            JobCancelled: the job was cancelled.
            StoreError: Redis did not answer.
        """
        return self._value(self._producer.store.follow(self._result(timeout)))

    async def aresult(self, timeout: float | None = None) -> R:  # noqa: ASYNC109  as result()
        """Wait for what the task returns, as ``result`` does."""
        return self._value(await self._producer.astore().follow(self._result(timeout)))

    def cancel(self) -> bool:
        """Cancel the job; False when it is over already.

        A waiting job is taken out at once. A running one is asked to stop: an async task is
        cancelled, a sync task sees it in its context; at the latest when its lease is next extended.

        Raises:
            StoreError: Redis did not answer.
        """
        return self._producer.store.follow(self._cancel())

    async def acancel(self) -> bool:
        """Cancel the job, as ``cancel`` does."""
        return await self._producer.astore().follow(self._cancel())

    def _status(self) -> Flow[State]:
        state, end = yield from flows.locate(keys_of(self.queue), self.id, self._job)
        return results.state_of(end) if end else state

    def _cancel(self) -> Flow[bool]:
        ttl_ms = round((self._result_ttl_s or 0) * 1000)
        return (
            yield from flows.cancel(
                keys_of(self.queue),
                self.id,
                self._job,
                result_ttl_ms=ttl_ms,
                result=results.CANCELLED if ttl_ms else b"",
            )
        )

    def _result(self, timeout_s: float | None) -> Flow[bytes]:
        if self._result_ttl_s is None:
            raise NoResult(
                f"the task of job {self.id} keeps no results: give it result_ttl= seconds"
            )
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while True:
            left_s = _WAIT_S if deadline is None else deadline - monotonic()
            # Redis rounds to milliseconds, and 0 would block for ever.
            wait_s = max(0.001, min(_WAIT_S, left_s))
            try:
                end: bytes | None = yield op.await_result(keys_of(self.queue), self.id, wait_s)
            except StoreFull:  # which refuses any blocking move; the result may be there
                found: op.Found = yield op.find(keys_of(self.queue), self.id, b"")
                if found.word != "ended":
                    raise
                end = found.end
            if end is not None:
                return end
            # One that crashed too often, or was cancelled after a failure, tells nobody: look.
            fate = yield from flows.fate(keys_of(self.queue), self.id)
            if fate is not None:
                return results.of_fate(*fate)
            if deadline is not None and monotonic() >= deadline:
                raise ResultTimeout(f"no result of job {self.id} within {timeout_s} s")

    def _value(self, end: bytes) -> R:
        return cast("R", results.value_of(self.id, end))
