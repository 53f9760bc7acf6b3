"""The hand-off: jobs that a job enqueues with its own end, all of them or none (``Context.enqueue``)."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypedDict

from headrace import wire
from headrace.errors import InvalidArguments, InvalidJob
from headrace.expiry import check_instant
from headrace.scripts import MAX_BYTES, MAX_ITEMS

_SAY: Final = (
    "ctx.enqueue takes calls, as add.call(1, 2) and app.call('add', 1, 2) make them, and workflows of such, "
    "as chain(…) and group(…)"
)

_TOO_LARGE: Final = (
    f"on a cluster it travels inside another job, which would have more than {wire.DEFAULT_MAX_BYTES:,} "
    "bytes: hand on where its data are, not the data"
)

FORWARD: Final = "headrace.forward"
"""The task of envelopes."""

PLACEHOLDER: Final = f"headrace-result-{secrets.token_hex(8)}"
"""Stands in a call for what another job will return; nobody else's text can be taken for it."""
_PLACEHOLDER: Final = PLACEHOLDER.encode()


class Member(NamedTuple):
    """A job of a workflow that is handed on, for those who are to hear that it is enqueued."""

    job_id: str
    queue: str
    task: str


class FlowOptions(TypedDict, total=False):
    """How a workflow is run that is handed on: as its ``enqueue`` takes them."""

    on_failure: Literal["stop", "continue"]
    ttl: float | timedelta
    window: int


class FollowUp(NamedTuple):
    """A job that is handed on.

    Attributes:
        queue: where it goes.
        due: "", "+ms" from the end of the job that hands it on, or "@ms" since 1970.
        key: the key that it takes, percent-encoded; "" if none.
        key_ttl_ms: how long the key lives; 0 until the job ends.
        job_id: its id.
        job: its bytes.
        told: its task, if somebody is to hear that it is enqueued; else "".
        envelope: the job that forwards it to another node; b"" if it is on this one.
        members: of whom in its place somebody is to hear, if it starts a workflow …
        mark: … and a key in the slot of its queue that is set with it, for ``key_ttl_ms``, and to what.
    """

    queue: str
    due: str
    key: str
    key_ttl_ms: int
    job_id: str
    job: bytes
    told: str = ""
    envelope: bytes = b""
    members: tuple[Member, ...] = ()
    mark: tuple[str, str] | None = None


def envelope_around(
    queue: str, due: str, key: str, key_ttl_ms: int, job_id: str
) -> tuple[bytes, bytes]:
    """Return what stands before and after a job that goes to another node: together, a job that forwards it.

    It goes before all others that wait. A due from now counts from when the job comes there.
    """
    head = wire.Head(f"{job_id}-forward", priority=wire.MAX_PRIORITY)
    body = wire.encode_call(FORWARD, (queue, due, key, key_ttl_ms), {})
    return wire.join(head, body.removesuffix(b"]}")) + b",", b"]}"


def is_placeholder(value: object) -> bool:
    """Whether an argument stands for what another job will return."""
    return isinstance(value, str) and value.startswith(PLACEHOLDER)


class HandOff:
    """What one run has to hand on. Made when it is first asked for; safe from any thread.

    Attributes:
        jobs: what was collected.
        size: its bytes.
    """

    __slots__ = ("_closed", "_lock", "jobs", "size")

    def __init__(self, *, closed: bool = False) -> None:
        self._lock = threading.Lock()
        self._closed = closed
        self.jobs: list[FollowUp] = []
        self.size: int = 0

    def add(self, call: Any, home: str, options: FlowOptions | None = None) -> str:
        """Collect a call or a workflow, through its hooks; return the id that its job will have, or it.

        Args:
            call: the call (``task.call(…)``), or the steps of a workflow.
            home: the queue of the job that hands it on.
            options: how a workflow is run.

        Raises:
            InvalidArguments: it is neither; or there are options, and it is no workflow.
            InvalidJob: there are more than one step of Redis may carry; the job has ended; it is to take
                the place of another one, or expires in so many seconds; or is too large for a cluster.
            InvalidSetting: one of its hooks is async, or an option has no meaning.
        """
        if (start_with := getattr(call, "start_with", None)) is not None:
            flow_id: str = start_with(lambda starter: self._keep(starter(home)), **options or {})
            return flow_id
        if options:
            said = ", ".join(f"{name}=" for name in options)
            raise InvalidArguments(
                f"{said} is of workflows: a call has its own, task.options(…).call(…)"
            )
        if (hand_on := getattr(call, "hand_on", None)) is not None:
            job_id: str = hand_on(partial(self._add, home))
            return job_id
        return self._add(home, call)

    def _add(self, home: str, call: Any, told: str = "") -> str:
        try:
            key, if_exists = call.key or "", call.if_exists
            expires_ms = call.expires_ms
            one = FollowUp(call.queue, call.due, key, call.key_ttl_ms, call.job_id, call.job, told)
        except AttributeError:
            raise InvalidArguments(f"{_SAY}; it got {type(call).__name__}, {call!r:.80}") from None
        if _PLACEHOLDER in one.job:
            raise InvalidJob("RESULT stands for what the step before returns: use it in a workflow")
        check_instant(expires_ms, "a job that is handed on")
        if if_exists not in ("keep", "throttle"):
            raise InvalidJob(
                f"if_exists={if_exists!r} is not for a job that is handed on, which comes when this one "
                "has ended: enqueue it without the context, or keep the first one"
            )
        if one.queue != home and call.producer is not None and not call.producer().joins_queues:
            before, after = envelope_around(*one[:5])
            one = one._replace(envelope=before + one.job + after)
            if len(one.envelope) > wire.DEFAULT_MAX_BYTES:
                raise InvalidJob(_TOO_LARGE)
        return self._keep(one)

    def _keep(self, one: FollowUp) -> str:
        size = len(one.envelope or one.job)
        with self._lock:
            if self._closed:
                raise InvalidJob(
                    "the job has ended, and what it handed on went with it: await what the task "
                    "starts, or enqueue without the context, as in add.enqueue(1, 2)"
                )
            if len(self.jobs) == MAX_ITEMS or self.size + size > MAX_BYTES:
                raise InvalidJob(
                    f"a job hands on at most {MAX_ITEMS:,} jobs of {MAX_BYTES:,} bytes together: hand "
                    "on one job that hands on the rest, or use a group (docs/workflows.md)"
                )
            self.jobs.append(one)
            self.size += size
        return one.job_id

    def close(self) -> list[FollowUp]:
        """Return what was collected; more is refused from now on."""
        with self._lock:
            self._closed = True
            return self.jobs


CLOSED: Final = HandOff(closed=True)
"""Of a run that has ended, and has handed nothing on."""
