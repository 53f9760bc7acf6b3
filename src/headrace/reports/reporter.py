"""The reporter: the thread that tells Redis what the jobs of one consumer report while they run.

One round trip carries what all of them have told meanwhile: items at once, progress once a second. What
if the answer is lost? It is sent again: items have numbers, and progress is what it is. Nothing is sent
before Redis knows that the job is ours, for an adoption travels on another connection.

Tasks hand over what they tell without a lock, and another thread begins this one: a task that is
interrupted in between would keep the lock, and all other jobs would wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

from headrace.clock import monotonic
from headrace.context import Context, reporters
from headrace.errors import StoreError
from headrace.keys import Keys
from headrace.operations import Operation
from headrace.reports.outgoing import Claim, Outgoing
from headrace.reports.progress import KEPT_MS, Progress, Told, checked, tell
from headrace.scripts import MAX_BYTES
from headrace.store import Store

log: logging.Logger = logging.getLogger(__name__)

TELL_EVERY_S: Final = 1.0
"""How often progress is told; what comes between is passed over."""

_AGAIN_EVERY_S: Final = KEPT_MS / 3000  # so that it is kept while its job runs
_NOT_YET_S: Final = 0.02  # an adoption's answer comes in a moment
_RETRY_S: Final = 0.5
_MOST: Final = 100  # jobs in one call


@dataclass(slots=True)
class _Noted:
    """The last progress of a job."""

    claim: Claim
    progress: Progress
    told_at: float = 0.0  # when Redis last heard it (monotonic)
    new: bool = True


Request = tuple[Operation[Any], Callable[[Any], None]]
"""A part of a round trip, and what takes its answer, which may be an error."""


class Reporter:
    """Tells Redis what running jobs report. Its thread begins with the first report.

    Args:
        url, label: of the Redis, and of its connection to it.
        consumer: the consumer's name.
        find: gives the claim of a job of this consumer, by queue and id; None if it has none.
        call: lets a thread that is never interrupted call something soon.
    """

    def __init__(
        self,
        url: str,
        label: str,
        consumer: str,
        find: Callable[[str, str], Claim | None],
        call: Callable[[Callable[[], object]], object],
    ) -> None:
        self._url = url
        self._label = label
        self._consumer = consumer
        self._find = find
        self._call = call
        # Single operations on these are atomic; they are read as copies.
        self._noted: dict[Context, _Noted] = {}
        self._streams: dict[Outgoing, None] = {}
        self._thread: threading.Thread | None = None
        self._signals: SimpleQueue[None] = SimpleQueue()
        self._closed = False
        self._tell_at = self._retry_at = 0.0
        reporters.append(self)

    def progress(self, context: Context, done: float, total: float | None, note: str) -> None:
        """Take how far a job is, if it is one of this consumer.

        Raises:
            InvalidSetting: a number is none, or below 0.
        """
        claim = self._claim_of(context)
        if claim is None:
            return
        progress = checked(done, total, note, attempt=context.attempt, delivery=context.delivery)
        noted = self._noted.get(context)
        if noted is not None and noted.claim is claim:
            noted.progress = progress
            if noted.new:
                return  # the thread knows already, and reads it after it has said that it does not
            noted.new = True
        else:
            self._noted[context] = _Noted(claim, progress)
        self._wake()

    def open(self, context: Context, room: Callable[[], None]) -> Outgoing | None:
        """Begin the stream of a job; None if it is not one of this consumer, or its result is not kept.

        Args:
            context: the job's.
            room: called by the thread when what was put has been stored, or never will be.
        """
        claim = self._claim_of(context)
        if claim is None or not claim.result_ttl_ms:
            return None
        stream = Outgoing(context, claim, self._consumer, room, self._wake)
        self._streams[stream] = None
        if self._closed:
            stream.lose()
        return stream

    def close(self) -> None:
        """End the thread, if there is one; it answers within one request."""
        with suppress(ValueError):
            reporters.remove(self)
        self._closed = True
        self._signal()
        for stream in self._streams.copy():
            stream.lose()

    def _claim_of(self, context: Context) -> Claim | None:
        claim: Claim | None = None
        with suppress(KeyError):  # of another consumer's queue
            claim = self._find(context.queue, context.job_id)
        return claim if claim is not None and claim.context is context else None

    def _wake(self) -> None:
        self._signal()
        if self._thread is None and not self._closed:
            self._call(self._begin)

    def _signal(self) -> None:
        if self._signals.empty():
            self._signals.put(None)

    def _begin(self) -> None:
        if self._thread is None and not self._closed:
            name = "headrace-reports"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    # — in the thread —

    def _run(self) -> None:
        store = Store(self._url, name=self._label)
        try:
            while not self._closed:
                with suppress(Empty):
                    self._signals.get(timeout=self._pause_s())
                if monotonic() >= self._retry_at:
                    self._turn(store)
        finally:
            store.close()

    def _pause_s(self) -> float | None:
        """Return how long there is nothing to do, unless something comes; None for ever."""
        now, all_noted = monotonic(), self._noted.copy()
        if any(stream.waits for stream in self._streams.copy()):
            at = now + _NOT_YET_S
        elif any(noted.new for noted in all_noted.values()):
            at = max(self._tell_at, now + _NOT_YET_S)
        elif all_noted:
            at = now + _AGAIN_EVERY_S
        else:
            return None
        return max(0.0, max(at, self._retry_at) - now)

    def _turn(self, store: Store) -> None:
        requests = [*self._items(), *self._progress()]
        if not requests:
            return
        try:
            answers = store.run_all([operation for operation, _ in requests])
        except StoreError as error:
            answers = [error] * len(requests)
        for (_, take), answer in zip(requests, answers, strict=True):
            take(answer)
        failed = next((one for one in answers if isinstance(one, StoreError)), None)
        if failed is not None:
            log.debug("what jobs report is not told: %s", failed)
            self._retry_at = monotonic() + _RETRY_S
        for stream in self._streams.copy():
            if stream.over:
                self._streams.pop(stream, None)
            elif failed is None and stream.waits and stream.claim.owned:
                self._signal()  # some came meanwhile

    def _items(self) -> list[Request]:
        requests: list[Request] = []
        for stream in self._streams.copy():
            if self._claim_of(stream.context) is not stream.claim:
                stream.lose()
                self._streams.pop(stream, None)
            elif stream.claim.owned and (append := stream.next()) is not None:
                requests.append((append, stream.take))
        return requests

    def _progress(self) -> list[Request]:
        now = monotonic()
        if now < self._tell_at:
            return []
        by_queue: dict[Keys, list[tuple[Context, _Noted]]] = {}
        for context, noted in self._noted.copy().items():
            if self._claim_of(context) is not noted.claim:
                self._noted.pop(context, None)
            elif noted.claim.owned and (noted.new or now > noted.told_at + _AGAIN_EVERY_S):
                noted.new = False
                by_queue.setdefault(noted.claim.k, []).append((context, noted))
        if by_queue:
            self._tell_at = now + TELL_EVERY_S
        return [self._told(k, some) for k, all_ in by_queue.items() for some in _portions(all_)]

    def _told(self, k: Keys, some: Sequence[tuple[Context, _Noted]]) -> Request:
        told = [Told(c.job_id, noted.claim.number, noted.progress) for c, noted in some]
        return tell(k, self._consumer, told), partial(self._take_told, some)

    def _take_told(
        self, some: Sequence[tuple[Context, _Noted]], answer: list[str] | StoreError
    ) -> None:
        for context, noted in some:
            if isinstance(answer, StoreError):
                noted.new = True
            elif context.job_id in answer:
                self._noted.pop(context, None)
            else:
                noted.told_at = monotonic()


def _portions(
    noted: Sequence[tuple[Context, _Noted]],
) -> list[list[tuple[Context, _Noted]]]:
    """Cut into what one call may carry: Redis reads the jobs' bytes to find their tokens."""
    portions: list[list[tuple[Context, _Noted]]] = []
    size = MAX_BYTES
    for one in noted:
        if size >= MAX_BYTES or len(portions[-1]) >= _MOST:
            portions.append([])
            size = 0
        portions[-1].append(one)
        size += len(one[1].claim.job)
    return portions
