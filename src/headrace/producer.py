"""The producer: hands jobs to Redis. Calls under way at the same time share a round trip.

Jobs of one call that go to the same queue at the same time travel in one script, at most 1,000 and
about 1 MiB each; such a script accepts all of its jobs or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from headrace import operations as op
from headrace.errors import NotReplicated, QueueFull, StoreError
from headrace.flows import Flow, chunks
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.operations import Enqueued, Operation, Unique
from headrace.operations.producing import confirmation
from headrace.store import AsyncStore, Store

_SCRIPTS_A_TRIP: Final = 8  # about 8 MiB on the way at once, at most
CONFIRM_S: Final = 1.0
"""How long replicas have to confirm by default: a healthy one needs a millisecond."""

_NAME: Final = f"{CONNECTION_PREFIX}producer"


@dataclass(frozen=True, slots=True)
class Submission:
    """One job on its way in.

    Attributes:
        queue: where it goes.
        job_id: its id.
        job: its bytes.
        due: "", "+ms" from now or "@ms" since 1970.
        key: its idempotency key, or None.
        key_ttl_ms: how long the key lives.
    """

    queue: str
    job_id: str
    job: bytes
    due: str = ""
    key: str | None = None
    key_ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    operation: Operation[Enqueued]
    submissions: Sequence[Submission]


def _plan(submissions: Iterable[Submission], max_pending: int) -> list[_Call]:
    """Group jobs into script calls; a job with a key goes alone, for only it can be refused alone."""
    calls: list[_Call] = []
    together: dict[tuple[str, str], list[Submission]] = {}
    for one in submissions:
        if one.key is None:
            together.setdefault((one.queue, one.due), []).append(one)
            continue
        unique = Unique(one.key, one.job_id, one.key_ttl_ms)
        k = keys_of(one.queue)
        operation = op.enqueue(k, [one.job], due=one.due, max_pending=max_pending, unique=unique)
        calls.append(_Call(operation, [one]))
    for (queue, due), group in together.items():
        start = 0
        for jobs in chunks([one.job for one in group]):
            operation = op.enqueue(keys_of(queue), jobs, due=due, max_pending=max_pending)
            calls.append(_Call(operation, group[start : start + len(jobs)]))
            start += len(jobs)
    return calls


class Tally:
    """The answers to one plan, gathered over its round trips."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}  # the id each submission asked for -> the id it has
        self.failed: dict[str, StoreError | QueueFull] = {}

    def take(self, calls: Sequence[_Call], answers: Sequence[Enqueued | StoreError]) -> None:
        """Note the answer to each call."""
        for call, answer in zip(calls, answers, strict=True):
            for one in call.submissions:
                if isinstance(answer, StoreError):
                    self.failed[one.job_id] = answer
                elif answer.word == "full":
                    self.failed[one.job_id] = QueueFull(
                        f"queue {one.queue!r} has {answer.waiting} jobs waiting, which is its bound"
                    )
                else:
                    self.ids[one.job_id] = answer.existing_id or one.job_id

    def fail(self, calls: Sequence[_Call], error: StoreError) -> None:
        """Note that these calls came to nothing, as far as is known; what was refused stays so."""
        for one in (one for call in calls for one in call.submissions):
            self.ids.pop(one.job_id, None)
            self.failed.setdefault(one.job_id, error)

    def ids_of(self, submissions: Sequence[Submission]) -> list[str]:
        """Give the ids of all jobs of one caller, or raise why some were not accepted."""
        for one in submissions:
            if error := self.failed.get(one.job_id):
                # Each caller has an exception of its own: it is raised, and gets a traceback.
                copy = type(error)(*error.args)
                copy.accepted = tuple(
                    self.ids[other.job_id] for other in submissions if other.job_id in self.ids
                )
                raise copy from error
        return [self.ids[one.job_id] for one in submissions]


class Producer:
    """Enqueues, blocking or awaited. Shared by all threads and event loops of a process.

    Args:
        url: where Redis is.
        max_pending: refuse jobs for a queue in which so many wait; 0 never.
        confirm_replicas: how many replicas must have a job before it counts as accepted.
        confirm_timeout_s: how long they have to say so, seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        max_pending: int = 0,
        confirm_replicas: int = 0,
        confirm_timeout_s: float = CONFIRM_S,
    ) -> None:
        self.url = url
        self.max_pending = max_pending
        self._confirm = (confirm_replicas, confirm_timeout_s)
        self.store = Store(url, name=_NAME)
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sharing] = WeakKeyDictionary()
        self._registered: set[str] = set()

    def send(self, submissions: Sequence[Submission]) -> list[str]:
        """Enqueue jobs; give the id of each, which with a key may be an earlier job's.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing of the round trip was sent.
            ReplyLost: sent, but the answer never came: the jobs may have been accepted.
            NotReplicated: too few replicas have confirmed the jobs.
            StoreRefused: Redis answered with an error.
            QueueFull: too many jobs wait already.
        """
        return self.store.follow(self.trips(submissions)).ids_of(submissions)

    async def asend(self, submissions: Sequence[Submission]) -> list[str]:
        """Enqueue jobs, sharing the round trip with calls under way. Else as ``send``."""
        return await self._sharing().send(submissions)

    def astore(self) -> AsyncStore:
        """Give the running event loop's store."""
        return self._sharing().store

    def close(self) -> None:
        """Close the blocking store's connections. The producer can be used again."""
        self.store.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The producer can be used again."""
        sharing = self._loops.pop(asyncio.get_running_loop(), None)
        if sharing is not None:
            await sharing.store.close()

    def _sharing(self) -> _Sharing:
        loop = asyncio.get_running_loop()
        sharing = self._loops.get(loop)
        if sharing is None:
            sharing = self._loops[loop] = _Sharing(self)
        return sharing

    def trips(self, submissions: Sequence[Submission]) -> Flow[Tally]:
        """Enqueue jobs, as a flow: as many round trips as they need."""
        calls, tally = _plan(submissions, self.max_pending), Tally()
        queues = {one.queue for one in submissions}
        # A new queue is made known in the same trip: once for each queue and process.
        register = [op.register(queue) for queue in sorted(queues - self._registered)]
        for start in range(0, len(calls), _SCRIPTS_A_TRIP):
            some = calls[start : start + _SCRIPTS_A_TRIP]
            requests: list[Operation[Any]] = [*register, *(call.operation for call in some)]
            confirm = self._confirmation(some[0])
            try:
                answers = yield [*requests, *confirm]
                tally.take(some, answers[len(register) : len(requests)])
                if confirm:
                    self._check_confirmed(answers[len(requests) :])
            except StoreError as error:
                tally.fail(calls[start:], error)
                break
            register = []
            self._registered |= queues
        return tally

    def _confirmation(self, call: _Call) -> list[Operation[Any]]:
        replicas, timeout_s = self._confirm
        k = keys_of(call.submissions[0].queue)
        return confirmation(k, replicas, timeout_s) if replicas else []

    def _check_confirmed(self, answers: Sequence[Any]) -> None:
        replicas, timeout_s = self._confirm
        refused = next((one for one in answers if isinstance(one, StoreError)), None)
        if refused is None and answers[-1] >= replicas:
            return
        why = refused or f"{answers[-1]} of {replicas} replicas confirmed within {timeout_s:g} s"
        raise NotReplicated(
            f"the primary has the job, but {why}: see whether they are connected and keep up "
            "(INFO replication). Enqueue it again only with key=, or it may run twice"
        ) from refused


class _Sharing:
    """Group commit: while one round trip is under way, later calls collect for the next."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.store = AsyncStore(producer.url, name=_NAME)
        self._waiting: list[tuple[Sequence[Submission], asyncio.Future[list[str]]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def send(self, submissions: Sequence[Submission]) -> list[str]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((submissions, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                everything = [one for submissions, _ in batch for one in submissions]
                try:
                    tally = await self.store.follow(self._producer.trips(everything))
                except BaseException:  # the loop ends, or a fault of ours: leave nobody waiting
                    for _, future in (*batch, *self._waiting):
                        future.cancel()
                    raise
                for submissions, future in batch:
                    if future.done():  # its caller was cancelled; the jobs are in all the same
                        continue
                    try:
                        future.set_result(tally.ids_of(submissions))
                    except Exception as error:
                        future.set_exception(error)
        finally:
            self._flushing = None
