"""A divided queue as one: its partitions, and their counts in sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypeAlias

from headrace import operations as op
from headrace.flows import Flow
from headrace.operations import Snapshot
from headrace.partitions import requests
from headrace.partitions.names import beside, names_of
from headrace.partitions.requests import ONE, Count

Parts: TypeAlias = Mapping[str, Sequence[str]]
"""The partitions of each queue that has several, or had; by the queue's name."""

_SUMMED: Final = (
    "pending",
    "priority",
    "delayed",
    "limited",
    "processing",
    "dead",
    "leases",
    "claims",
)


def look(queues: Sequence[str] = ()) -> Flow[Parts]:
    """Return the partitions of these queues, or of all; queues that were never divided are not among them."""
    counts: dict[str, Count] = yield (requests.counts(queues) if queues else requests.all_counts())
    divided = any(count != ONE for count in counts.values())
    return parts_among(counts, (yield op.queues()) if divided else ())


def parts_among(counts: Mapping[str, Count], registered: Collection[str]) -> Parts:
    """Return the partitions of the queues that are divided, or were."""
    divided = {queue: count for queue, count in counts.items() if count != ONE}
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
    # The heads of its lists are those of the partition where a job has waited longest.
    return replace(
        min(parts, key=lambda one: one.oldest_at_ms or one.now_ms),
        queue=queue,
        now_ms=max(one.now_ms for one in parts),
        paused=any(one.paused for one in parts),
        due_at_ms=min((one.due_at_ms for one in parts if one.due_at_ms is not None), default=None),
        **sums(parts),
    )


def sums(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """Return how many jobs of queues are where, and what their counters say, in sum, by field."""
    counters = Counter[str]()
    for one in snapshots:
        for name, value in one.counters.items():
            counters[name] += value
    counts = {name: sum(map(attrgetter(name), snapshots)) for name in _SUMMED}
    return {**counts, "counters": dict(counters)}
