"""Jobs: enqueue them, see where one is and why it does not run, cancel it.

A job may have every option of ``JobOptions``; ``at`` is in seconds since 1970. Its task need not be
known here. A 503 says whether the jobs ``may_have_been_accepted``, and which ones were for certain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeVar, cast

import msgspec
from msgspec.structs import astuple
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headrace import doctor
from headrace.app import Caller, Headrace
from headrace.doctor import Location
from headrace.errors import InvalidJob, InvalidSetting, PayloadTooLarge
from headrace.job import Job
from headrace.options import JobOptions
from headrace.policy import LeasePolicy
from headrace.producer import Call
from headrace.store import AsyncStore
from headrace.web.access import may_use
from headrace.web.answers import answer
from headrace.web.api.asked import UNREADABLE, body_of, queue_of
from headrace.web.limits import MAX_BODY
from headrace.web.openapi import Endpoint
from headrace.web.problems import Refusal
from headrace.web.reader import MOST_QUEUES, Reader
from headrace.web.shapes import (
    JOB_ID,
    MAX_JOBS,
    NO_ARGS,
    NO_KWARGS,
    Accepted,
    AcceptedMany,
    Became,
    Cancelled,
    ExplanationView,
    JobId,
    JobState,
    NewJob,
    NewJobs,
    QueueName,
    as_whole,
)
from headrace.web.views import progress_view
from headrace.wire import DEFAULT_MAX_BYTES

T = TypeVar("T")

MOST_SEARCHED: Final = 10_000  # jobs of a place: some hundredths of a second of Redis' time


_OPTIONS: Final = NewJob.__struct_fields__[3:]  # after the task and its arguments
_NO_OPTIONS: Final = (None,) * len(_OPTIONS)
_WHOLE: Final = frozenset({"priority", "max_attempts"})


class _Counted(NewJob):
    """A job as it is asked for, counted while the body is read: what is too much is not made first."""

    seen: ClassVar[int] = 0  # of the body that is being read: one at a time is

    def __post_init__(self) -> None:
        _Counted.seen += 1
        if _Counted.seen > MAX_JOBS:
            raise Refusal("too-large", f"these are too many jobs: send {MAX_JOBS:,} at a time")


_key = attrgetter("key")
_decode_few = msgspec.json.Decoder(NewJob | list[NewJob]).decode
_decode_counting = msgspec.json.Decoder(_Counted | list[_Counted]).decode
_decode_args = msgspec.json.Decoder(tuple[Any, ...]).decode
_decode_kwargs = msgspec.json.Decoder(dict[str, Any]).decode


class Jobs:
    """The endpoints of jobs.

    Args:
        headrace: through which jobs are enqueued.
        reader: knows which queues there are.
        store: the Redis.
        policy: how long claims last.
    """

    def __init__(
        self, headrace: Headrace, reader: Reader, store: AsyncStore, policy: LeasePolicy
    ) -> None:
        self._headrace = headrace
        self._reader = reader
        self._store = store
        self._policy = policy

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        one = (("job_id", JobId, None), ("queue", QueueName, self._headrace.queue))
        return [
            Endpoint(
                path="/jobs", handle=self.enqueue, method="POST", rights=("produce",), body=NewJobs, status=202,
                says=f"Enqueue a job, or up to {MAX_JOBS:,}; a body of at most {MAX_BODY:,} bytes, "
                f"a job of at most {DEFAULT_MAX_BYTES:,}.",
                answers=(Accepted, AcceptedMany), errors=(400, 409, 413, 415, 429, 503),
            ),
            Endpoint(
                path="/jobs/{job_id:rest}/cancel", handle=self.cancel, method="POST", rights=("operate",), parameters=one,
                says="Cancel a job: one that waits is taken out, one that runs is asked to stop.",
                answers=(Cancelled,), errors=(400, 404, 503),
            ),
            Endpoint(
                path="/jobs/{job_id:rest}/explanation", handle=self.explain, parameters=one,
                says=f"Say where a job is and why it does not run; {MOST_SEARCHED:,} of each place are "
                "looked at.",
                answers=(ExplanationView,), errors=(400, 503),
            ),
            Endpoint(
                path="/jobs/{job_id:rest}", handle=self.job, rights=("look", "produce"), parameters=one,
                says="Tell where a job is.", answers=(JobState,), errors=(400, 503),
            ),
        ]  # fmt: skip

    async def enqueue(self, request: Request) -> Response:
        """Accept one job, or many."""
        try:
            wanted = _decoded_jobs(await body_of(request))
        except UNREADABLE as error:
            raise _no_job(error) from None
        many = isinstance(wanted, list)
        calls = self._calls(wanted)
        queues = {call.queue for call in calls}
        may_use(request, *queues)
        if new := await self._reader.excess(queues):
            raise Refusal(
                "too-many-queues",
                f"there would be more than {MOST_QUEUES:,} queues: {min(new)!r} would be a new one. "
                "Use one that there is, or see: headrace forget --help",
            )
        # Of those that there may be: else the names that are asked for would be remembered without bound.
        if await self._reader.learn_partitions(queues):
            calls = self._calls(wanted)
        jobs = await self._enqueued(calls)
        return answer(AcceptedMany(jobs=jobs) if many else jobs[0], 202)

    async def _enqueued(self, calls: Sequence[Call[Any]]) -> list[Accepted]:
        if {*map(type, calls)} == {Call} and not any(map(_key, calls)):
            # Without keys and hooks none is refused alone, so nobody needs the handles: 1 µs for each.
            ids = await self._headrace.producer().asend(calls)
            pairs = zip(ids, calls, strict=True)
            return [{"id": job_id, "queue": call.queue} for job_id, call in pairs]
        enqueued = await self._headrace.aenqueue_many(calls)
        return [{"id": job.id, "queue": job.queue} for job in enqueued]

    def _calls(self, wanted: NewJob | Sequence[NewJob]) -> list[Call[Any]]:
        callers: dict[str, Caller] = {}
        if isinstance(wanted, NewJob):
            return [self._call(wanted, None, callers)]
        return [self._call(one, index, callers) for index, one in enumerate(wanted)]

    def _call(self, one: NewJob, index: int | None, callers: dict[str, Caller]) -> Call[Any]:
        """Make a job; ``callers``: what makes those without options of the tasks that came before."""
        options = astuple(one)[3:]
        plain = options == _NO_OPTIONS
        try:
            call = callers.get(one.task) if plain else None
            if call is None:
                call = self._headrace.caller(one.task, _given(options))
                if plain:
                    callers[one.task] = call
            kwargs = (
                {} if one.kwargs is NO_KWARGS else _decoded(one.kwargs, _decode_kwargs, "kwargs")
            )
            args = () if one.args is NO_ARGS else _decoded(one.args, _decode_args, "args")
            return call(args, kwargs)
        except HTTPException as error:
            raise _no_job(error.detail, "" if index is None else f"job {index}: ") from None
        except (InvalidJob, InvalidSetting) as error:
            raise type(error)(str(error) if index is None else f"job {index}: {error}") from None

    async def job(self, request: Request) -> Response:
        """Return where a job is."""
        job = self.asked(request)
        state, told = await job.astatus(), progress_view(await job.aprogress())
        return answer(JobState(id=job.id, queue=job.queue, state=state, progress=told))

    async def explain(self, request: Request) -> Response:
        """Say where a job is, and why it does not run."""
        return answer(doctor.explain(await self.locate(request), self._policy))

    async def locate(self, request: Request) -> Location:
        """Look for the job that is asked for, in each partition of its queue.

        Raises:
            Refusal: it can be no job's id, or whoever asks may not use the queue.
            StoreError: Redis did not answer.
        """
        job = self.asked(request)
        await self._reader.names()
        looked_at, complete = 0, True
        for part in self._reader.parts(job.queue):
            seen = await self._store.follow(doctor.locate(part, job.id, most=MOST_SEARCHED))
            if seen.state != "unknown":
                return seen
            looked_at, complete = looked_at + seen.looked_at, complete and seen.complete
        whole = replace(seen.snapshot, queue=job.queue)  # and not the last partition alone
        return replace(seen, snapshot=whole, looked_at=looked_at, complete=complete)

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        return answer(await self.cancel_asked(request))

    async def cancel_asked(self, request: Request) -> Cancelled:
        """Cancel the job that is asked for.

        Raises:
            Refusal: it neither waits nor runs, or whoever asks may not use the queue.
            StoreError: Redis did not answer.
        """
        job = self.asked(request)
        running = await job.astatus() == "processing"
        if not await job.acancel():
            says = f"no job {job.id} waits or runs in queue {job.queue!r}: it is over, or elsewhere"
            raise Refusal("unknown", says)
        became: Became = "requested" if running else "cancelled"
        return Cancelled(id=job.id, queue=job.queue, became=became)

    def asked(self, request: Request) -> Job[Any]:
        """Return the job in the path, of the queue behind the ?."""
        queue = queue_of(request, self._headrace.queue)
        job_id = request.path_params["job_id"]
        if not re.fullmatch(JOB_ID, job_id):
            says = f"{job_id!r} is no job's id: use one that was answered to you"
            raise Refusal("invalid", says)
        return self._headrace.job(job_id, queue=queue)


def _decoded_jobs(body: bytes) -> NewJob | Sequence[NewJob]:
    if body.count(b"{") <= MAX_JOBS:  # there cannot be more jobs: they need not be counted
        return _decode_few(body)
    _Counted.seen = 0
    return _decode_counting(body)


def _given(options: Sequence[Any]) -> JobOptions:
    given = {name: it for name, it in zip(_OPTIONS, options, strict=True) if it is not None}
    for name in given.keys() & _WHOLE:
        given[name] = as_whole(given[name])
    return cast("JobOptions", given)


def _decoded(given: msgspec.Raw, decode: Callable[[msgspec.Raw], T], name: str) -> T:
    if len(given) > DEFAULT_MAX_BYTES:  # not made into Python objects first
        raise PayloadTooLarge(f"its {name} are over the limit of {DEFAULT_MAX_BYTES:,}")
    try:
        return decode(given)
    except UNREADABLE as error:
        raise Refusal("invalid", f"{error} - at `$.{name}`") from None


def _no_job(error: object, which: str = "") -> Refusal:
    says = f"{which}the body is no job: {error}"
    return Refusal("invalid", f'{says}. Send {{"task": "name", "args": [...]}}')
