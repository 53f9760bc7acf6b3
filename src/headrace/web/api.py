"""The HTTP API, under ``/api``. Answers are JSON; an error is ``{"error": "…"}`` (see ``answers``).

    POST /jobs                 one job: {"task": "echo", "args": […], "kwargs": {…}, …}
                               -> 202 {"id": "…", "queue": "…"}
                               many: an array of these -> 202 {"jobs": [{"id": "…", "queue": "…"}, …]}
    GET  /jobs/{id}?queue=     {"id", "queue", "state", "progress"}; "done" also when nothing is known
    GET  /queues?after=        {"now_ms", "queues": [{"queue", "pending", "dead", …}, …], "next"}: by name,
                               1,000 at a time; "next" is the "after" of the next page, or null
    GET  /queues/{queue}       one of these
    GET  /queues/{queue}/jobs?place=pending&limit=25
                               {"queue", "place", "key", "jobs": […]}: who is next, was claimed first,
                               is due first, died last
    GET  /events?queue=        server-sent events: the queues, and the lists of one, when they change
    GET  /openapi.json         all this for programs, exactly

A job may have every option of ``JobOptions``; ``at`` is in seconds since 1970. Its task need not be
known here. A 503 says whether the jobs ``may_have_been_accepted``, and which ones were for certain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace import clock
from headrace.app import Headrace
from headrace.doctor.places import PLACES, Place, key_of
from headrace.errors import InvalidJob, InvalidSetting, PayloadTooLarge
from headrace.keys import Keys, keys_of
from headrace.operations import Snapshot
from headrace.options import JobOptions
from headrace.producer import Call
from headrace.web.answers import answer
from headrace.web.limits import MAX_BODY, MAX_STREAMS
from headrace.web.openapi import Endpoint, document
from headrace.web.reader import MOST_QUEUES, Reader
from headrace.web.shapes import (
    JOB_ID,
    MAX_JOBS,
    MAX_LISTED,
    MAX_QUEUES_LISTED,
    Accepted,
    AcceptedMany,
    AgedQueueView,
    JobId,
    JobList,
    Jobs,
    JobState,
    NewJob,
    QueueName,
    Queues,
)
from headrace.web.updates import EventStream, Updates
from headrace.web.views import progress_view, queue_view
from headrace.wire import DEFAULT_MAX_BYTES

_NAMED: Final = 20  # queues in an error


class _Counted(NewJob):
    """A job as it is asked for, counted while the body is read: what is too much is not made first."""

    seen: ClassVar[int] = 0  # of the body that is being read: one at a time is

    def __post_init__(self) -> None:
        _Counted.seen += 1
        if _Counted.seen > MAX_JOBS:
            raise HTTPException(413, f"these are too many jobs: send {MAX_JOBS:,} at a time")


_decode_jobs = msgspec.json.Decoder(_Counted | list[_Counted]).decode
_decode_args = msgspec.json.Decoder(list[Any]).decode
_decode_kwargs = msgspec.json.Decoder(dict[str, Any]).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED)]


class Api:
    """The endpoints."""

    def __init__(self, headrace: Headrace, reader: Reader, updates: Updates) -> None:
        self._headrace = headrace
        self._reader = reader
        self._updates = updates

    def routes(self) -> list[Route]:
        """Return the routes; names and ids may hold a slash."""
        return [endpoint.route() for endpoint in self.endpoints()]

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        queue = ("queue", QueueName, self._headrace.queue)
        shown = (("place", Place, "pending"), ("limit", _Limit, 25))
        return [
            Endpoint(
                path="/jobs", handle=self.enqueue, method="POST", body=Jobs, status=202,
                says=f"Enqueue a job, or up to {MAX_JOBS:,}; a body of at most {MAX_BODY:,} bytes, "
                f"a job of at most {DEFAULT_MAX_BYTES:,}.",
                answers=(Accepted, AcceptedMany), errors=(400, 409, 413, 415, 429, 503),
            ),
            Endpoint(
                path="/jobs/{job_id:rest}", handle=self.job, parameters=(("job_id", JobId, None), queue),
                says="Tell where a job is.", answers=(JobState,), errors=(400, 503),
            ),
            Endpoint(
                path="/queues", handle=self.queues, parameters=(("after", QueueName, None),),
                says=f"Show all queues, by name; {MAX_QUEUES_LISTED:,} at a time: `next` is the `after` of "
                "the next page.",
                answers=(Queues,), errors=(400, 503),
            ),
            Endpoint(
                path="/queues/{queue:rest}/jobs", handle=self.jobs,
                parameters=(("queue", QueueName, None), *shown),
                says="Show the first jobs of a place.", answers=(JobList,), errors=(400, 404, 503),
            ),
            Endpoint(
                path="/queues/{queue:rest}", handle=self.queue,
                parameters=(("queue", QueueName, None),),
                says="Show one queue.", answers=(AgedQueueView,), errors=(404, 503),
            ),
            Endpoint(
                path="/events", handle=self.events, parameters=(queue,),
                says=f"Stream what changes, as server-sent events, without end; {MAX_STREAMS} at a time.",
                answers=(), errors=(400, 503),
            ),
            Endpoint(
                path="/openapi.json", handle=self.describe,
                says="Give this document.", answers=(dict[str, Any],), errors=(503,),
            ),
        ]  # fmt: skip

    async def describe(self, _: Request) -> Response:
        """Describe the API."""
        return answer(document(self.endpoints()))

    async def enqueue(self, request: Request) -> Response:
        """Accept one job, or many."""
        try:
            body = await _body_of(request)
            _Counted.seen = 0
            wanted = _decode_jobs(body)
        except _UNREADABLE as error:
            raise _no_job(error) from None
        many = isinstance(wanted, list)
        calls = self._calls(wanted)
        if new := await self._reader.excess({call.queue for call in calls}):
            raise HTTPException(
                429,
                f"there would be more than {MOST_QUEUES:,} queues: {min(new)!r} would be a new one. "
                "Use one that there is, or see: headrace forget --help",
            )
        # Of those that there may be: else the names that are asked for would be remembered without bound.
        if await self._reader.learn_partitions({call.queue for call in calls}):
            calls = self._calls(wanted)
        jobs = [Accepted(id=j.id, queue=j.queue) for j in await self._headrace.aenqueue_many(calls)]
        return answer(AcceptedMany(jobs=jobs) if many else jobs[0], 202)

    def _calls(self, wanted: NewJob | Sequence[NewJob]) -> list[Call[Any]]:
        if isinstance(wanted, NewJob):
            return [self._call(wanted, None)]
        return [self._call(one, index) for index, one in enumerate(wanted)]

    def _call(self, one: NewJob, index: int | None) -> Call[Any]:
        given = {name: getattr(one, name) for name in JobOptions.__annotations__}
        for name in ("priority", "max_attempts"):
            if isinstance(number := given[name], float) and number.is_integer():
                given[name] = int(number)
        options = cast("JobOptions", {k: v for k, v in given.items() if v is not None})
        try:
            if len(bytes(one.args)) + len(bytes(one.kwargs)) > DEFAULT_MAX_BYTES:
                raise PayloadTooLarge(f"its arguments are over the limit of {DEFAULT_MAX_BYTES:,}")
            args, kwargs = _arguments(one)
            call = self._headrace.call_with(one.task, args, kwargs, options)
            keys_of(call.queue)
        except HTTPException as error:
            raise _no_job(error.detail, "" if index is None else f"job {index}: ") from None
        except (InvalidJob, InvalidSetting) as error:
            raise type(error)(str(error) if index is None else f"job {index}: {error}") from None
        return call

    async def job(self, request: Request) -> Response:
        """Return where a job is."""
        queue = self._asked(request).queue
        job_id = request.path_params["job_id"]
        if not re.fullmatch(JOB_ID, job_id):
            raise HTTPException(400, f"{job_id!r} is no job's id: use one that was answered to you")
        job = self._headrace.job(job_id, queue=queue)
        state, told = await job.astatus(), progress_view(await job.aprogress())
        return answer(JobState(id=job.id, queue=job.queue, state=state, progress=told))

    async def queues(self, request: Request) -> Response:
        """Show all queues, page by page where there are very many."""
        after = request.query_params.get("after")
        if after is not None:
            keys_of(after)  # what cannot be a name is refused
        names = [name for name in await self._reader.names() if after is None or name > after]
        page = names[:MAX_QUEUES_LISTED]
        snapshots = await self._reader.read(page)
        now_ms = max([one.now_ms for one in snapshots], default=0)
        shown = [_with_age(snapshot) for snapshot in snapshots]
        following = page[-1] if len(names) > len(page) else None
        return answer(Queues(now_ms=now_ms or clock.now_ms(), queues=shown, next=following))

    async def queue(self, request: Request) -> Response:
        """Show one queue."""
        name = await self._known(request)
        (snapshot,) = await self._reader.read([name])
        return answer(_with_age(snapshot))

    async def jobs(self, request: Request) -> Response:
        """Show the first jobs of a place."""
        k = keys_of(await self._known(request))
        place = request.query_params.get("place", "pending")
        if place not in PLACES:
            raise HTTPException(400, f"place={place} is no place: use one of {', '.join(PLACES)}")
        limit = _limit_of(request.query_params.get("limit", "25"))
        (jobs,) = await self._updates.listed(k.queue, [place], limit)
        return answer(JobList(queue=k.queue, place=place, key=key_of(k, place), jobs=jobs))

    async def events(self, request: Request) -> Response:
        """Stream updates until the client leaves or the server ends."""
        return EventStream(self._updates, self._asked(request).queue)

    def _asked(self, request: Request) -> Keys:
        return keys_of(request.query_params.get("queue", self._headrace.queue))

    async def _known(self, request: Request) -> str:
        name: str = request.path_params["queue"]
        names = await self._reader.names()
        if name not in names:
            some = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
            raise HTTPException(404, f"there is no queue {name!r}: there are {some}")
        return name


def _arguments(one: NewJob) -> tuple[tuple[Any, ...], dict[str, Any]]:
    name = "args"
    try:
        args = tuple(_decode_args(one.args))
        name = "kwargs"
        return args, _decode_kwargs(one.kwargs)
    except _UNREADABLE as error:
        raise HTTPException(400, f"{error} - at `$.{name}`") from None


def _no_job(error: object, which: str = "") -> HTTPException:
    says = f"{which}the body is no job: {error}"
    return HTTPException(400, f'{says}. Send {{"task": "name", "args": [...]}}')


def _limit_of(asked: str) -> int:
    # No more digits than the largest has: int() refuses thousands of them with an error of its own.
    limit = int(asked) if re.fullmatch(r"[0-9]{1,3}", asked) else 0
    if not 1 <= limit <= MAX_LISTED:
        raise HTTPException(400, f"limit={asked} must be a number from 1 to {MAX_LISTED}")
    return limit


def _with_age(snapshot: Snapshot) -> AgedQueueView:
    return {**queue_view(snapshot), "oldest_age_s": snapshot.oldest_s}


async def _body_of(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send the job as JSON, with Content-Type: application/json")
    return await request.body()
