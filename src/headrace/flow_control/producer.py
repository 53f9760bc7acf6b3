"""The producer of an application that limits or divides queues: it knows of lanes and of partitions."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from headrace import operations as op
from headrace.clock import monotonic
from headrace.errors import StoreError, StoreUnavailable
from headrace.flows import Flow, chunks
from headrace.keys import keys_of
from headrace.lanes import operations as lanes
from headrace.partitions import requests
from headrace.partitions.declared import Partitions
from headrace.producer import Call, EnqueueReplies, Producer, Script

_lane = attrgetter("lane")

_ASK_EVERY_S: Final = 1.5
"""How long a producer may not know that there are more partitions, or fewer: until its next call after that."""


class LaneProducer(Producer):
    """A producer that puts jobs that wait for limits into their lanes, and learns how many partitions queues have.

    Args:
        url: where Redis is.
        limits_of: gives the limits that hold in a queue: they are declared before its first job in a lane.
        partitions: the queues that are divided.
        options: as ``Producer`` has them.
    """

    def __init__(
        self,
        url: str,
        limits_of: Callable[[str], Mapping[str, str]],
        partitions: Partitions,
        **options: Any,
    ) -> None:
        super().__init__(url, **options)
        self._limits_of = limits_of
        self._declared: set[str] = set()
        self._partitions = partitions
        self._ask_at = 0.0

    @staticmethod
    def plan(calls: Sequence[Call[Any]], max_pending: int) -> list[Script]:
        """Group jobs into scripts."""
        if not any(map(_lane, calls)):
            return Producer.plan(calls, max_pending)
        waiting: defaultdict[str, list[Call[Any]]] = defaultdict(list)
        others: list[Call[Any]] = []
        for one in calls:
            # What waits for an instant, or has a key, goes into its lane when it has come to a consumer.
            direct = one.lane and not one.due and one.key is None
            (waiting[one.queue] if direct else others).append(one)
        scripts = Producer.plan(others, max_pending)
        for queue, group in waiting.items():
            start = 0
            for jobs in chunks([one.job for one in group]):
                some = group[start : start + len(jobs)]
                pairs = [(one.lane, one.job) for one in some]
                enqueue = lanes.enqueue(keys_of(queue), pairs, max_pending=max_pending)
                scripts.append(Script(enqueue, some))
                start += len(jobs)
        return scripts

    def trips(self, calls: Sequence[Call[Any]]) -> Flow[EnqueueReplies]:
        """Enqueue jobs, as a flow; before the first of a queue that wait in lanes, declare its limits.

        And now and then ask how many partitions there are: jobs that are made from then on go by that.
        """
        if self._partitions.declared and monotonic() >= self._ask_at:
            self._ask_at = monotonic() + _ASK_EVERY_S
            with contextlib.suppress(StoreError):  # the jobs' own trip tells of it
                [*_, counts] = op.unfailed((yield requests.declared(self._partitions.declared)))
                self._partitions.said(counts)
        if any(map(_lane, calls)):
            new = {one.queue for one in calls if one.lane} - self._declared
            try:
                for queue in sorted(new):
                    declaration = lanes.declaration(keys_of(queue), self._limits_of(queue))
                    op.unfailed((yield declaration))
                    self._declared.add(queue)
            except StoreError as error:
                # Whatever became of the declaration, no job was sent.
                sent_none = StoreUnavailable(str(error)) if error.may_have_happened else error
                replies = EnqueueReplies()
                replies.fail(self.plan(calls, self.max_pending), sent_none)
                return replies
        return (yield from super().trips(calls))
