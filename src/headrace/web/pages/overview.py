"""The first page: all queues, and one of them as it is, which the page's script then shows live."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.doctor.places import PLACES, key_of
from headrace.errors import StoreError
from headrace.keys import keys_of
from headrace.web.access import may_use_all
from headrace.web.pages.life_cycle import TALL, WIDE
from headrace.web.pages.shell import Shell
from headrace.web.updates import Updates


class Overview:
    """The first page.

    Args:
        shell: writes it.
        updates: look at the queues.
    """

    def __init__(self, shell: Shell, updates: Updates) -> None:
        self._shell = shell
        self._updates = updates

    async def overview(self, request: Request) -> Response:
        """Show the queues as they are."""
        may_use_all(request)
        k = keys_of(self._shell.queue_of(request))
        view, trouble = None, ""
        try:
            view = await self._updates.current(k.queue)
        except StoreError:
            trouble = "Redis does not answer"
        except TimeoutError:
            trouble = await self._updates.why_late()
        rows = [] if view is None else view["queues"]
        return self._shell.page(
            request, "overview", queue=k.queue, view=view, trouble=trouble, pictures=(WIDE, TALL),
            row=next((row for row in rows if row["queue"] == k.queue), None),
            keys={place: key_of(k, place) for place in PLACES},
        )  # fmt: skip
