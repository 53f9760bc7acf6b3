"""What is asked of Redis about partitions: how many a queue has, and who consumes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headrace.keys import PARTITIONS, keys_of
from headrace.lanes import operations as lanes
from headrace.lanes.declared import shared
from headrace.operations import Operation, command, nothing, run, text, texts

AWAY_MS: Final = 3_400
"""Who has not attended for so long has gone: two calls can fail before, which come every second and a half."""


class Count(NamedTuple):
    """How many partitions a queue has.

    Attributes:
        filled: among so many producers divide its jobs.
        taken: so many consumers take from; more than are filled while their number changes.
    """

    filled: int = 1
    taken: int = 1


ONE: Final = Count()


class Share(NamedTuple):
    """Which of a queue's consumers one is.

    Attributes:
        rank: its number, from 0, in the order in which they came.
        members: how many they are.
    """

    rank: int
    members: int


def own_of(count: int, share: Share) -> range:
    """Return which of so many partitions are a consumer's own: each is somebody's, and each one has some."""
    step = min(share.members, count)
    return range(share.rank % step, count, step)


def _count(raw: Any) -> Count:
    words = text(raw).split() if raw is not None else []
    return Count(*map(int, words)) if len(words) == 2 and all(map(str.isdigit, words)) else ONE


def counts(queues: Sequence[str]) -> Operation[dict[str, Count]]:
    """Return how many partitions each of these queues has."""

    def parse(raw: Any) -> dict[str, Count]:
        return {queue: _count(one) for queue, one in zip(queues, raw, strict=True)}

    return command("HMGET", PARTITIONS, *queues, parse=parse)


def divided(found: dict[str, Count]) -> dict[str, int]:
    """Return among how many partitions the jobs of queues go, of those that have several."""
    return {queue: count.filled for queue, count in found.items() if count.filled > 1}


def all_counts() -> Operation[dict[str, Count]]:
    """Return how many partitions queues have, those that have several, or had."""

    def parse(raw: Any) -> dict[str, Count]:
        return {text(queue): _count(one) for queue, one in zip(raw[::2], raw[1::2], strict=True)}

    return command("HGETALL", PARTITIONS, parse=parse)


def declare(queue: str, count: int) -> Operation[None]:
    """Say how many partitions a queue has, unless that is known already."""
    return command("HSETNX", PARTITIONS, queue, f"{count} {count}", parse=nothing)


def declared(partitions: Mapping[str, int]) -> list[Operation[Any]]:
    """Say how many partitions queues have, unless that is known; the last answer: how many they have."""
    return [*(declare(queue, n) for queue, n in partitions.items()), counts([*partitions])]


def change(queue: str, count: Count) -> Operation[None]:
    """Say how many partitions a queue has from now on."""
    return command("HSET", PARTITIONS, queue, f"{count.filled} {count.taken}", parse=nothing)


def shares(parts: Sequence[str]) -> list[Operation[Any]]:
    """Share the limit of a whole queue among its partitions."""
    return [
        one
        for number, name in enumerate(parts)
        for one in lanes.declaration(keys_of(name), shared(number, len(parts)))
    ]


def places_of(queue: str) -> tuple[str, str]:
    """Where the consumers of a queue are: when each came, and when it was there last."""
    pending = keys_of(queue).pending
    return f"{pending}:members", f"{pending}:present"


def attend(queue: str, consumer: str) -> Operation[Share]:
    """Say that a consumer of a queue is there."""
    return run(
        "partitions/attend",
        places_of(queue),
        (consumer, AWAY_MS),
        lambda raw: Share(*map(int, raw)),
    )


def members(queue: str) -> Operation[list[str]]:
    """Return the consumers of a queue, in the order in which they came."""
    return command("ZRANGE", places_of(queue)[0], 0, -1, parse=texts)


def leave(queue: str, consumer: str) -> list[Operation[None]]:
    """Say that a consumer takes no more jobs of a queue."""
    return [command("ZREM", place, consumer, parse=nothing) for place in places_of(queue)]
