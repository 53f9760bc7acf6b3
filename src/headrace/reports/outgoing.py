"""Outgoing: the items of one run on their way to Redis.

They are numbered from 1 and sent in order, many at a time, and again until Redis has said that it has
them. What is kept is bounded: the last 10,000 items, and 16 MiB.

The task's thread and the reporter's share no lock: a task that is interrupted just when it has taken one
would keep it, and hold up what all other jobs tell. Each writes fields of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from headrace.clock import monotonic
from headrace.context import Context
from headrace.errors import StoreError, StoreFull, StoreRefused
from headrace.keys import Keys
from headrace.operations import Argument, Operation, run, text
from headrace.reports.keys import stream_of
from headrace.scripts import MAX_BYTES

KEPT_ITEMS: Final = 10_000
KEPT_BYTES: Final = 1 << 24

ENDLESS_MS: Final = 86_400_000
"""How long the items of a run outlive its last one while it is not over, beside the result's time."""

BESIDE_MS: Final = 60_000
"""How long they outlive its result, which is told a little later."""

ITEM: Final = b"i"
OVER: Final = b"e"

_AHEAD: Final = 100  # items that may be on the way before the task has to wait
_A_CALL: Final = 500
_REFUSED_S: Final = (
    10.0  # so long a Redis may refuse them that is not full: it loads, or was demoted
)


class Claim(Protocol):
    """A claimed job, as the consumer has it."""

    k: Keys
    number: int
    job: bytes
    owned: bool
    context: Context | None

    @property
    def result_ttl_ms(self) -> int:
        """How long its result is kept, ms; 0 for not at all."""


class Outgoing:
    """The items of one run. What the task puts, the reporter's thread sends.

    Args:
        context: the job's …
        claim: … and its claim.
        consumer: the consumer's name.
        room: called by the thread when something has been stored, or never will be.
        put: tells the thread that there is something to send.

    Attributes:
        context, claim: the same.
        over: there is nothing more to send.
        error: why it will never be stored: Redis refuses it; the task should raise this.
        lost: it will never be stored: another has the job.
    """

    def __init__(
        self,
        context: Context,
        claim: Claim,
        consumer: str,
        room: Callable[[], None],
        put: Callable[[], None],
    ) -> None:
        self.context: Context = context
        self.claim: Claim = claim
        self._token = f"{consumer}:{claim.number}"
        self._room = room
        self._put = put
        # Those that Redis may not have: the task appends, the thread takes away.
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._taken_bytes = 0  # by the task …
        self._stored_bytes = 0  # … and of these, what the thread has taken away
        self._first = 1  # the number of the first of them
        self._sent = 0  # how many of them are on the way
        self._kept: deque[int] = deque()  # the sizes of those that Redis has and keeps
        self._kept_bytes = 0
        self._refused_at = 0.0
        self._closed = False
        self.error: StoreError | None = None
        self.lost: bool = False

    @property
    def waits(self) -> bool:
        """Whether there is something to send."""
        return bool(self._waiting) and not self.over

    @property
    def full(self) -> bool:
        """Whether the task should wait before it puts more."""
        return not self.over and (
            len(self._waiting) >= _AHEAD or self._taken_bytes - self._stored_bytes >= MAX_BYTES
        )

    @property
    def over(self) -> bool:
        """Whether nothing is sent any more: all is stored, or never will be."""
        return self.lost or self.error is not None or (self._closed and not self._waiting)

    def put(self, item: bytes) -> None:
        """Take an item."""
        self._take(ITEM, item)

    def close(self) -> None:
        """Take the end of the run: nothing comes after it."""
        self._take(OVER, b"")
        self._closed = True

    def lose(self) -> None:
        """Note that nothing more can be stored."""
        if not self.over:
            self.lost = True
            self._room()

    def _take(self, field: bytes, value: bytes) -> None:
        self._taken_bytes += len(value)
        self._waiting.append((field, value))
        self._put()

    # — the thread —

    def next(self) -> Operation[str] | None:
        """Return what to send: all that waits, as far as one call may carry it; None if nothing does."""
        args: list[Argument] = []
        size, count, ends = 0, 0, False
        for at in range(len(self._waiting)):  # it may grow meanwhile
            field, value = self._waiting[at]
            if count and (count >= _A_CALL or size + len(value) > MAX_BYTES):
                break
            args += (field, value)
            size, count = size + len(value), count + 1
            ends = field == OVER
        if not count:
            return None
        self._sent = count
        ttl_ms = self.claim.result_ttl_ms + (BESIDE_MS if ends else ENDLESS_MS)
        run_, keep = self.context.delivery, self._first - len(self._kept)
        k, job_id = self.claim.k, self.context.job_id
        head = (job_id, self._token, run_, self._first, max(1, keep), ttl_ms)
        return run("reports/append", (k.claims, stream_of(k, job_id)), (*head, *args), text)

    def take(self, answer: str | StoreError) -> None:
        """Take Redis' answer: what was sent is stored, or is sent again, or never will be."""
        if isinstance(answer, StoreError):
            self._fail(answer)
            return
        self._refused_at = 0.0
        if answer == "lost":
            self.lose()
            return
        for _ in range(self._sent):
            _, value = self._waiting.popleft()
            self._stored_bytes += len(value)
            self._kept.append(len(value))
            self._kept_bytes += len(value)
            self._first += 1
        while len(self._kept) > KEPT_ITEMS or self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= self._kept.popleft()
        self._room()

    def _fail(self, error: StoreError) -> None:
        """Send it again, unless Redis will go on to refuse it: that the task has to know."""
        if not isinstance(error, StoreRefused) or isinstance(error, StoreFull):
            self._refused_at = 0.0
            return
        self._refused_at = self._refused_at or monotonic()
        if error.lasting or monotonic() - self._refused_at > _REFUSED_S:
            self.error = error
            self._room()
