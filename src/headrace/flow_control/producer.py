"""The producer of an application: jobs that wait for limits go into their lanes, all others as ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from headrace import operations as op
from headrace.errors import StoreError, StoreUnavailable
from headrace.flows import Flow, chunks
from headrace.keys import keys_of
from headrace.lanes import operations as lanes
from headrace.producer import Call, EnqueueReplies, Producer, Script

_lane = attrgetter("lane")


class LaneProducer(Producer):
    """A producer that knows lanes.

    Args:
        url: where Redis is.
        limits_of: gives the limits that hold in a queue: they are declared before its first job in a lane.
        options: as ``Producer`` has them.
    """

    def __init__(
        self, url: str, limits_of: Callable[[str], Mapping[str, str]], **options: Any
    ) -> None:
        super().__init__(url, **options)
        self._limits_of = limits_of
        self._declared: set[str] = set()

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
        """Enqueue jobs, as a flow; before the first of a queue that wait in lanes, declare its limits."""
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
