"""A divided queue as one: its partitions, and their counts in sum."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from headrace import operations as op
from headrace.flows import Flow
from headrace.operations import Snapshot
from headrace.partitions import requests
from headrace.partitions.names import beside, names_of
from headrace.partitions.requests import ONE, Count

Parts: TypeAlias = Mapping[str, Sequence[str]]
"""The partitions of each queue that has several, or had; by the queue's name."""


def look(queues: Sequence[str] = ()) -> Flow[Parts]:
    """Return the partitions of these queues, or of all; queues that were never divided are not among them."""
    counts: dict[str, Count] = yield (requests.counts(queues) if queues else requests.all_counts())
    divided = {queue: count for queue, count in counts.items() if count != ONE}
    registered: Collection[str] = (yield op.queues()) if divided else ()
    return {queue: parts_of(queue, count, registered) for queue, count in divided.items()}


def parts_of(queue: str, count: Count, registered: Collection[str]) -> list[str]:
    """Return the partitions of a queue: as many as are said, and those where jobs came late."""
    names = names_of(queue, max(count))
    return names + [late for late in beside(queue, registered) if late not in set(names)]


def expanded(queues: Iterable[str], parts: Parts) -> list[str]:
    """Return queues, each divided one as its partitions."""
    return list(dict.fromkeys(name for queue in queues for name in parts.get(queue, (queue,))))


def folded(queues: Iterable[str], parts: Parts) -> list[str]:
    """Return queues without those that are partitions of others."""
    inner = {name for names in parts.values() for name in names[1:]}
    return [queue for queue in queues if queue not in inner]


def joined(snapshots: Iterable[Snapshot], parts: Parts) -> list[Snapshot]:
    """Return snapshots, those of the partitions of a queue as one."""
    whose = {name: queue for queue, names in parts.items() for name in names}
    groups: dict[str, list[Snapshot]] = {}
    for one in snapshots:
        groups.setdefault(whose.get(one.queue, one.queue), []).append(one)
    return [total(queue, group) for queue, group in groups.items()]


def total(queue: str, parts: Sequence[Snapshot]) -> Snapshot:
    """Return the snapshot of a queue, of those of its partitions."""
    if len(parts) == 1 and parts[0].queue == queue:
        return parts[0]
    counters: dict[str, int] = {}
    for name, count in (pair for one in parts for pair in one.counters.items()):
        counters[name] = counters.get(name, 0) + count
    oldest = min(parts, key=lambda one: one.oldest_at_ms or one.now_ms)
    dues = [one.due_at_ms for one in parts if one.due_at_ms is not None]
    return Snapshot(
        queue=queue,
        now_ms=max(one.now_ms for one in parts),
        pending=sum(one.pending for one in parts),
        priority=sum(one.priority for one in parts),
        delayed=sum(one.delayed for one in parts),
        processing=sum(one.processing for one in parts),
        dead=sum(one.dead for one in parts),
        leases=sum(one.leases for one in parts),
        claims=sum(one.claims for one in parts),
        paused=any(one.paused for one in parts),
        oldest=oldest.oldest,
        first_priority=oldest.first_priority,
        due_at_ms=min(dues, default=None),
        counters=counters,
        limited=sum(one.limited for one in parts),
    )
