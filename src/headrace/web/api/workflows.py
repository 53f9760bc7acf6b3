"""Workflows: how far one is, which members are dead, cancel it."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from headrace import redaction
from headrace.app import Headrace
from headrace.web.answers import answer
from headrace.web.api.asked import queue_of
from headrace.web.openapi import Endpoint
from headrace.web.problems import Refusal
from headrace.web.shapes import JobId, QueueName
from headrace.workflows.workflow import Workflow, WorkflowState


class MemberView(TypedDict):
    """A member that is dead."""

    n: Annotated[int, Meta(description="Its number in the order of the steps, from 0.")]
    job_id: str
    queue: Annotated[str, Meta(description='Where its dead letter is; "": it has none.')]
    reason: str
    message: str


class WorkflowView(TypedDict):
    """How far a workflow is."""

    id: str
    queue: str
    state: WorkflowState
    total: int
    ended: int
    running: Annotated[int, Meta(description="Members that wait in their queues, or run.")]
    failed: list[MemberView]


class Workflows:
    """The endpoints of workflows.

    Args:
        headrace: the application.
    """

    def __init__(self, headrace: Headrace) -> None:
        self._headrace = headrace

    def endpoints(self) -> list[Endpoint]:
        """Return what there is, in the order in which it is looked for."""
        one = (("workflow_id", JobId, None), ("queue", QueueName, self._headrace.queue))
        return [
            Endpoint(
                path="/workflows/{workflow_id:rest}/cancel", handle=self.cancel, method="POST", rights=("operate",),
                parameters=one, answers=(WorkflowView,), errors=(400, 404, 409, 503),
                says="Cancel a workflow as a whole: what waits is taken out, what runs is asked to stop.",
            ),
            Endpoint(
                path="/workflows/{workflow_id:rest}", handle=self.workflow, rights=("look", "produce"), parameters=one,
                says="Tell how far a workflow is; `queue` is that of its first job.",
                answers=(WorkflowView,), errors=(400, 404, 503),
            ),
        ]  # fmt: skip

    async def workflow(self, request: Request) -> Response:
        """Tell how far a workflow is."""
        return answer(await self.look(request))

    async def cancel(self, request: Request) -> Response:
        """Cancel a workflow."""
        return answer(await self.cancel_asked(request))

    async def cancel_asked(self, request: Request) -> WorkflowView:
        """Cancel the workflow that is asked for.

        Raises:
            Refusal: nothing is known of it, it is over, or whoever asks may not use its queue.
            StoreError: Redis did not answer.
        """
        flow = self.asked(request)
        before = await self._view(flow)
        if not await flow.acancel():
            raise Refusal("conflict", f"workflow {flow.id} is over: it is {before['state']}")
        return await self._view(flow)

    async def look(self, request: Request) -> WorkflowView:
        """Read how far the workflow is that is asked for."""
        return await self._view(self.asked(request))

    async def _view(self, flow: Workflow) -> WorkflowView:
        status = await flow.astatus()
        if status.state == "unknown":
            says = f"nothing is known of workflow {flow.id} in queue {flow.queue!r}: it never was there, or"
            raise Refusal("unknown", f"{says} has been over for longer than its ttl")
        failed: list[MemberView] = [
            MemberView(
                n=one.n,
                job_id=one.job_id,
                queue=one.queue,
                reason=one.reason,
                # Of which job is not known here, so all of it may be what is to be hidden.
                message=redaction.masked(one.message, b""),
            )
            for one in status.failed
        ]
        state, total, ended, running, _ = status
        return WorkflowView(
            id=flow.id, queue=flow.queue, state=state, total=total, ended=ended, running=running,
            failed=failed,
        )  # fmt: skip

    def asked(self, request: Request) -> Workflow:
        """Return the workflow in the path, at home in the queue behind the ?."""
        queue = queue_of(request, self._headrace.queue)
        return self._headrace.workflow(request.path_params["workflow_id"], queue=queue)
