"""One workflow: its members and who waits for whom, as a picture and a table; cancel it."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from headrace.keys import keys_of
from headrace.store import AsyncStore
from headrace.web.api.workflows import Workflows
from headrace.web.pages.drawing import drawn
from headrace.web.pages.shell import Shell, lead
from headrace.workflows.graph import Graph, graph_of

MOST_SHOWN: Final = 500  # members
_OVER: Final = frozenset({"done", "cancelled"})


class WorkflowPage:
    """The page of one workflow.

    Args:
        shell: writes it.
        workflows: what the API does with workflows.
        store: the Redis.
    """

    def __init__(self, shell: Shell, workflows: Workflows, store: AsyncStore) -> None:
        self._shell = shell
        self._workflows = workflows
        self._store = store

    async def workflow(self, request: Request) -> Response:
        """Show how far a workflow is."""
        flow = await self._workflows.look(request)
        graph = Graph([], [])
        if flow["state"] != "waiting":  # else it is not there yet
            reading = graph_of(keys_of(flow["queue"]), flow["id"], flow["total"], MOST_SHOWN)
            graph = await self._store.follow(reading)
        messages = {one["n"]: one["message"] for one in flow["failed"]}
        return self._shell.page(
            request, "workflow", here="queue", queue=flow["queue"], flow=flow, members=graph.members,
            drawing=drawn(graph), messages=messages, is_over=flow["state"] in _OVER,
        )  # fmt: skip

    async def ask_cancel(self, request: Request) -> Response:
        """Ask whether a workflow is to be cancelled."""
        flow = self._workflows.asked(request)
        return self._shell.ask(
            request, here="queue", queue=flow.queue, title="Cancel a workflow", what=flow.id,
            question="Cancel this workflow as a whole?", back=f"workflows/{flow.id}",
            why="Members that wait are taken out, those that run are asked to stop, and nothing follows.",
            verb="Cancel the workflow",
        )  # fmt: skip

    async def cancel(self, request: Request) -> Response:
        """Cancel a workflow."""
        flow = await self._workflows.cancel_asked(request)
        return lead(
            request, f"workflows/{flow['id']}", queue=flow["queue"], done="workflow-cancelled"
        )
