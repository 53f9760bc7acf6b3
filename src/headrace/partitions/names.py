"""What the partitions of a queue are called, and which of them a key belongs to. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from hashlib import blake2b
from typing import Final, TypeVar

V = TypeVar("V")

MOST: Final = 1_000
"""Partitions of one queue: an idle consumer has a connection for each."""

_PARTITION: Final = re.compile(r"(.+)@([1-9]\d{0,2})")


def name_of(queue: str, number: int) -> str:
    """Return what a partition is called: the first as the queue, so that a plain client finds it."""
    return f"{queue}@{number}" if number else queue


def names_of(queue: str, count: int) -> list[str]:
    """Return what so many partitions are called."""
    return [name_of(queue, number) for number in range(count)]


def split(name: str) -> tuple[str, int]:
    """Return the queue and the number of a partition; of what cannot be one but the first, itself and 0."""
    found = _PARTITION.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 0)


def mark_of(name: str) -> str:
    """Return what the ids of a partition's jobs end with: "" in the first."""
    number = split(name)[1]
    return f"@{number}" if number else ""


def place_of(job_id: str, queue: str) -> str:
    """Return the partition of a queue that a job went to, by its id."""
    mark = mark_of(job_id)
    return queue if not mark or queue.endswith(mark) else queue + mark


def number_for(key: str, count: int) -> int:
    """Return the partition of a key: always the same, until there are more or fewer partitions.

    When n come to m, n in n + m keys move, to a new one each, and no other does.
    """
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest()
    return jump(int.from_bytes(digest), count)


def jump(state: int, count: int) -> int:
    """Return the bucket of a number of 64 bits among so many.

    Jump consistent hash: Lamping & Veach, arXiv:1406.2294 (2014).
    """
    number, following = 0, 0
    while following < count:
        number = following
        state = (state * 2862933555777941757 + 1) % (1 << 64)
        following = int((number + 1) * ((1 << 31) / ((state >> 33) + 1)))
    return number


class ByQueue(dict[str, V]):
    """What is said of queues, by name: what is said of a queue holds for its partitions, too."""

    def __contains__(self, queue: object) -> bool:
        known = super().__contains__
        return bool(self) and (known(queue) or known(split(str(queue))[0]))

    def get(self, queue: str, default: V | None = None) -> V | None:  # type: ignore[override]
        """Return what is said of a queue, or of the queue whose partition it is."""
        if not self:
            return default
        found = super().get(queue)
        return super().get(split(queue)[0], default) if found is None else found


def beside(queue: str, names: Collection[str]) -> list[str]:
    """Return those of these names that are partitions of a queue, by number; not its first."""
    numbers = sorted(number for of, number in map(split, names) if of == queue and number)
    return [name_of(queue, number) for number in numbers]
