"""A claimed job: what a consumer reads of its bytes before anything runs, and where it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from headrace import operations as op
from headrace import wire
from headrace.context import Context
from headrace.ids import new_id
from headrace.keys import Keys
from headrace.operations import AdoptAnswer, Commit, Operation, Outcome
from headrace.policy import SUSPECT_CRASHES, LeasePolicy
from headrace.task import Task
from headrace.wire import Body, Head
from headrace.workflows.member import hand_off_of

if TYPE_CHECKING:
    import asyncio


LONGEST_S: Final = 1e10
"""Three centuries: further ahead, sums of milliseconds lose their meaning."""

Unrunnable = Literal["malformed", "too_large", "unknown_task", "no_slot", "expired"]


Phase = Literal["arrived", "ready", "running", "ended", "settling", "lost", "gone"]
"""Where a claimed job is on its way through the consumer; ``NEXT`` has the ways.

- arrived: it waits for Redis to say that it is ours.
- ready: it waits for a slot.
- running: it has a slot.
- ended: its outcome waits to be told to Redis.
- settling: its outcome is on the way, and may be in effect: it may even be claimed again.
- lost: it is, or may be, another consumer's; what still runs of it changes nothing.
- gone: nothing is left of it here.

Words and no enumeration: to look up a member takes 105 ns on Python 3.11, a dozen times for each job.
"""

NEXT: Final[Mapping[Phase, frozenset[Phase]]] = {
    "arrived": frozenset({"ready", "ended", "gone"}),
    # Given back or told to end before it has begun, it ends; no thread had time: it waits again.
    "ready": frozenset({"running", "ended", "gone"}),
    "running": frozenset({"ready", "ended", "lost"}),
    "ended": frozenset({"settling", "gone"}),
    "settling": frozenset({"ended", "gone"}),
    "lost": frozenset({"gone"}),
    "gone": frozenset(),
}
"""From where a job may go where. The tests hold each step against it; at work that would cost."""


@dataclass(eq=False)
class ClaimedJob:
    """One job in this consumer's hands, from its claim until it is settled.

    Attributes:
        k: its queue's keys.
        number: its claim number; with the consumer's name the claim token.
        head: its id and counters.
        body: its bytes after the head.
        moved: its bytes in processing as it was claimed …
        job: … and as they have to stand there while it runs.
        leased_until: until when nobody else gets it, by this process' monotonic clock.
        owned: Redis knows it as ours. A job that came by a blocking move is not, until it is adopted.
        phase: where it is.
        outcome: what became of it, when it has ended.
        kept: the lease keeper has adopted it, meanwhile, or may have.
        unrunnable: why it cannot be run, or None.
        problem: what reading it raised.
        decoded: what to call, when it can be run.
        task: the task, when it can be run.
        context: what the task may know, when it can be run.
        started: when it began to run (monotonic); 0 before.
        deadline: when its time is over, or its soft timeout comes (monotonic); None without bound.
        async_run: the asyncio task that runs it, when its task is async.
        stopped_at: when the loop saw that it was told to end (monotonic); 0 before.
        interrupted: an exception is, or was, about to be raised in its thread …
        was_interrupted: … and has been.
        alone: it runs, or is about to run, in a process of its own.
        wanted: its workflow wants its result, whoever else does.
        freed_key: the key that its adoption frees, as ``keys.unique`` has it; "" if there is none.
        hold: puts it into its lane, when limits do not let it run yet.
    """

    k: Keys
    number: int
    head: Head
    body: bytes
    moved: bytes
    job: bytes
    leased_until: float
    owned: bool = False
    unrunnable: Unrunnable | None = None
    problem: BaseException | None = None
    decoded: Body | None = None
    task: Task[Any, Any] | None = None
    context: Context | None = None
    phase: Phase = "arrived"
    outcome: Outcome | None = None
    kept: bool = False
    started: float = 0.0
    deadline: float | None = None
    async_run: asyncio.Task[None] | None = None
    stopped_at: float = 0.0
    interrupted: bool = False
    was_interrupted: bool = False
    alone: bool = False
    wanted: bool = False
    hold: Commit | None = None
    freed_key: str = ""

    @property
    def begun(self) -> bool:
        """Whether it was let run before Redis had said that it is ours."""
        return not self.owned and self.phase != "arrived"

    @property
    def suspect(self) -> bool:
        """Whether consumers were lost beside it so often that it has to run alone.

        One of a task whose runs have processes of their own harms nobody else.
        """
        suspicious = self.head.crashes >= SUSPECT_CRASHES and self.unrunnable is None
        return suspicious and not self.isolated

    @property
    def isolated(self) -> bool:
        """Whether its task asks for a process of its own for each run."""
        return self.task is not None and self.task.config.limits.isolated

    @property
    def result_ttl_ms(self) -> int:
        """How long its result is kept, ms; 0 for not at all."""
        own_s = self.decoded.result_ttl if self.decoded is not None else None
        task_s = self.task.config.result_ttl_s if self.task is not None else None
        seconds = own_s if own_s is not None else task_s
        if not seconds:
            return 0
        # A foreign job may wish for anything; Redis refuses what lies beyond its calendar.
        return round(min(max(seconds, 0), LONGEST_S) * 1000)

    def renamed(self) -> None:
        """Take another id: the one it came with is in use."""
        self.head = self.head._replace(id=new_id())
        # Not the body: that of a malformed job is all of its bytes.
        _, rest = wire.split(self.job) or (self.head, self.body)
        self.job = wire.join(self.head, rest)
        if self.context is not None:
            self.context.job_id = self.head.id


def read(
    raw: bytes,
    k: Keys,
    number: int,
    *,
    tasks: Mapping[str, Task[Any, Any]],
    leased_until: float,
    moved: bool,
    max_bytes: int = wire.DEFAULT_MAX_BYTES,
) -> ClaimedJob:
    """Read the bytes of a claimed job; whatever is wrong with them makes it unrunnable.

    Args:
        raw: its bytes in processing.
        k: its queue's keys.
        number: its claim number.
        tasks: the tasks that are known here.
        leased_until: until when nobody else gets it (monotonic).
        moved: it came by a blocking move, so that it has no lease yet.
        max_bytes: how large a job may be, its ``error`` not counted.
    """
    parts = wire.split(raw)
    if parts is None:
        claimed = _read_bare(raw, k, number, leased_until)
    else:
        head, body = parts
        claimed = ClaimedJob(k, number, head, body, raw, raw, leased_until, owned=not moved)
    if claimed.unrunnable is None:
        _read_body(claimed, tasks)
    if claimed.unrunnable is None and len(claimed.job) > max_bytes:
        claimed.unrunnable = "too_large"
        claimed.problem = ValueError(f"{len(claimed.job):,} bytes; the limit is {max_bytes:,}")
    return claimed


def adoption(
    claimed: ClaimedJob, consumer: str, policy: LeasePolicy, *, begun: bool
) -> Operation[AdoptAnswer]:
    """Describe the adoption of a job that Redis does not know as ours."""
    return op.adopt(
        claimed.k,
        token=f"{consumer}:{claimed.number}",
        lease_ms=policy.lease_ms,
        moved=claimed.moved,
        job_id=claimed.head.id,
        job=claimed.job,
        begun=begun,
        key=claimed.head.key or claimed.freed_key,
    )


def _read_bare(raw: bytes, k: Keys, number: int, leased_until: float) -> ClaimedJob:
    try:
        head, body = wire.canonical(raw)
    except Exception as error:
        # Until it is a dead letter it stands in processing as one, for a lease needs an id in the
        # item's own bytes: equal items could not be told apart.
        problem = wire.error_of("malformed", None, failed_at=0, consumer="")
        job = wire.malformed_letter(raw, problem)
        head, _ = wire.split(job) or (Head(new_id()), b"")
        return ClaimedJob(
            k, number, head, raw, raw, job, leased_until, unrunnable="malformed", problem=error
        )
    return ClaimedJob(k, number, head, body, raw, wire.join(head, body), leased_until)


def _read_body(claimed: ClaimedJob, tasks: Mapping[str, Task[Any, Any]]) -> None:
    try:
        decoded = wire.read_body(claimed.job)
    except Exception as error:
        _unwrap(claimed, error, tasks)
        return
    if decoded.error:  # redriven, by us or by a plain LMOVE: its failures are forgotten
        body = wire.revived(claimed.body)
        claimed.head, claimed.body = wire.renewed(claimed.head), body
        claimed.job, claimed.owned = wire.join(claimed.head, claimed.body), False
        decoded = wire.read_body(claimed.job)
    claimed.decoded = decoded
    claimed.task = task = tasks.get(decoded.task)
    if task is None:
        claimed.unrunnable = "unknown_task"
        return
    if claimed.head.key and claimed.body.startswith(op.KEY_UNTIL_START):
        claimed.freed_key = claimed.head.key
        claimed.head = claimed.head._replace(key="")
        claimed.body = claimed.body.removeprefix(op.KEY_UNTIL_START)
        claimed.job, claimed.owned = wire.join(claimed.head, claimed.body), False
    claimed.context = Context(
        job_id=claimed.head.id,
        queue=claimed.k.queue,
        task=decoded.task,
        attempt=claimed.head.attempt + 1,
        delivery=claimed.head.delivery,
        max_attempts=decoded.max_attempts or task.config.max_attempts,
        job=claimed.job,
    )
    if decoded.workflow and (hand_off := hand_off_of(decoded.workflow)) is not None:
        claimed.context.hand_off, claimed.wanted = hand_off, hand_off.member.keep > 0


def _unwrap(claimed: ClaimedJob, error: Exception, tasks: Mapping[str, Task[Any, Any]]) -> None:
    """Look into a malformed job; the letter of one, moved back by hand, holds its exact bytes."""
    payload = wire.wrapped_payload(wire.read_error(claimed.job))
    if payload is not None:
        try:
            _, body = wire.canonical(payload)
            job = wire.join(wire.renewed(claimed.head), body)
            wire.read_body(job)
        except Exception as inner:
            claimed.body, error = payload, inner
        else:
            claimed.head, claimed.body = wire.renewed(claimed.head), body
            claimed.job, claimed.owned = job, False
            _read_body(claimed, tasks)
            return
    else:
        claimed.body = claimed.moved
    claimed.unrunnable, claimed.problem = "malformed", error
