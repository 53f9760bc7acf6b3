"""One queue: the jobs of each place, page by page, searched; pause and resume."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace.doctor import balance_of, equation
from headrace.doctor.places import PLACES, Place, key_of
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.timings.recent import Kept
from headrace.web.api.asked import known
from headrace.web.api.queues import Queues
from headrace.web.listing import Lister, search
from headrace.web.pages.shell import Shell, lead
from headrace.web.pages.statistics import lately, some_of, span_of
from headrace.web.problems import Refusal
from headrace.web.shapes import JobView
from headrace.web.views import has_text, job_view
from headrace.workflows.graph import unfinished

SHOWN: Final = 25  # jobs on a page
MOST_SEARCHED: Final = 5_000  # jobs that one request reads: some hundredths of a second

_WORKFLOWS: Final = 10  # of those that are at home here, the oldest
_AFTER: Final = r"[0-9]{1,4}\.[0-9]{1,12}"


class QueuePage:
    """The page of one queue.

    Args:
        shell: writes it.
        queues: what the API does with queues.
        store: the Redis.
    """

    def __init__(self, shell: Shell, queues: Queues, store: AsyncStore) -> None:
        self._shell = shell
        self._queues = queues
        self._store = store
        self._kept = Kept()
        self._lister = Lister(shell.reader.ask)

    async def queue(self, request: Request) -> Response:
        """Show the jobs of a place."""
        reader, asked = self._shell.reader, request.query_params
        name = await known(request, reader)
        (snapshot,) = await reader.read([name])
        place = next((one for one in PLACES if one == asked.get("place", "pending")), None)
        if place is None:
            raise Refusal("invalid", f"there is no such place: there are {', '.join(PLACES)}")
        text, task = asked.get("text", "").strip(), asked.get("task", "").strip()
        first, minutes = "after" not in asked, span_of(request)
        jobs, searched, following = await self._found(
            name, place, _fitting(text, task), asked.get("after") or "0.0"
        )
        (flows,) = await reader.ask([unfinished(keys_of(name), _WORKFLOWS)])
        recently, parts = None, [keys_of(part) for part in reader.parts(name)]
        if first and not (text or task):  # whoever searches, or turns pages, looks at the jobs
            recently = await lately(self._store, parts, minutes, kept=self._kept)
        counts = {one: getattr(snapshot, one) for one in PLACES}
        if following == f"0.{counts[place]}":  # that was all of an only part
            following = None
        return self._shell.page(
            request, "queue", queue=name, place=place, key=key_of(keys_of(name), place),
            counts=counts, jobs=jobs, searched=searched, following=following, text=text, task=task,
            paused=snapshot.paused, oldest_s=snapshot.oldest_s, now_ms=snapshot.now_ms,
            first=first, lately=recently, sum=equation(balance_of(snapshot)),
            parts=len(parts), some_of=some_of(parts, recently), workflows=flows,
        )  # fmt: skip

    async def _found(
        self, name: str, place: Place, fits: Callable[[bytes], bool], after: str
    ) -> tuple[list[JobView], int, str | None]:
        """Read the jobs of a page: those that fit, of how many, and where the next page begins."""
        if not re.fullmatch(_AFTER, after):
            raise Refusal("invalid", f"after={after} is not where a page begins")
        part, offset = map(int, after.split("."))
        parts, jobs, searched = self._shell.reader.parts(name), list[JobView](), 0
        while part < len(parts) and len(jobs) < SHOWN and searched < MOST_SEARCHED:
            k = keys_of(parts[part])
            bounds = {"count": SHOWN - len(jobs), "most": MOST_SEARCHED - searched}
            found = await self._store.follow(search(k, place, fits, offset=offset, **bounds))
            views = [job_view(job, due_ms) for job, due_ms in found.jobs]
            if place == "processing":
                await self._lister.name_owners(k, views)
            jobs += views
            searched += found.searched
            part, offset = (part + 1, 0) if found.offset is None else (part, found.offset)
        return jobs, searched, f"{part}.{offset}" if part < len(parts) else None

    async def pause(self, request: Request) -> Response:
        """Pause a queue."""
        paused = await self._queues.turn(request, paused=True)
        return lead(request, f"queues/{paused['queue']}", done="paused")

    async def resume(self, request: Request) -> Response:
        """Resume a queue."""
        paused = await self._queues.turn(request, paused=False)
        return lead(request, f"queues/{paused['queue']}", done="resumed")


def _fitting(text: str, task: str) -> Callable[[bytes], bool]:
    """Return whether a job is of a task and has a text in it, as far as that may be shown."""

    def fits(job: bytes) -> bool:
        return (not text or has_text(job, text)) and (not task or job_view(job)["task"] == task)

    return fits
