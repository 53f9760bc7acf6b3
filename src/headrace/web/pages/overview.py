"""The first page: all queues, and one of them as it is, which the page's script then shows live."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from headrace.doctor.places import PLACES, key_of
from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.timings.recent import Kept
from headrace.web.access import may_use_all
from headrace.web.pages.life_cycle import TALL, WIDE
from headrace.web.pages.shell import Shell
from headrace.web.pages.statistics import MOST_READ, Lately, lately, some_of, span_of
from headrace.web.updates import Updates


class Overview:
    """The first page.

    Args:
        shell: writes it.
        updates: look at the queues.
        store: the Redis.
    """

    def __init__(self, shell: Shell, updates: Updates, store: AsyncStore) -> None:
        self._shell = shell
        self._updates = updates
        self._store = store
        self._kept = Kept()

    async def overview(self, request: Request) -> Response:
        """Show the queues as they are."""
        may_use_all(request)
        k, minutes = keys_of(self._shell.queue_of(request)), span_of(request)
        view, recently, trouble, of = None, None, "", ""
        try:
            view = await self._updates.current(k.queue)
            recently, of = await self._drawn(view, k.queue, minutes)
        except StoreError:
            trouble = "Redis does not answer"
        except TimeoutError:
            trouble = await self._updates.why_late()
        rows = [] if view is None else view["queues"]
        return self._shell.page(
            request, "overview", queue=k.queue, view=view, trouble=trouble, pictures=(WIDE, TALL),
            lately=recently, of=of,
            row=next((row for row in rows if row["queue"] == k.queue), None),
            keys={place: key_of(k, place) for place in PLACES},
        )  # fmt: skip

    async def _drawn(self, view: dict[str, Any], queue: str, minutes: int) -> tuple[Lately, str]:
        """Return the charts, and what they are of: all queues, or if they are many this one."""
        reader = self._shell.reader
        names = [row["queue"] for row in view["queues"]]
        parts = [keys_of(part) for name in names for part in reader.parts(name)]
        if len(parts) <= MOST_READ:
            read = await lately(self._store, parts, minutes, kept=self._kept)
            if read.queues == len(parts):
                return read, "all queues"
            return read, f"{read.queues} of the {len(parts)} queues, as many as a page reads"
        parts = [keys_of(part) for part in reader.parts(queue)]
        read = await lately(self._store, parts, minutes, kept=self._kept)
        some = some_of(parts, read)
        return read, f"queue {queue}{some}; of more than {MOST_READ} together there are none"
