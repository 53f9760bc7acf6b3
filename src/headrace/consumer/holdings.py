"""What one consumer holds: its claims, by queue and id, in the order of their claim numbers.

Written by the event loop alone; the lease keeper's thread reads copies.
"""

from __future__ import annotations

from collections.abc import Iterable

from headrace.consumer.claimed import Claimed
from headrace.keys import Keys


class Holdings:
    """The claims of a consumer.

    Args:
        queues: the keys of its queues.
    """

    def __init__(self, queues: Iterable[Keys]) -> None:
        self._by_queue: dict[str, dict[str, Claimed]] = {k.queue: {} for k in queues}
        self._next = 1

    def __len__(self) -> int:
        return sum(map(len, self._by_queue.values()))

    def numbers(self, count: int) -> int:
        """Reserve claim numbers; gives the first."""
        first = self._next
        self._next += count
        return first

    def add(self, claimed: Claimed) -> None:
        """Note a claim."""
        self._by_queue[claimed.k.queue][claimed.head.id] = claimed

    def remove(self, claimed: Claimed) -> None:
        """Forget a claim; nothing happens when it is forgotten already."""
        mine = self._by_queue[claimed.k.queue]
        if mine.get(claimed.head.id) is claimed:
            del mine[claimed.head.id]

    def get(self, queue: str, job_id: str) -> Claimed | None:
        """Give the claim of a job, if it is held, and not about to be given up."""
        claimed = self._by_queue[queue].get(job_id)
        return None if claimed is None or claimed.settling else claimed

    def of(self, queue: str) -> dict[str, Claimed]:
        """Copy the claims of a queue: safe from any thread, for the copy is one step to Python."""
        return self._by_queue[queue].copy()

    def queues(self) -> list[str]:
        """List the queues, in the consumer's order."""
        return list(self._by_queue)

    def signed(self, claimed: Claimed) -> int:
        """Give the claim number, negative when the item is nearer to the old end of processing.

        ``LREM`` costs what it has to walk. Items stand there in the order of their claims, about:
        other consumers' items stand between ours.
        """
        mine = self._by_queue[claimed.k.queue]
        oldest = next(iter(mine.values()), claimed).number
        number = claimed.number
        return -number if number - oldest <= self._next - number else number
