"""What a running job may know and ask about itself: ``ctx: Context = CURRENT``."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any, Final, Literal, Protocol, Unpack

import msgspec

from headrace.errors import InvalidJob, JobStopped
from headrace.handoff import FlowOptions, HandOff

StopReason = Literal["soft_timeout", "timeout", "lost", "cancelled", "shutdown"]


@dataclass(slots=True, eq=False)
class Context:
    """One run of one job.

    Attributes:
        job_id: the job's id; with ``delivery`` a key for making side effects idempotent.
        queue: the queue it came from.
        task: the task's name.
        attempt: which attempt this is, from 1.
        delivery: how often the job was handed out before; grows with every return, never reset.
            Hand it to other systems as a fencing number.
        max_attempts: after how many failed attempts the job dies.
        stop_reason: why the task should end, or None. ``soft_timeout``: it has run for so long that
            it should end in its own way, and nothing ends it before ``timeout``, which may follow:
            it has run too long; ``lost``:
            another consumer has the job now; ``cancelled``: somebody cancelled it; ``shutdown``: the
            consumer's grace period is over. An async task is cancelled as well; in the thread of a
            sync one that has not ended a second later ``JobInterrupted`` is raised, but for
            ``shutdown``, when the process ends.
        hand_off: what ``enqueue`` has collected; None as long as there is nothing.
        job: its bytes.
    """

    job_id: str
    queue: str
    task: str
    attempt: int
    delivery: int
    max_attempts: int
    stop_reason: StopReason | None = field(default=None)
    hand_off: HandOff | None = field(default=None, repr=False)
    job: bytes = field(default=b"", repr=False)

    @property
    def scheduled_at(self) -> datetime | None:
        """The tick of the schedule that enqueued this job, in UTC; None if none did."""
        tick = tick_of(self.job)
        return None if tick is None else datetime.fromtimestamp(tick[1] / 1000, UTC)

    @property
    def headers(self) -> dict[str, str]:
        """What travelled beside the arguments: hooks around the enqueue, and ``headers=``, give it."""
        return headers_of(self.job)

    @property
    def state(self) -> Any:
        """What the application's lifespan has opened, as attributes: ``ctx.state.pool``."""
        return lifespan_state.get()

    @property
    def stopping(self) -> bool:
        """Whether the task should end: look at it in loops of a sync task."""
        return self.stop_reason is not None

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tell how far the job is. It costs next to nothing: Redis hears the last of each second.

        Others see it by ``job.progress()``, ``headrace explain``, the HTTP API and the page.

        Args:
            done: how much is done …
            total: … of how much; None if that is not known.
            note: what it does, in words; 200 characters are kept.

        Raises:
            InvalidSetting: a number is none, or below 0.
        """
        for reporter in reporters:
            reporter.progress(self, done, total, note)

    def check(self) -> None:
        """End the task if it should end.

        Raises:
            JobStopped: it should; let it pass.
        """
        if self.stop_reason is not None:
            raise JobStopped(self.stop_reason)

    def enqueue(self, call: Any, **options: Unpack[FlowOptions]) -> str:
        """Hand a job on, or a workflow: it is enqueued in the same step that ends this one well, or not at all.

        Nothing is sent here, so that it is the same in ``def`` and ``async def`` tasks. When this run
        fails, is tried again or given back, what it has handed on is dropped: the next run does so anew.

        Args:
            call: as ``task.call(…)`` or ``task.options(…).call(…)`` makes it; or a ``chain``, ``group``,
                ``chord`` or ``Dag`` of such.
            options: of a workflow, as its ``enqueue`` takes them: ``on_failure``, ``ttl``, ``window``.

        Returns:
            The id that the job will have, or the workflow, for ``app.workflow(id, queue=…)``.

        Raises:
            InvalidArguments: it is neither; or it is a call, and there are options.
            InvalidSetting: an option has no meaning; or a hook around the enqueue is async.
            InvalidJob: this is no job, or one that has ended; or it hands on more than 1,000 jobs or 1 MiB;
                or, on a cluster, one of another queue.
        """
        if not self.job_id:
            raise InvalidJob("no job runs here that could hand one on: use add.enqueue(1, 2)")
        if self.hand_off is None:
            self.hand_off = HandOff()
        return self.hand_off.add(call, self.queue, options)


class _Tick(msgspec.Struct, frozen=True):
    schedule: str
    scheduled_at: Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]  # up to 9999


_decode_tick: Final = msgspec.json.Decoder(_Tick).decode


def tick_of(job: bytes) -> tuple[str, int] | None:
    """Return which schedule enqueued a job, and for which tick (ms since 1970); None if none did."""
    try:
        found = _decode_tick(job)
    except Exception:  # whatever decoding raises: it has no such fields, or another's
        return None
    return found.schedule, found.scheduled_at


class _WithHeaders(msgspec.Struct, frozen=True):
    headers: dict[str, str]


_decode_headers: Final = msgspec.json.Decoder(_WithHeaders).decode


def headers_of(job: bytes) -> dict[str, str]:
    """Return what travels beside a job's arguments; of a foreign job it may be anything: then nothing."""
    try:
        return _decode_headers(job).headers
    except Exception:  # as above
        return {}


def is_final(reason: StopReason | None) -> bool:
    """Whether a job that is to end for this reason is ended, if it does not end by itself."""
    return reason not in (None, "soft_timeout")


class Reporter(Protocol):
    """Takes what jobs tell while they run. Called by any thread; what is not its own it leaves alone."""

    def progress(self, context: Context, done: float, total: float | None, note: str) -> None:
        """Take how far a job is."""


reporters: Final[list[Reporter]] = []
"""Those of this process: each consumer has one."""

current_job: ContextVar[Context | None] = ContextVar("current_job", default=None)
"""The job that runs here: set by the consumer, each in a context of its own."""

lifespan_state: ContextVar[SimpleNamespace] = ContextVar(
    "lifespan_state",
    default=SimpleNamespace(),  # noqa: B039 - nobody writes into it
)
"""Set by the lifespan, before the consumer begins: each job's context is a copy of the consumer's."""

_NO_JOB: Final = Context(job_id="", queue="", task="", attempt=1, delivery=0, max_attempts=1)


class _Current(Context):
    """The context of the job that runs here, whichever it is."""

    def __init__(self) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        return getattr(current_job.get() or _NO_JOB, name)


CURRENT: Final[Context] = _Current()
"""The context of the job that runs here. Outside of a job it has no id and never stops.

As the default of a task's parameter it lets callers leave the context out, also in the eyes of a type
checker: ``def charge(order: int, ctx: Context = CURRENT)``. The consumer passes the job's own.
"""
