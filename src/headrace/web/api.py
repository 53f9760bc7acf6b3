"""The HTTP API, under ``/api``. Answers are JSON; an error is ``{"error": "…"}`` (see ``answers``).

    POST /jobs                 one job: {"task": "echo", "args": […], "kwargs": {…}, …}
                               -> 202 {"id": "…", "queue": "…"}
                               many: an array of these -> 202 {"jobs": [{"id": "…", "queue": "…"}, …]}
    GET  /jobs/{id}?queue=     {"id", "queue", "state"}; "done" also when nothing is known of it
    GET  /queues               {"now_ms", "queues": [{"queue", "pending", "dead", …}, …]}
    GET  /queues/{queue}       one of these
    GET  /queues/{queue}/jobs?place=pending&limit=25
                               {"queue", "place", "key", "jobs": […]}: the newest of the pending,
                               processing or dead ones, the next of the delayed or priority ones
    GET  /events?queue=        server-sent events: the queues, and the lists of one, when they change

A job may have every option of ``JobOptions``; ``at`` is in seconds since 1970. Its task need not be
known here. A 503 says whether the jobs ``may_have_been_accepted``, and which ones were for certain.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace import operations as op
from headrace.app import Headrace
from headrace.errors import InvalidJob, InvalidSetting
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.options import JobOptions
from headrace.task import Call
from headrace.web.answers import answer
from headrace.web.reader import PLACES, Reader, key_of, peek
from headrace.web.views import job_view, oldest_age_s, queue_view
from headrace.web.watch import EventStream, Watch

MAX_BODY: Final = 8 << 20  # bytes: several jobs of the largest size, or very many small ones
MAX_JOBS: Final = 10_000  # in one request: a tenth of a second of the server's time
MAX_LISTED: Final = 100


class NewJob(msgspec.Struct, forbid_unknown_fields=True):
    """A job as it is asked for; null is as good as absent."""

    task: Annotated[str, msgspec.Meta(min_length=1)]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: str | None = None
    delay: float | None = None
    at: float | None = None
    priority: int | None = None
    key: str | None = None
    key_ttl: float | None = None
    timeout: float | None = None
    max_attempts: int | None = None
    result_ttl: float | None = None


_decode = msgspec.json.Decoder(NewJob | list[NewJob]).decode


class Api:
    """The endpoints."""

    def __init__(self, headrace: Headrace, reader: Reader, watch: Watch) -> None:
        self._headrace = headrace
        self._reader = reader
        self._watch = watch

    def routes(self) -> list[Route]:
        """Give the routes; names and ids may hold a slash."""
        return [
            Route("/jobs", self.enqueue, methods=["POST"]),
            Route("/jobs/{job_id:path}", self.job),
            Route("/queues", self.queues),
            Route("/queues/{queue:path}/jobs", self.jobs),
            Route("/queues/{queue:path}", self.queue),
            Route("/events", self.events),
        ]

    async def enqueue(self, request: Request) -> Response:
        """Accept one job, or many."""
        try:
            wanted = _decode(await _body_of(request))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(
                400, f'the body is no job: {error}. Send {{"task": "name", "args": [...]}}'
            ) from None
        many = isinstance(wanted, list)
        if many and len(wanted) > MAX_JOBS:
            raise HTTPException(
                413, f"{len(wanted)} jobs are too many: send {MAX_JOBS:,} at a time"
            )
        calls = [
            self._call(one, i if many else None)
            for i, one in enumerate(wanted if many else [wanted])
        ]
        jobs = [{"id": j.id, "queue": j.queue} for j in await self._headrace.aenqueue_many(calls)]
        return answer({"jobs": jobs} if many else jobs[0], 202)

    def _call(self, one: NewJob, index: int | None) -> Call[Any]:
        given = {name: getattr(one, name) for name in JobOptions.__annotations__}
        options = cast("JobOptions", {k: v for k, v in given.items() if v is not None})
        try:
            call = self._headrace.call_with(one.task, tuple(one.args), one.kwargs, options)
            keys_of(call.submission.queue)
        except (InvalidJob, InvalidSetting) as error:
            raise type(error)(str(error) if index is None else f"job {index}: {error}") from None
        return call

    async def job(self, request: Request) -> Response:
        """Tell where a job is."""
        queue = keys_of(request.query_params.get("queue") or self._headrace.queue).queue
        job = self._headrace.job(request.path_params["job_id"], queue=queue)
        return answer({"id": job.id, "queue": queue, "state": await job.astatus()})

    async def queues(self, _: Request) -> Response:
        """Show all queues."""
        snapshots, _jobs = await self._reader.read()
        shown = [_with_age(snapshot) for snapshot in snapshots]
        return answer({"now_ms": snapshots[0].now_ms, "queues": shown})

    async def queue(self, request: Request) -> Response:
        """Show one queue."""
        name = await self._known(request)
        (snapshot,) = await self._reader.ask([op.snapshot(keys_of(name))])
        return answer(_with_age(snapshot))

    async def jobs(self, request: Request) -> Response:
        """Show the first jobs of a place."""
        k = keys_of(await self._known(request))
        place, limit = (
            request.query_params.get("place", "pending"),
            request.query_params.get("limit", "25"),
        )
        if place not in PLACES:
            raise HTTPException(400, f"place={place} is none: use one of {', '.join(PLACES)}")
        if not (limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_LISTED):
            raise HTTPException(400, f"limit={limit} must be a number from 1 to {MAX_LISTED}")
        (jobs,) = await self._reader.ask([peek(k, place, int(limit))])
        shown = [job_view(job) for job in jobs]
        return answer({"queue": k.queue, "place": place, "key": key_of(k, place), "jobs": shown})

    async def events(self, request: Request) -> Response:
        """Stream updates until the client leaves or the server ends."""
        k = keys_of(request.query_params.get("queue") or self._headrace.queue)
        return EventStream(self._watch, k.queue)

    async def _known(self, request: Request) -> str:
        name: str = request.path_params["queue"]
        names = await self._reader.names()
        if name not in names:
            raise HTTPException(404, f"there is no queue {name!r}: there are {', '.join(names)}")
        return name


def _with_age(snapshot: Snapshot) -> dict[str, Any]:
    return queue_view(snapshot) | {"oldest_age_s": oldest_age_s(snapshot)}


async def _body_of(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send the job as JSON, with Content-Type: application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(
                413, f"the body is over {MAX_BODY:,} bytes: send fewer jobs at a time"
            )
    return bytes(body)
