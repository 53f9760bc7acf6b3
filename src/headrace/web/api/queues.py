"""Queues: how many jobs are where, the first ones of a place, and what changes."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from headrace import clock
from headrace import operations as op
from headrace.app import Headrace
from headrace.doctor.places import PLACES, Place, key_of
from headrace.keys import keys_of
from headrace.operations import Snapshot
from headrace.web.access import may_use_all, who_asks
from headrace.web.answers import answer
from headrace.web.api.asked import Limit, known, limit_of, queue_of
from headrace.web.limits import MAX_STREAMS
from headrace.web.openapi import Endpoint
from headrace.web.problems import Refusal
from headrace.web.reader import Reader
from headrace.web.shapes import (
    MAX_QUEUES_LISTED,
    AgedQueueView,
    JobList,
    Paused,
    QueueList,
    QueueName,
    Scale,
)
from headrace.web.updates import EventStream, Updates
from headrace.web.views import queue_view


class Queues:
    """The endpoints of queues.

    Args:
        headrace: the application.
        reader: reads queues.
        updates: the live updates.
    """

    def __init__(self, headrace: Headrace, reader: Reader, updates: Updates) -> None:
        self._headrace = headrace
        self._reader = reader
        self._updates = updates

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        named, asked = ("queue", QueueName, None), ("queue", QueueName, self._headrace.queue)
        return [
            Endpoint(
                path="/queues", handle=self.queues, parameters=(("after", QueueName, None),),
                says=f"Show all queues, by name; {MAX_QUEUES_LISTED:,} at a time: `next` is the `after` of "
                "the next page.",
                answers=(QueueList,), errors=(400, 503),
            ),
            Endpoint(
                path="/queues/{queue:rest}/jobs", handle=self.jobs,
                parameters=(named, ("place", Place, "pending"), ("limit", Limit, 25)),
                says="Show the first jobs of a place.", answers=(JobList,), errors=(400, 404, 503),
            ),
            Endpoint(
                path="/queues/{queue:rest}/pause", handle=self.pause, method="POST", rights=("operate",), parameters=(named,),
                says="Stop handing out a queue's jobs: those that run go on, new ones wait.",
                answers=(Paused,), errors=(404, 503),
            ),
            Endpoint(
                path="/queues/{queue:rest}/resume", handle=self.resume, method="POST", rights=("operate",), parameters=(named,),
                says="Hand out a paused queue's jobs again.", answers=(Paused,), errors=(404, 503),
            ),
            Endpoint(
                path="/queues/{queue:rest}", handle=self.queue, parameters=(named,),
                says="Show one queue.", answers=(AgedQueueView,), errors=(404, 503),
            ),
            Endpoint(
                path="/scale", handle=self.scale, parameters=(asked,),
                says="Tell what a scaler goes by, as KEDA's: how much there is to do, and how long it has waited.",
                answers=(Scale,), errors=(400, 404, 503),
            ),
            Endpoint(
                path="/events", handle=self.events, parameters=(asked,),
                says=f"Stream what changes, as server-sent events, without end; {MAX_STREAMS} at a time.",
                answers=(), errors=(400, 503),
            ),
        ]  # fmt: skip

    async def queues(self, request: Request) -> Response:
        """Show all queues, page by page where there are very many."""
        after = request.query_params.get("after")
        if after is not None:
            keys_of(after)  # what cannot be a name is refused
        own = who_asks(request).queues
        names = [
            name
            for name in await self._reader.names()
            if (after is None or name > after) and (own is None or name in own)
        ]
        page = names[:MAX_QUEUES_LISTED]
        snapshots = await self._reader.read(page)
        now_ms = max([one.now_ms for one in snapshots], default=0)
        shown = [_with_age(snapshot) for snapshot in snapshots]
        following = page[-1] if len(names) > len(page) else None
        return answer(QueueList(now_ms=now_ms or clock.now_ms(), queues=shown, next=following))

    async def queue(self, request: Request) -> Response:
        """Show one queue."""
        (snapshot,) = await self._reader.read([await known(request, self._reader)])
        return answer(_with_age(snapshot))

    async def jobs(self, request: Request) -> Response:
        """Show the first jobs of a place."""
        k = keys_of(await known(request, self._reader))
        place = request.query_params.get("place", "pending")
        if place not in PLACES:
            says = f"place={place} is no place: use one of {', '.join(PLACES)}"
            raise Refusal("invalid", says)
        (jobs,) = await self._updates.listed(k.queue, [place], limit_of(request))
        return answer(JobList(queue=k.queue, place=place, key=key_of(k, place), jobs=jobs))

    async def pause(self, request: Request) -> Response:
        """Stop handing out a queue's jobs."""
        return answer(await self.turn(request, paused=True))

    async def resume(self, request: Request) -> Response:
        """Hand out a paused queue's jobs again."""
        return answer(await self.turn(request, paused=False))

    async def turn(self, request: Request, *, paused: bool) -> Paused:
        """Pause or resume the queue in the path.

        Raises:
            Refusal: there is none, or whoever asks may not use it.
            StoreError: Redis did not do it.
        """
        name = await known(request, self._reader)
        parts = [keys_of(part) for part in self._reader.parts(name)]
        changed = any(await self._reader.ask([op.pause(k, paused=paused) for k in parts]))
        return Paused(queue=name, paused=paused, changed=changed)

    async def scale(self, request: Request) -> Response:
        """Tell what a scaler goes by."""
        name = queue_of(request, self._headrace.queue)
        await self._reader.names()
        (one,) = await self._reader.read([name])
        waiting = one.waiting + one.limited
        age_s = one.oldest_s or 0.0
        jobs = waiting + one.processing
        return answer(Scale(queue=name, jobs=jobs, waiting=waiting, oldest_age_s=age_s))

    async def events(self, request: Request) -> Response:
        """Stream updates until the client leaves or the server ends."""
        may_use_all(request)  # the queues that it tells of are all
        heard = request.headers.get("last-event-id", "")
        after_ms = int(heard) if re.fullmatch(r"[0-9]{1,15}", heard) else 0
        return EventStream(self._updates, queue_of(request, self._headrace.queue), after_ms)


def _with_age(snapshot: Snapshot) -> AgedQueueView:
    return {**queue_view(snapshot), "oldest_age_s": snapshot.oldest_s}
