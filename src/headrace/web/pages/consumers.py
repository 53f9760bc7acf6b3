"""Consumers: who is connected, who holds jobs, and what they run."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace import operations as op
from headrace.holders import consumer_of
from headrace.web.api.consumers import Consumers, ConsumerView
from headrace.web.pages.shell import Shell
from headrace.web.shapes import JobView
from headrace.web.updates import Updates

_QUEUES: Final = 20  # whose jobs that run are read
_JOBS: Final = 50  # of each of these queues
_EACH: Final = 5  # jobs that are shown of a consumer


class ConsumersPage:
    """The page of consumers.

    Args:
        shell: writes it.
        consumers: what the API knows of consumers.
        updates: list what runs.
    """

    def __init__(self, shell: Shell, consumers: Consumers, updates: Updates) -> None:
        self._shell = shell
        self._consumers = consumers
        self._updates = updates

    async def consumers(self, request: Request) -> Response:
        """Show all consumers."""
        found = await self._consumers.look(request)
        shown = sorted(found["consumers"], key=lambda one: (not one["leader"], one["name"]))
        (now_ms,) = await self._shell.reader.ask([op.time_ms()])
        return self._shell.page(
            request, "consumers", consumers=shown, broken=found["broken"],
            runs=await self._runs(shown), now_ms=int(now_ms),
        )  # fmt: skip

    async def _runs(self, consumers: list[ConsumerView]) -> dict[str, list[tuple[str, JobView]]]:
        """Read what runs, as far as it is among the first of its queue: by consumer, queue and job."""
        queues = sorted({queue for one in consumers for queue in one["queues"]})[:_QUEUES]
        runs: defaultdict[str, list[tuple[str, JobView]]] = defaultdict(list)
        for queue in queues:
            (jobs,) = await self._updates.listed(queue, ["processing"], _JOBS)
            for job in jobs:
                if holder := job["consumer"]:
                    runs[consumer_of(holder) or holder].append((queue, job))
        return {name: jobs[:_EACH] for name, jobs in runs.items()}
