"""The producer: hands jobs to Redis. Calls under way at the same time share a round trip.

Jobs of one call that go to the same queue at the same time travel in one script, at most 1,000 and
about 1 MiB each; such a script accepts all of its jobs or none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from headrace import operations as op
from headrace.errors import NotReplicated, QueueFull, StoreError, StoreUnavailable
from headrace.expiry import resolved
from headrace.flows import Flow, chunks
from headrace.keys import CONNECTION_PREFIX, keys_of
from headrace.operations import Enqueued, Operation, Unique
from headrace.store import AsyncStore, SharedStore, Store, Together
from headrace.unique import REPLACING, Look, looked, replace

R = TypeVar("R")

_SCRIPTS_A_TRIP: Final = 8  # about 8 MiB on the way at once, at most
_CALLS_A_TRIP: Final = 10_000  # all that has collected, as a rule
CONFIRM_S: Final = 1.0
"""How long replicas have to confirm by default: a healthy one needs a millisecond."""

_NAME: Final = f"{CONNECTION_PREFIX}producer"


class Call(NamedTuple, Generic[R]):
    """A job that is ready to be enqueued, for ``enqueue_many``: ``task.call(…)``.

    Attributes:
        queue: where it goes.
        job_id: its id.
        job: its bytes.
        due: "", "+ms" from now or "@ms" since 1970.
        priority: -100 … 100, as its bytes have it.
        key: its idempotency key, percent-encoded, or None.
        key_ttl_ms: how long the key lives; 0 until the job ends.
        result_ttl_s: how long its result is kept, seconds; None for not at all; 0 the task decides.
        decode: makes what the task returned of plain JSON; None when it is that.
        producer: gives what would send it.
        expires_ms: so long after its enqueue it expires, by Redis' clock; 0: its bytes say when, or it does not.
        if_exists: what becomes of it when an earlier job has its key.
        lane: the lane in which it waits for a limit, or for its turn; "" if in none.
    """

    queue: str
    job_id: str
    job: bytes
    due: str = ""
    priority: int = 0
    key: str | None = None
    key_ttl_ms: int = 0
    result_ttl_s: float | None = 0
    decode: Callable[[Any], Any] | None = None
    producer: Callable[[], Producer] | None = None
    expires_ms: int = 0
    if_exists: str = "keep"
    lane: str = ""


_expires_ms = attrgetter("expires_ms")
_priority = attrgetter("priority")


class Script(NamedTuple):
    """A call of a script, which accepts all of these jobs or none."""

    operation: Operation[Enqueued]
    calls: Sequence[Call[Any]]


def _plan(calls: Sequence[Call[Any]], max_pending: int) -> list[Script]:
    """Group jobs into scripts; a job with a key goes alone, for only it can be refused alone."""
    groups: dict[tuple[str, str, str | None], list[Call[Any]]] = {}
    for one in calls:
        alone = None if one.key is None else one.job_id
        groups.setdefault((one.queue, one.due, alone), []).append(one)
    scripts: list[Script] = []
    for (queue, due, alone), group in groups.items():
        k, start = keys_of(queue), 0
        plain = not (alone or due or max_pending or any(map(_priority, group)))
        unique, replaces = None, group[0].if_exists in REPLACING
        if alone:
            unique = Unique(str(group[0].key), alone, group[0].key_ttl_ms)
        for jobs in chunks([one.job for one in group]):
            if plain:
                operation = op.push(k, jobs)
            elif replaces:
                operation = replace(k, group[0], max_pending)
            else:
                operation = op.enqueue(k, jobs, due=due, max_pending=max_pending, unique=unique)
            scripts.append(Script(operation, group[start : start + len(jobs)]))
            start += len(jobs)
    return scripts


class EnqueueReplies:
    """The answers to one plan, gathered over its round trips."""

    def __init__(self) -> None:
        self.existing: dict[str, str] = {}  # ids that were asked for -> ids of who has their keys
        self.failed: dict[str, StoreError | QueueFull] = {}
        self.new: set[str] = set()  # queues that nobody had counted anything in

    def take(self, scripts: Sequence[Script], answers: Sequence[Enqueued | StoreError]) -> None:
        """Note the answer to each script."""
        for script, answer in zip(scripts, answers, strict=True):
            if isinstance(answer, StoreError):
                self.failed |= {one.job_id: answer for one in script.calls}
            elif answer.word == "full":
                full = f"has {answer.waiting} jobs waiting, which is its bound"
                for one in script.calls:
                    self.failed[one.job_id] = QueueFull(f"queue {one.queue!r} {full}")
            elif answer.new:
                self.new.add(script.calls[0].queue)
            elif answer.word == "exists":
                self.existing[script.calls[0].job_id] = answer.existing_id

    def fail(self, scripts: Sequence[Script], error: StoreError) -> None:
        """Note that these scripts came to nothing, as far as is known; what was refused stays so."""
        for one in (one for script in scripts for one in script.calls):
            self.failed.setdefault(one.job_id, error)

    def ids_of(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Return the ids of all jobs of one caller, or raise why some were not accepted."""
        existing = self.existing
        if self.failed:
            self._raise_for(calls)
        if not existing:
            return [one.job_id for one in calls]
        return [existing.get(one.job_id, one.job_id) for one in calls]

    def _raise_for(self, calls: Sequence[Call[Any]]) -> None:
        error = next((e for one in calls if (e := self.failed.get(one.job_id))), None)
        if error is None:
            return
        # Each caller has an exception of its own: it is raised, and gets a traceback.
        copy = type(error)(*error.args)
        copy.accepted = tuple(
            self.existing.get(one.job_id, one.job_id)
            for one in calls
            if one.job_id not in self.failed
        )
        raise copy from error


class Producer:
    """Enqueues, blocking or awaited. Shared by all threads and event loops of a process.

    Args:
        url: where Redis is.
        max_pending: refuse jobs for a queue in which so many wait; 0 for never.
        confirm_replicas: how many replicas must have a job before it counts as accepted.
        confirm_timeout_s: how long they have to say so, seconds.
    """

    plan: staticmethod[[Sequence[Call[Any]], int], list[Script]] = staticmethod(_plan)

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
        self.store: Store = Store(url, name=_NAME)
        self.joins_queues: bool = self.store.joins_queues
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = WeakKeyDictionary()
        self._registered: set[str] = set()

    def send(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Enqueue jobs; give the id of each, which with a key may be an earlier job's.

        Raises:
            StoreUnavailable: Redis cannot be reached; nothing of the round trip was sent.
            ReplyLost: sent, but the answer never came: the jobs may have been accepted.
            NotReplicated: too few replicas have confirmed the jobs.
            StoreRefused: Redis answered with an error.
            QueueFull: too many jobs wait already.
        """
        return self.store.follow(self.trips(calls)).ids_of(calls)

    async def asend(self, calls: Sequence[Call[Any]]) -> list[str]:
        """Enqueue jobs, sharing the round trip with calls under way. Else as ``send``."""
        return await self._here().jobs.ask(calls)

    def astore(self) -> AsyncStore:
        """Return the running event loop's store for questions, which share round trips."""
        return self._here().questions

    def close(self) -> None:
        """Close the blocking store's connections. The producer can be used again."""
        self.store.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The producer can be used again."""
        here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.until_the_loop_ends.aclose()

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            for known in self._loops.keyrefs():  # a list: other threads' loops come and go
                if (other := known()) and other.is_closed():
                    # Without a word to its generators, as asyncio.run has; seen by many threads.
                    with contextlib.suppress(KeyError):
                        self._loops.pop(other).abandon()
            here = self._loops[loop] = _Here(self, loop)
        return here

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget an event loop that ends."""
        self._loops.pop(loop, None)

    def trips(self, calls: Sequence[Call[Any]]) -> Flow[EnqueueReplies]:
        """Enqueue jobs, as a flow: as many round trips as they need."""
        replies = EnqueueReplies()
        if any(map(_expires_ms, calls)):
            try:
                calls = resolved(calls, (yield op.time_ms()))
            except StoreError as error:
                # Whatever became of the question, no job was sent.
                sent_none = StoreUnavailable(str(error)) if error.may_have_happened else error
                replies.fail(self.plan(calls, self.max_pending), sent_none)
                return replies
        scripts = self.plan(calls, self.max_pending)
        # A new queue is made known in the same trip, once for each queue and process; and again when
        # it had been forgotten. After its jobs, for then it cannot be forgotten in between.
        new = {one.queue for one in calls} - self._registered
        register = [op.register(queue) for queue in sorted(new)] if new else []
        for start in range(0, len(scripts), _SCRIPTS_A_TRIP):
            some = scripts[start : start + _SCRIPTS_A_TRIP]
            requests: list[Operation[Any]] = [*[script.operation for script in some], *register]
            confirm = self._confirmation(some[0]) if self._confirm[0] else []
            try:
                answers = yield [*requests, *confirm]
                if Look in map(type, answers):
                    answers = yield from looked(answers, confirm)
                replies.take(some, answers[: len(some)])
                if confirm:
                    self._check_confirmed(answers[len(requests) :])
                if forgotten := replies.new - new:
                    yield [op.register(queue) for queue in sorted(forgotten)]
                    replies.new.clear()
            except StoreError as error:
                replies.fail(scripts[start:], error)
                break
            register = []
            self._registered |= new
        return replies

    def _confirmation(self, script: Script) -> list[Operation[Any]]:
        return op.confirmation(keys_of(script.calls[0].queue), *self._confirm)

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


class _Here:
    """What a producer has in one event loop: it ends with the loop."""

    def __init__(self, producer: Producer, loop: asyncio.AbstractEventLoop) -> None:
        self._producer = producer
        self._store = AsyncStore(producer.url, name=_NAME)
        self.questions = SharedStore(producer.url, name=_NAME)
        self.jobs: Together[Sequence[Call[Any]], list[str]] = Together(self._send, _CALLS_A_TRIP)
        self.until_the_loop_ends = self._until_the_loop_ends(loop)
        # Run up to its first yield: from then on the loop knows of it, and closes it when it ends.
        with contextlib.suppress(StopIteration):
            self.until_the_loop_ends.__anext__().send(None)

    def abandon(self) -> None:
        self._store.abandon()
        self.questions.abandon()

    async def _until_the_loop_ends(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._producer.forget(loop)
            await self._store.close()
            await self.questions.close()

    async def _send(self, batch: list[Sequence[Call[Any]]]) -> list[list[str] | Exception]:
        everything = [one for calls in batch for one in calls]
        replies = await self._store.follow(self._producer.trips(everything))
        return [_ids_or_error(replies, calls) for calls in batch]


def _ids_or_error(replies: EnqueueReplies, calls: Sequence[Call[Any]]) -> list[str] | Exception:
    try:
        return replies.ids_of(calls)
    except Exception as error:
        return error
