"""Handing on: a workflow that a job starts with its own end (``ctx.enqueue``).

What is committed with the job's ack is one more job of its queue, the *starter*. It carries the whole workflow,
whose id is made beforehand; whoever runs it starts that as a producer does. Should it run twice, the workflow
begins once, for its home knows, for a week, which have begun.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec

from headrace import wire
from headrace.errors import InvalidSetting, PayloadTooLarge, Reject
from headrace.flows import Flow
from headrace.handoff import FollowUp, Member
from headrace.hooks import HookedCall, hand_on_hooked
from headrace.keys import keys_of
from headrace.producer import Call
from headrace.workflows.hooked import are_hooked, ids_of, with_calls
from headrace.workflows.keys import REMEMBERED_MS, begun_of
from headrace.workflows.node import Node
from headrace.workflows.starting import Plan, StartOptions, planned, started

START: Final = "headrace.start"
"""The task of starters."""

MAX_PLAN: Final = (
    16 << 20
)  # bytes before they are compressed: a consumer unpacks them on its event loop
_MAX_CARRIED: Final = wire.DEFAULT_MAX_BYTES - 1_000  # with room for what stands around it

_SAY: Final = "hand on where its data are, not the data; or hand on a job whose task starts the workflow with enqueue()"


Keep = Callable[[Callable[[str], FollowUp]], object]
"""Takes what makes the job of a queue that starts a workflow."""


_SOME: Final = msgspec.Meta(min_length=1)


class _Carried(msgspec.Struct, frozen=True, array_like=True):
    """What a starter carries; more may be added at its end."""

    id: str
    queues: Annotated[tuple[str, ...], _SOME]
    places: Annotated[tuple[str, ...], _SOME]
    rest: Annotated[list[bytes], _SOME]
    waiting: list[tuple[int, int, bytes]]
    edges: list[tuple[int, int, list[int]]]
    last: Any
    on_failure: str
    ttl_ms: int
    window: int


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(_Carried).decode


def handed_on(
    nodes: Sequence[Node],
    exits: Sequence[int],
    options: StartOptions,
    keep: Keep,
    *,
    many: bool,
) -> str:
    """Hand a workflow on through the hooks of its calls; return the id that it will have.

    Args:
        nodes: its jobs.
        exits: the numbers of those that end it.
        options: how it is run.
        keep: takes what makes the job that starts it.
        many: what it returns is a list.

    Raises what ``planned`` and ``keep`` raise, and what the hooks do; PayloadTooLarge.
    """
    found: list[str] = []

    def hand_on(calls: Sequence[Call[Any]]) -> list[str]:
        now = with_calls(calls, nodes)
        producer, plan = planned(now, exits, many=many)
        ids = ids_of(plan.id, nodes)
        told = tuple(
            Member(job_id, job.queue, one.call.request.task)
            for one, job, job_id in zip(nodes, calls, ids, strict=True)
            if isinstance(one.call, HookedCall) and one.call.around.listeners
        )
        joins = producer.joins_queues
        keep(lambda queue: _starter(plan, options, queue, told, marks=joins or queue == plan.home))
        found.append(plan.id)
        return ids

    calls = [node.call for node in nodes]
    if are_hooked(nodes):
        hand_on_hooked(hand_on, calls)
    else:
        hand_on(calls)
    return found[0]


def _starter(
    plan: Plan, options: StartOptions, queue: str, members: tuple[Member, ...], *, marks: bool
) -> FollowUp:
    """Return the job of a queue that starts a workflow. It goes before all others that wait.

    ``marks``: it can be noted at the workflow's home, in the same step, that it will begin.
    """
    parts = (plan.id, plan.queues, plan.places, plan.rest, plan.waiting, plan.edges, plan.last)
    packed = _pack(_Carried(*parts, *options))
    if len(packed) > MAX_PLAN:
        raise PayloadTooLarge(
            f"a workflow of {len(packed):,} bytes cannot be handed on; the limit is {MAX_PLAN:,}: {_SAY}"
        )
    # Compressed, for members are much alike. Where arguments are hidden, all of it is (see ``redaction``).
    carried = b64encode(zlib.compress(packed, 1)).decode()
    if len(carried) > _MAX_CARRIED:
        raise PayloadTooLarge(
            f"a workflow that is handed on travels inside a job, and this one takes {len(carried):,} bytes "
            f"there; the limit is {_MAX_CARRIED:,}: {_SAY}"
        )
    count = len(plan.rest) + len(plan.waiting)
    body = wire.encode_call(START, (plan.id, plan.home, count, carried), {})
    head = wire.Head(f"{plan.id}-start", priority=wire.MAX_PRIORITY)
    mark = (begun_of(keys_of(plan.home), plan.id), str(count)) if marks else None
    job = wire.join(head, body)
    return FollowUp(queue, "", "", REMEMBERED_MS, head.id, job, members=members, mark=mark)


def begun(carried: str = "") -> Flow[None]:
    """Start the workflow that a starter carries; one that has begun stays as it is.

    Raises:
        Reject: it carries none.
        StoreError: Redis did not do it; what it has of it expires, and another run goes on.
    """
    try:
        one = _unpack(zlib.decompressobj().decompress(b64decode(carried), MAX_PLAN))
        for queue in one.queues:
            keys_of(queue)
    except (TypeError, ValueError, zlib.error, msgspec.DecodeError, InvalidSetting) as error:
        raise Reject(f"it carries no workflow: {error}") from error
    plan = Plan(one.id, one.queues, one.places, one.rest, one.waiting, one.edges, one.last, None)
    chosen = StartOptions(one.on_failure, one.ttl_ms, one.window)
    # Without the bound of producers: the work that it follows is done.
    yield from started(plan, chosen, 0, remembered_ms=REMEMBERED_MS)
