"""Every exception that Headrace raises.

HeadraceError
├── InvalidJob                what you asked for cannot be a job (also a ValueError)
│   ├── InvalidArguments      the call does not fit the task's signature (also a TypeError)
│   │   └── Undecryptable     a job's arguments are encrypted, and no key here fits
│   ├── PayloadTooLarge       the job is larger than the limit
│   └── UnknownTask           no task of that name is registered here
├── InvalidSetting            a setting, URL or option has no meaning (also a ValueError)
├── JobExists                 an earlier job has the key, and ``if_exists="reject"``; nothing was enqueued
├── QueueFull                 the queue is at its ``max_pending``; nothing was enqueued
├── StoreError                Redis did not do what was asked
│   ├── StoreUnavailable      nothing was sent: it did not happen
│   │   └── HostUnknown       its name is not known to the resolver
│   ├── ReplyLost             sent, but the answer never came: it may have happened
│   ├── NotReplicated         Redis has it, but not enough replicas said that they have it too
│   ├── StoreRefused          Redis answered with an error: it did not happen
│   │   ├── StoreFull         it has no memory left for new jobs
│   │   ├── AccessDenied      it wants a (another) user and password
│   │   ├── NotPermitted      its user may not do that, or the command is renamed
│   │   └── DatabaseUnknown   it has no database of that number
│   └── StoreUnsuitable       what answers is not a Redis >= 7.0 or Valkey >= 7.2
│       └── ClusterUnsupported  it is a node of a cluster; or that cannot be one step there
├── LifespanFailed            a consumer cannot open what its application needs; the message says why
├── EmbeddedServerError       the embedded server cannot start here; the message says why
├── ResultError               there is no result to give
│   ├── NoResult              none is kept, it cannot be written, or nothing is known of the job
│   ├── ResultTimeout         none came in time; the job goes on (also a TimeoutError)
│   ├── JobFailed             the job ended in the dead letters; its cause is what the task raised
│   └── JobCancelled          the job was cancelled
├── LimitExceeded             a run took more memory or processor time than its task may
├── JobStopped                raised *in* a task by ``Context.check``: it should end
├── Retry                     raised *by* a task: run the job again
└── Reject                    raised *by* a task: end the job in the dead letters now

JobInterrupted                raised *in* the thread of a sync task that goes on: a BaseException
"""

from __future__ import annotations

from typing import Any


class HeadraceError(Exception):
    """Base of every exception of Headrace.

    Attributes:
        exit_code: with which a program ends because of it (the table is in docs/operators.md).
    """

    exit_code = 1


class InvalidJob(HeadraceError, ValueError):
    """What was asked for cannot be a job. Nothing was enqueued."""

    exit_code = 2


class InvalidArguments(InvalidJob, TypeError):
    """The arguments do not fit the task's signature. Nothing was enqueued."""


class Undecryptable(InvalidArguments):
    """A job's arguments are encrypted, and cannot be decrypted here; the message says why and what to do."""


class PayloadTooLarge(InvalidJob):
    """The job is larger than the limit. Store the data elsewhere and enqueue its address."""


class UnknownTask(InvalidJob):
    """No task of that name is registered here."""


class InvalidSetting(HeadraceError, ValueError):
    """A setting, URL or option has no meaning; the message names it and what would do."""

    exit_code = 2


class JobExists(HeadraceError):
    """An earlier job has the key already, and ``if_exists="reject"``. This one was not enqueued.

    Attributes:
        job: the handle of that job.
    """

    def __init__(self, message: str, job: Any) -> None:
        super().__init__(message)
        self.job: Any = job


class QueueFull(HeadraceError):
    """The queue holds as many waiting jobs as it may.

    Attributes:
        accepted: ids of the jobs of a large call that were enqueued before it was full.
    """

    accepted: tuple[str, ...] = ()


class StoreError(HeadraceError):
    """Redis did not do what was asked.

    Attributes:
        may_have_happened: True when the request was sent and its success is not known, so that only
            a look at the queue can tell whether it took effect.
        accepted: ids of the jobs of a large call that were enqueued for certain.
        timed_out: True when Redis gave no sign of life, so that it may be alive for others.
        lasting: True when to wait does not help: somebody has to change something.
    """

    lasting = False

    may_have_happened = False
    timed_out = False
    accepted: tuple[str, ...] = ()


class StoreUnavailable(StoreError):
    """Redis cannot be reached; nothing was sent. It is safe to call again."""


class HostUnknown(StoreUnavailable):
    """The name of its host is not known here: misspelt, or not known yet."""

    exit_code = 15


class ReplyLost(StoreError):
    """The request was sent and the answer never came: it may have happened.

    A second ``enqueue`` may therefore make a second job, unless both carry the same ``key``.
    """

    may_have_happened = True


class NotReplicated(StoreError):
    """The primary has the jobs, but too few replicas confirmed in time that they have them too.

    They will most likely run; only if the primary is lost right now are they lost with it. A second
    ``enqueue`` makes a second job, unless both carry the same ``key``; then it asks again whether
    the first one is replicated. ``accepted`` lists those that were confirmed.
    """

    may_have_happened = True


class StoreRefused(StoreError):
    """Redis answered with an error (out of memory, read-only, loading, no permission)."""


class StoreFull(StoreRefused):
    """Redis has reached its ``maxmemory``: it takes no new jobs until consumers have made room."""


class AccessDenied(StoreRefused):
    """Redis does not let us in: the user or the password is missing, or wrong."""

    exit_code = 10
    lasting = True


class NotPermitted(StoreRefused):
    """The user may not give this command or touch this key, or the command was renamed."""

    exit_code = 11
    lasting = True


class DatabaseUnknown(StoreRefused):
    """Redis has no database of that number."""

    exit_code = 12
    lasting = True


class StoreUnsuitable(StoreError):
    """What answers is not a Redis >= 7.0 or Valkey >= 7.2."""

    exit_code = 13
    lasting = True


class ClusterUnsupported(StoreUnsuitable):
    """What answers is a node of a cluster, whose URL is ``redis+cluster://…``; or a step would span its nodes."""

    exit_code = 14


LASTING_CODES = frozenset(range(10, 16))
"""Exit codes of a program that would end alike if it were started again."""


class EmbeddedServerError(HeadraceError):
    """The embedded server cannot start here; the message says why and what to do."""


class LifespanFailed(HeadraceError):
    """A consumer cannot begin, for its application's lifespan could not be opened."""


class ResultError(HeadraceError):
    """There is no result to give."""


class NoResult(ResultError):
    """The task keeps no results (``result_ttl=``), or not this one, or the job is not known."""


class ResultTimeout(ResultError, TimeoutError):
    """No result came in time. The job itself goes on."""


class JobFailed(ResultError):
    """The job ended in the dead letters (or would have, were they not switched off).

    Attributes:
        reason: one of the words in ``headrace.wire.Reason``.
        error_type: the name of the exception that the task raised, or "".
        traceback: the task's traceback as text, or "".
    """

    def __init__(
        self, message: str, *, reason: str, error_type: str = "", traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.error_type = error_type
        self.traceback = traceback


class JobCancelled(ResultError):
    """The job was cancelled before it finished."""


class LimitExceeded(HeadraceError):
    """A run took more memory or processor time than its task may: for ``give_up_on=``, and in letters.

    Attributes:
        peak_mib: the most memory that its process held, MiB.
        stack: where it was last seen, when it could not say so itself.
    """

    def __init__(self, message: str, *, peak_mib: int = 0, stack: str = "") -> None:
        super().__init__(message)
        self.peak_mib = peak_mib
        self.stack = stack


class JobStopped(HeadraceError):
    """Raised in a task by ``Context.check``: it should end; let it pass."""


class JobInterrupted(BaseException):
    """Raised in the thread of a sync task that was told to end, and goes on: let it pass.

    It can come anywhere in the task, a second after ``Context.stop_reason`` was set. Like
    ``asyncio.CancelledError`` it is no ``Exception`` (and so no ``HeadraceError``): ``except
    Exception`` must not take it for an error of the task's own. Like ``KeyboardInterrupt`` it may
    come just when a lock of Python's ``threading`` has been taken, which then stays taken: a task
    that shares one with others looks at ``Context.stop_reason``, or runs ``isolate="process"``.
    """

    def __init__(self) -> None:
        super().__init__("it was told to end, and went on")


class Retry(HeadraceError):
    """Raised by a task to be run again, although nothing is wrong with the task.

    Counts as an attempt, so ``max_attempts`` bounds it.

    Args:
        in_: seconds until the next attempt; None takes the task's backoff.
        reason: a word for the logs.
    """

    def __init__(self, reason: str = "", *, in_: float | None = None) -> None:
        super().__init__(reason or "retry")
        self.in_s = in_


class Reject(HeadraceError):
    """Raised by a task to end its job in the dead letters now, whatever attempts are left."""
