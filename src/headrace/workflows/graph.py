"""The members of a workflow and who waits for whom, for people who look at it. Nothing is changed."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from headrace import operations as op
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.workflows.keys import unfinished_of, workflow_keys
from headrace.workflows.member import job_id_of, read_failure

MemberPhase: TypeAlias = Literal["waits", "to come", "open", "runs", "ended", "dead"]
"""For others; for room in the window; in its queue; at a consumer; the last two are its ends."""

_TASK: Final = re.compile(r'"task":("(?:[^"\\]|\\.)*")')
_N: Final = re.compile(r'"id":"[^"]*-(\d{6})"')
_FIELDS: Final = 2_000  # of the hash, a step

_unpack_record = msgspec.msgpack.Decoder(tuple[int, Any, list[Any]]).decode
_unpack_edges = msgspec.msgpack.Decoder(list[tuple[int, int, list[int]]]).decode


class MemberState(NamedTuple):
    """A member.

    Attributes:
        n: its number, in the order of the steps, from 0.
        job_id: its job.
        phase: how far it is.
        task: its task; "" where that is not known: of those that ended nothing is kept.
        waits_for: for how many others it waits.
        queue: where its dead letter is, or where it runs; "" if unknown.
        reason: why it is dead.
    """

    n: int
    job_id: str
    phase: MemberPhase
    task: str = ""
    waits_for: int = 0
    queue: str = ""
    reason: str = ""


class Graph(NamedTuple):
    """Members and edges.

    Attributes:
        members: the first ones.
        edges: who waits for whom: first and last of a range of numbers, and who waits for all of these.
    """

    members: list[MemberState]
    edges: list[tuple[int, int, list[int]]]


def unfinished(k: Keys, most: int) -> op.Operation[list[str]]:
    """Read the ids of workflows that are at home in a queue and not over, the oldest first."""
    key = unfinished_of(k)
    return op.command("ZRANGE", key, 0, most - 1, parse=lambda raw: [*map(op.text, raw)])


def graph_of(k: Keys, workflow_id: str, total: int, most: int) -> Flow[Graph]:
    """Read the first members of a workflow that is there.

    Args:
        k: its home.
        workflow_id: its id.
        total: how many members it has.
        most: so many are read.
    """
    used = workflow_keys(k, workflow_id)
    shown = range(min(total, most))
    raw: list[Any] = yield [
        _plain("HMGET", used.hash, "edges", "queues"),
        _plain("LRANGE", used.rest, 0, most - 1),
        _plain("GETRANGE", used.ended, 0, most // 8),
        _plain("HMGET", used.hash, *(f"need:{n}" for n in shown)),
        _plain("HMGET", used.hash, *(f"node:{n}" for n in shown)),
        _plain("HMGET", used.hash, *(f"dead:{n}" for n in shown)),
    ]
    (edges, names), rest, ended, needs, nodes, deaths = op.unfailed(raw)
    queues = (names or k.queue.encode()).decode().split()
    running = yield from _running(queues, workflow_id, shown)
    to_come = dict(filter(None, map(_numbered, rest)))
    members = [
        _member(
            job_id_of(workflow_id, n), n, dead=deaths[n], need=int(needs[n] or 0),
            is_over=n // 8 < len(ended) and bool(ended[n // 8] & 128 >> n % 8),
            node=nodes[n], to_come=to_come.get(n), runs=running.get(n),
        )
        for n in shown
    ]  # fmt: skip
    return Graph(members, _unpack_edges(edges) if edges else [])


def _running(queues: list[str], workflow_id: str, shown: range) -> Flow[dict[int, tuple[str, str]]]:
    """Read which members are claimed: by number, the queue and the task."""
    found: dict[int, tuple[str, str]] = {}
    ids = [job_id_of(workflow_id, n) for n in shown]
    for queue in queues if ids else ():
        claims = yield _plain("HMGET", keys_of(queue).claims, *ids)
        found |= {n: (queue, _task(claim)) for n, claim in zip(shown, claims, strict=True) if claim}
    return found


def _member(
    job_id: str, n: int, *, dead: bytes | None, need: int, is_over: bool, node: bytes | None,
    to_come: str | None, runs: tuple[str, str] | None,
) -> MemberState:  # fmt: skip
    if dead:
        why = read_failure(dead)
        return MemberState(n, job_id, "dead", queue=why.queue, reason=why.reason)
    if is_over:
        return MemberState(n, job_id, "ended")
    if need:
        return MemberState(n, job_id, "waits", task=_task_of_record(node), waits_for=need)
    if runs:
        return MemberState(n, job_id, "runs", task=runs[1], queue=runs[0])
    if to_come is not None:
        return MemberState(n, job_id, "to come", task=to_come)
    return MemberState(n, job_id, "open")


def _numbered(record: bytes) -> tuple[int, str] | None:
    """Return the number and the task of a member that was not enqueued yet."""
    found = _N.search(_front(record))
    return (int(found[1]), _task_of_record(record)) if found else None


def _task_of_record(record: bytes | None) -> str:
    return _task(_front(record).encode()) if record else ""


def _front(record: bytes) -> str:
    """Return the beginning of a member's job; "" if that cannot be read."""
    try:
        parts = _unpack_record(record)[2]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return parts[0] if parts and isinstance(parts[0], str) else ""


def _task(job: bytes) -> str:
    found = _TASK.search(job[:2_000].decode(errors="replace"))
    return str(msgspec.json.decode(found[1])) if found else ""


def _plain(*words: str | int) -> op.Operation[Any]:
    return op.command(*words, parse=lambda raw: raw)
