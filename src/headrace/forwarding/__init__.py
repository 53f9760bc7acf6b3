"""Forwarding: how a job that another one hands on comes to a queue on another node of a cluster.

The end of a job and what it hands on are one step (``ctx.enqueue``), and on a cluster a step is in one
queue. So what goes elsewhere travels as a job of the queue where it was handed on: its *envelope*
(``handoff.envelope_around``), whose task each consumer on a cluster knows. It is leased, retried and counted as
any job; and should it run twice, the queue where it goes remembers what has come.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from headrace.handoff import FollowUp
from headrace.keys import keys_of
from headrace.operations import Operation, run, text

_REMEMBERED_MS: Final = 7 * 86_400_000
"""For how long a queue knows what has come. An envelope that runs twice does so within minutes."""

Answer: TypeAlias = Literal["ok", "exists", "before"]


def arrive(one: FollowUp) -> Operation[Answer]:
    """Accept a job that comes from another node, once; ``exists``: another job has its key."""
    k = keys_of(one.queue)
    used = [k.pending, k.priority, k.delayed, k.nudge, k.stats, f"{k.queue}:forwarded:{one.job_id}"]
    if one.key:
        used.append(k.unique(one.key))
    args = (one.due, one.job_id, one.key_ttl_ms, _REMEMBERED_MS, one.job)
    return run("forwarding/arrive", used, args, text)  # type: ignore[arg-type]
