"""The HTTP API, under ``/api/v1``. Answers are JSON; errors are problems (see ``problems``).

Each module has the endpoints of one subject, and describes them; the routes and the OpenAPI document
are made of what they say, so neither can drift.

    jobs            enqueue, where a job is, why it does not run, cancel
    queues          counts, the first jobs of a place, pause and resume, events
    claims          for consumers in any language: claim, extend, settle
    dead_letters    look, group, put back, delete
    consumers       who is connected, who holds jobs
    statistics      what became of jobs lately, how long they waited and ran
    schedules       see, add, change, pause, remove
    workflows       how far one is; cancel
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.access import ALL
from headrace.app import Headrace
from headrace.leasing import Lines
from headrace.store import AsyncStore
from headrace.web.answers import answer
from headrace.web.api.claims import Claims
from headrace.web.api.consumers import Consumers
from headrace.web.api.dead_letters import DeadLetters
from headrace.web.api.jobs import Jobs
from headrace.web.api.queues import Queues
from headrace.web.api.schedules import Schedules
from headrace.web.api.statistics import StatisticsOf
from headrace.web.api.workflows import Workflows
from headrace.web.openapi import Endpoint, document, routes
from headrace.web.problems import KINDS, PREFIX, ProblemKind, ProblemName, Refusal
from headrace.web.reader import Reader
from headrace.web.updates import Updates

__all__ = ["Api", "api"]


def api(
    headrace: Headrace, store: AsyncStore, reader: Reader, updates: Updates, lines: Lines
) -> Api:
    """Make the API.

    Args:
        headrace: through which jobs are enqueued.
        store: the Redis.
        reader: reads queues.
        updates: the live updates.
        lines: claim for consumers, and let them wait.
    """
    return Api(
        jobs=Jobs(headrace, reader, store, lines.policy),
        queues=Queues(headrace, reader, updates),
        claims=Claims(reader, lines),
        letters=DeadLetters(store, reader, headrace.encryption),
        consumers=Consumers(store, reader),
        statistics=StatisticsOf(headrace, store, reader),
        schedules=Schedules(headrace, store),
        workflows=Workflows(headrace),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """All endpoints, by subject; what they do the pages do, too."""

    jobs: Jobs
    queues: Queues
    claims: Claims
    letters: DeadLetters
    consumers: Consumers
    statistics: StatisticsOf
    schedules: Schedules
    workflows: Workflows

    def routes(self) -> list[Route]:
        """Return the routes; names and ids may hold a slash."""
        return routes(self.endpoints())

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        return [
            *(one for field in fields(self) for one in getattr(self, field.name).endpoints()),
            Endpoint(
                path="/problems/{name}", handle=self.problem, rights=ALL,
                parameters=(("name", ProblemName, None),),
                says="Tell what a type of problem means.", answers=(ProblemKind,), errors=(404,),
            ),
            Endpoint(
                path="/openapi.json", handle=_Description(self).give, rights=ALL,
                says="Give this document.", answers=(dict[str, Any],), errors=(503,),
            ),
        ]  # fmt: skip

    async def problem(self, request: Request) -> Response:
        """Tell what a type of problem means."""
        name = request.path_params["name"]
        if name not in KINDS:
            raise Refusal("unknown", f"there is no problem {name!r}: there are {', '.join(KINDS)}")
        status, title = KINDS[name]
        return answer(ProblemKind(type=f"{PREFIX}/problems/{name}", title=title, status=status))


class _Description:
    """What describes the API, made once: that takes 20 ms, in which nobody else is served."""

    def __init__(self, of: Api) -> None:
        self._of = of
        self._made: dict[str, Any] | None = None

    async def give(self, _: Request) -> Response:
        """Describe the API."""
        self._made = self._made or document(self._of.endpoints())
        return answer(self._made)
