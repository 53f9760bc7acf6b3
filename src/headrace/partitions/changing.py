"""How the number of a queue's partitions changes while it is used: consumers first, then producers.

More: consumers take from the new ones before any job goes there. Fewer: no job goes there any more, and
consumers take from them until they are empty; then they can be forgotten. Each step can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from headrace import operations as op
from headrace.errors import InvalidSetting
from headrace.flows import Flow
from headrace.keys import Keys, keys_of
from headrace.lanes import operations as lanes
from headrace.lanes.declared import PART
from headrace.lanes.limit import WHOLE_QUEUE
from headrace.operations import Operation
from headrace.partitions import requests
from headrace.partitions.names import beside, names_of
from headrace.partitions.requests import ONE, Count

HEARD_S: Final = 4.0
"""How long until all consumers and producers of a queue that is divided know that its partitions are others."""

HEARD_FIRST_S: Final = 35.0
"""How long until consumers know that a queue is divided that was not."""


def begin(queue: str, wanted: int) -> Flow[float]:
    """Take the first step; return how long to wait before the second, seconds; 0: there is none.

    Raises:
        InvalidSetting: there are queues that are called as its partitions would be.
        StoreError: Redis has not answered; it can be repeated.
    """
    k = keys_of(queue)
    asked: list[Operation[Any]] = [requests.counts([queue]), op.is_paused(k), lanes.limits(k)]
    counts, paused, limits = op.unfailed((yield asked))
    there: Count = counts[queue]
    if there == ONE and (others := beside(queue, (yield op.queues()))):
        raise InvalidSetting(
            f"there is a queue {others[0]} already, which would be taken for a partition of {queue}: move "
            f"its jobs, and headrace forget {others[0]}"
        )
    if there.filled >= wanted:
        op.unfailed((yield [requests.change(queue, there._replace(filled=wanted))]))
        return 0.0
    new = names_of(queue, wanted)[there.filled :]
    asked = [op.register(name) for name in new]
    asked += [op.pause(keys_of(name), paused=True) for name in new if paused]
    # What an application declares, consumers do.
    if by_operator := {name: text for name, text in limits.items() if name.startswith("!")}:
        asked += [one for name in new for one in lanes.declaration(keys_of(name), by_operator)]
    taken = max(wanted, there.taken)
    if f"!{WHOLE_QUEUE}" in by_operator:
        asked += requests.shares(names_of(queue, taken))
    op.unfailed((yield [*asked, requests.change(queue, Count(there.filled, taken))]))
    return HEARD_FIRST_S if there == ONE else HEARD_S


def fill(queue: str, wanted: int) -> Flow[None]:
    """Have producers divide jobs among so many, which consumers know: the second step.

    Raises:
        StoreError: Redis has not answered; it can be repeated.
    """
    counts = yield requests.counts([queue])
    yield requests.change(queue, Count(wanted, max(wanted, counts[queue].taken)))


class Retired(NamedTuple):
    """The partitions where no job goes any more.

    Attributes:
        left: how many jobs they hold.
        empty: when they hold none: all of them, which can be forgotten.
    """

    left: int = 0
    empty: Sequence[Keys] = ()


def retire(queue: str) -> Flow[Retired]:
    """Have consumers take no more from the partitions where no job goes, if all are empty.

    Raises:
        StoreError: Redis has not answered; it can be repeated.
    """
    counts = yield requests.counts([queue])
    there: Count = counts[queue]
    old = [keys_of(name) for name in names_of(queue, there.taken)[there.filled :]]
    if not old:
        return Retired()
    snapshots = op.snapshots_of((yield op.snapshots(old)))
    if left := sum(one.size for one in snapshots):
        return Retired(left)
    # A queue that was divided stays known as one, for a job may come late.
    yield requests.change(queue, Count(there.filled, max(2, there.filled)))
    limits: dict[str, str] = yield lanes.limits(keys_of(queue))
    if PART in limits:
        op.unfailed((yield requests.shares(names_of(queue, there.filled))))
    return Retired(empty=old)
