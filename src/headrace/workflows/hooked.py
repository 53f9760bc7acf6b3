"""Workflows whose calls have hooks: these stand around the start, for from then on Redis goes on by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from headrace.hooks import astart_hooked, start_hooked
from headrace.producer import Call
from headrace.workflows.member import job_id_of
from headrace.workflows.node import Node
from headrace.workflows.workflow import Workflow


def through_hooks(nodes: Sequence[Node], start: Callable[[Sequence[Node]], Workflow]) -> Workflow:
    """Start a workflow of calls of which some may have hooks.

    Raises what ``start`` raises, and what the hooks do.
    """
    if not are_hooked(nodes):
        return start(nodes)
    found: list[Workflow] = []

    def send(calls: Sequence[Call[Any]]) -> list[str]:
        found.append(start(with_calls(calls, nodes)))
        return ids_of(found[0].id, nodes)

    start_hooked(send, [node.call for node in nodes])
    return found[0]


async def athrough_hooks(
    nodes: Sequence[Node], start: Callable[[Sequence[Node]], Awaitable[Workflow]]
) -> Workflow:
    """Start a workflow, as ``through_hooks`` does."""
    if not are_hooked(nodes):
        return await start(nodes)
    found: list[Workflow] = []

    async def send(calls: Sequence[Call[Any]]) -> list[str]:
        found.append(await start(with_calls(calls, nodes)))
        return ids_of(found[0].id, nodes)

    await astart_hooked(send, [node.call for node in nodes])
    return found[0]


def are_hooked(nodes: Sequence[Node]) -> bool:
    """Whether any of its calls has hooks."""
    return any(type(node.call) is not Call for node in nodes)


def with_calls(calls: Sequence[Call[Any]], nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with these calls, as hooks have left them."""
    return [replace(node, call=call) for node, call in zip(nodes, calls, strict=True)]


def ids_of(workflow_id: str, nodes: Sequence[Node]) -> list[str]:
    """Return the ids of its members."""
    return [job_id_of(workflow_id, n) for n in range(len(nodes))]
