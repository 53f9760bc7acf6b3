"""The outbox: outcomes that wait for the next round trip. While one is under way they collect."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Final

from headrace.consumer.claimed import Claimed
from headrace.keys import Keys
from headrace.operations import Outcome
from headrace.scripts import MAX_BYTES

_MOST: Final = 500  # outcomes in one call: seven arguments each, far below what Lua can unpack


@dataclass(frozen=True, slots=True)
class Batch:
    """Outcomes of one queue for one call."""

    k: Keys
    pairs: list[tuple[Claimed, Outcome]]


class Outbox:
    """Outcomes by queue, in the order in which they came."""

    def __init__(self) -> None:
        self._by_queue: defaultdict[str, deque[tuple[Claimed, Outcome]]] = defaultdict(deque)

    def __bool__(self) -> bool:
        return any(self._by_queue.values())

    def add(self, claimed: Claimed, outcome: Outcome) -> None:
        """Put an outcome in."""
        self._by_queue[claimed.k.queue].append((claimed, outcome))

    def take(self) -> list[Batch]:
        """Take out what one call for each queue may carry."""
        batches: list[Batch] = []
        for waiting in self._by_queue.values():
            batch: list[tuple[Claimed, Outcome]] = []
            size, releases = 0, False
            while waiting and len(batch) < _MOST and size < MAX_BYTES:
                claimed, outcome = pair = waiting.popleft()
                batch.append(pair)
                size += len(claimed.job) + len(outcome.job) + len(outcome.result)
                releases = releases or outcome.verb == "release"
            if (
                releases
            ):  # they go to the front of the queue one by one: the oldest has to be the last
                batch.sort(key=lambda pair: -pair[0].number if pair[1].verb == "release" else 0)
            if batch:
                batches.append(Batch(batch[0][0].k, batch))
        return batches

    def put_back(self, batch: Batch) -> None:
        """Put outcomes back to the front: their call failed, and may be sent again."""
        self._by_queue[batch.k.queue].extendleft(reversed(batch.pairs))
