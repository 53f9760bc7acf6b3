"""What an application says of the partitions of queues, and to which one each of its jobs goes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from headrace.errors import InvalidJob, InvalidSetting
from headrace.keys import keys_of
from headrace.lanes.declared import By, QueueLimits, check_by, key_of
from headrace.lanes.limit import WHOLE_QUEUE, lane_of
from headrace.partitions.names import MOST, name_of, number_for, split
from headrace.partitions.requests import ONE, Count

_TOGETHER: Final = 100
"""So many jobs in turn go to one partition: what travels together stays together, in one script."""


class Partitions:
    """The partitioned queues of an application. Safe from any thread.

    Attributes:
        declared: how many partitions each is to have, by the queue's name.
    """

    def __init__(self) -> None:
        self.declared: dict[str, int] = {}
        self._by: dict[str, By] = {}
        self._counts: dict[str, Count] = {}
        # Not all processes begin with the same partition.
        self._turn = count(random.randrange(MOST * _TOGETHER))

    def declare(self, queue: str, partitions: int, by: By, limits: QueueLimits | None) -> None:
        """Divide the jobs of a queue, which has these limits, among so many partitions.

        Raises:
            InvalidSetting: an argument has no meaning, or there are fewer slots than partitions.
        """
        keys_of(queue)
        whole = isinstance(partitions, int) and not isinstance(partitions, bool)
        if not whole or not 1 <= partitions <= MOST:
            raise InvalidSetting(
                f"partitions={partitions!r} must be a whole number from 1 to {MOST:,}"
            )
        if split(queue)[1]:
            raise InvalidSetting(
                f"{queue!r} is what a partition is called: divide {split(queue)[0]!r}"
            )
        check_by(by, "by")
        _check_limits(queue, limits, partitions)
        self.declared[queue], self._by[queue] = partitions, by
        self._counts[queue] = Count(partitions, partitions)

    def check(self, queue: str, limits: QueueLimits) -> None:
        """Check that a queue may have these limits: if it is divided, each partition needs a share.

        Raises:
            InvalidSetting: it may not.
        """
        _check_limits(queue, limits, self.declared.get(queue, 1))

    def said(self, counts: Mapping[str, Count]) -> None:
        """Take what Redis has said of queues: it counts from now on."""
        self._counts |= counts

    def whole(self, queue: str) -> str:
        """Return the queue whose partition this is; itself if it is none."""
        whole = split(queue)[0]
        return whole if whole in self.declared else queue

    def part(self, queue: str) -> tuple[int, int] | None:
        """Return the number of a partition, and among how many a limit of the queue is shared.

        While their number changes, it is the greater one: a limit is rather not reached than exceeded.
        None where nothing is known of partitions: then others may know.
        """
        whole, number = split(queue)
        there = self._counts.get(whole, ONE)
        if there == ONE:
            return None
        # A queue that is divided no more looks like one that becomes two: see ``changing.retire``.
        return number, 1 if there.filled == 1 and there.taken <= 2 else there.taken

    def place(
        self,
        queue: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        names: Sequence[str] = (),
        key: str | None = None,
        lane: str = "",
    ) -> str:
        """Return the partition that a call goes to; the queue itself if it has none.

        Jobs with one key go to one partition: the key that ``by`` gives, else their lane's, else the one
        that they have alone. Others in turn. So jobs that one limit bounds are together, and it holds.

        Raises:
            InvalidJob: the key is too long, or the function that gives it has failed; or a limit of its
                task bounds jobs together that go to several partitions.
        """
        filled = self._counts[queue].filled if queue in self.declared else 1
        if filled == 1:
            return queue
        together = key_of(self._by[queue], args, kwargs, names)
        name = lane.partition("/")[0]
        if together and name not in {"", WHOLE_QUEUE} and lane != lane_of(name, together):
            raise InvalidJob(
                f"a limit holds in one partition, and queue {queue!r} is divided by another key than the "
                "limit of this job's task: have limit_by= name the same key as partition_queue(by=), or "
                "the task in a queue of its own"
            )
        together = together or lane or key or ""
        if together:
            return name_of(queue, number_for(together, filled))
        return name_of(queue, next(self._turn) // _TOGETHER % filled)


def _check_limits(queue: str, limits: QueueLimits | None, partitions: int) -> None:
    limit = limits.limit if limits is not None else None
    if limit is not None and 0 < limit.concurrency < partitions:
        raise InvalidSetting(
            f"queue {queue!r} has {partitions} partitions, in each of which one job at least may run: "
            f"concurrency_limit={limit.concurrency} is too few, or they are too many"
        )


UNDIVIDED: Final = Partitions()
"""Of a task that no application has yet."""
