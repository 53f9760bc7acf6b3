"""The handle of a job that was enqueued: ask where it is, wait for its result, cancel it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from headrace import flows, job_reports, results
from headrace import operations as op
from headrace.clock import monotonic
from headrace.encryption import for_job, refused
from headrace.errors import NoResult, ResultTimeout, StoreFull
from headrace.flows import Flow, State
from headrace.history import Run
from headrace.ids import time_ms_of
from headrace.keys import keys_of
from headrace.operations import Found, Operation
from headrace.options import types
from headrace.producer import Producer
from headrace.reports import Progress, Stream, progress

R = TypeVar("R")
Raises: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

_WAIT_S: Final = 5.0  # how long one request blocks; short, so that a dead connection is noticed


class Job(Generic[R]):
    """A job that was enqueued. Each method has an awaited twin with an ``a`` in front.

    Args:
        producer: through which it asks.
        queue: the queue it went to.
        job_id: its id.
        job: its bytes as enqueued, b"" when unknown: then ``status`` has to search.
        result_ttl_s: how long its result is kept; None for not at all; 0 the task decides.
        accepted: Redis is known to have had it, so that it is done when nothing of it is left.
        decode: makes what the task returned of plain JSON; None when it is that.
    """

    __slots__ = (
        "_accepted", "_decode", "_end", "_job", "_producer", "_result_ttl_s", "id", "queue",
    )  # fmt: skip

    def __init__(
        self,
        producer: Producer,
        queue: str,
        job_id: str,
        *,
        job: bytes = b"",
        result_ttl_s: float | None = 0,
        accepted: bool = False,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        self._accepted = accepted
        self._end: bytes | NoResult | None = None  # what ``results_of`` has found
        self._decode = decode and for_job(decode, job_id)
        self._producer = producer
        self._job = job
        self._result_ttl_s = result_ttl_s
        self.id: str = job_id
        self.queue: str = queue

    def __repr__(self) -> str:
        return f"Job(id={self.id!r}, queue={self.queue!r})"

    def status(self) -> State:
        """Return where the job is: pending, processing, delayed, dead, done, cancelled or unknown.

        When nothing of it is left, a job that was enqueued through this handle is ``done`` (or was
        purged, or cancelled more than an hour ago), and one of ``app.job(id)`` is ``unknown``: the
        same, or it never was. A job that was retried is looked for through the whole queue.

        Raises:
            StoreError: Redis did not answer.
        """
        return self._producer.store.follow(self._status())

    async def astatus(self) -> State:
        """Return where the job is, as ``status`` does."""
        return await self._producer.astore().follow(self._status())

    def result(self, timeout: float | None = None, *, raises: Raises = ()) -> R:
        """Wait for what the task returns; blocks without polling.

        Args:
            timeout: seconds to wait; None for as long as it takes.
            raises: exceptions of the task's that are raised here as they are, not as ``JobFailed``.

        Raises:
            NoResult: the task keeps no results; the result is kept no longer, or cannot be
                written; or nothing is known of the job, for two looks some seconds apart.
            ResultTimeout: none came in time; the job goes on.
            JobFailed: the job ended in the dead letters; its cause is what the task raised, when
                that is one of Python's or Headrace's own exceptions.
            JobCancelled: the job was cancelled.
            StoreError: Redis did not answer.
            InvalidSetting: ``raises`` is no exception class.
        """
        kinds = types("raises", raises)
        return self._value(self._producer.store.follow(self._result(timeout)), kinds)

    async def aresult(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  as result()
        *,
        raises: Raises = (),
    ) -> R:
        """Wait for what the task returns, as ``result`` does."""
        kinds = types("raises", raises)
        return self._value(await self._producer.astore().follow(self._result(timeout)), kinds)

    def progress(self) -> Progress | None:
        """Return how far the job was when it last told so (``ctx.progress``), up to a second ago.

        None when it has told nothing, or has ended some minutes ago.

        Raises:
            StoreError: Redis did not answer.
        """
        return self._producer.store.run(self._progress())[0]

    async def aprogress(self) -> Progress | None:
        """Return how far the job is, as ``progress`` does."""
        return (await self._producer.astore().run(self._progress()))[0]

    def stream(self) -> Stream:
        """Return what the job yields, from its first item on, as it comes: for ``for`` or ``async for``.

        May be read by many, and after the fact, for as long as its result is kept: the last 10,000
        items, at most 16 MiB of them. Where the job has begun anew, ``RESTARTED`` stands among them:
        what came before it does not count. Ends when the job is done. While it is read, it raises

        Raises:
            JobFailed, JobCancelled: as ``result`` does, after the last item.
            NoResult: the same; or there are no items, or the first ones are not kept any more.
            StoreError: Redis did not answer.
        """
        return job_reports.stream(self)

    def history(self) -> list[Run]:
        """Return the job's runs, the last 10, oldest first: for as long as its result is kept.

        A run whose consumer was lost is missing among them, and so is its delivery. While a job waits
        for its next attempt, or is in it, its runs until then. One whose result is not kept has none.

        Raises:
            StoreError: Redis did not answer.
        """
        return self._producer.store.follow(job_reports.history(self))

    async def ahistory(self) -> list[Run]:
        """Return the job's runs, as ``history`` does."""
        return await self._producer.astore().follow(job_reports.history(self))

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
        found = yield from flows.locate(keys_of(self.queue), self.id, self._job)
        if found.word == "ended":
            return results.state_of(found.raw)
        if found.word == "unknown" and self._accepted:
            return "done"
        return found.word

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

    def _progress(self) -> Operation[list[Progress | None]]:
        return progress.read(keys_of(self.queue), [self.id])

    def _check_kept(self) -> None:
        """Raise at once what ``result`` would raise of a task that keeps none.

        Raises:
            NoResult: it does not.
        """
        if self._result_ttl_s is None:
            raise NoResult(
                f"the task of job {self.id} keeps no results: give it result_ttl= seconds"
            )

    def _result(self, timeout_s: float | None) -> Flow[bytes]:
        self._check_kept()
        if isinstance(self._end, NoResult):
            raise self._end
        if self._end is not None:
            return self._end
        k, job = keys_of(self.queue), self._job
        deadline = None if timeout_s is None else monotonic() + timeout_s
        # A search can miss a job that moves, so it takes two. An id that Headrace did not make is
        # most likely a mistake: that is told at once.
        misses, wait_s = (0, _WAIT_S) if time_ms_of(self.id) is not None else (1, 0.0)
        turn, search_at = 0, 1
        while True:
            if deadline is not None:
                wait_s = min(wait_s, deadline - monotonic())
            end: bytes | None = yield from self._await(wait_s)
            if end is not None:
                return end
            # Some tell nobody: who crashed too often, or was cancelled after a failure.
            turn, wait_s = turn + 1, _WAIT_S
            found: Found = yield op.find(k, self.id, job)
            if found.word == "unknown" and turn >= search_at:
                search_at = 2 * turn  # Redis reads the queue through: less and less often
                found = yield from flows.locate(k, self.id, job)
                job, misses = found.raw, misses + 1 if found.word == "unknown" else 0
            end = results.of_place(found.word, found.raw)
            if end is not None:
                return end
            if misses > 1:
                raise NoResult(self._nothing_known())
            if deadline is not None and monotonic() >= deadline:
                raise ResultTimeout(f"no result of job {self.id} within {timeout_s} s")

    def _await(self, wait_s: float) -> Flow[bytes | None]:
        """Wait for the end, for so long."""
        k = keys_of(self.queue)
        end: bytes | None
        try:
            # Redis rounds to milliseconds, and 0 would block for ever.
            end = yield op.await_result(k, self.id, max(0.001, wait_s))
        except StoreFull:  # which refuses any blocking move; the result may be there
            found: Found = yield op.find(k, self.id, b"")
            if found.word != "ended":
                raise
            end = found.raw
        return end

    def _nothing_known(self) -> str:
        if self._accepted:
            return (
                f"nothing is left of job {self.id}: it is done and its task keeps no results, or "
                "not for this long (result_ttl=); or it was purged"
            )
        return (
            f"nothing is known of job {self.id} in queue {self.queue!r}: it never was there, or it is "
            "done and its result is not kept, or not any more"
        )

    def _value(self, end: bytes, raises: Sequence[type[BaseException]]) -> R:
        value = results.value_of(self.id, end, raises)
        return cast("R", refused(value) if self._decode is None else self._decode(value))
