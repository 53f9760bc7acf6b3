"""Marks: up to where each webhook has been told, in Redis, so that it goes on from there after a restart.

headrace:webhooks  hash  "name" -> when it was first seen (ms);
                         "name dead queue" -> how many dead letters were counted when it was told last, a
                         space, when that was (ms); "name age queue" -> since when its jobs are too old (ms)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headrace.keys import Keys
from headrace.operations import Operation, command, nothing, run

MARKS: Final = "headrace:webhooks"


class Told(NamedTuple):
    """How many dead letters were counted when they were told of last, and when that was (ms)."""

    counted: int
    at_ms: int


def read() -> Operation[dict[str, list[int]]]:
    """Read all marks; those that somebody else has written are passed over."""

    def parse(raw: Any) -> dict[str, list[int]]:
        pairs = zip(raw[::2], raw[1::2], strict=True)
        return {
            name.decode(errors="replace"): [*map(int, numbers)]
            for name, said in pairs
            if (numbers := said.split()) and all(one.isdigit() for one in numbers)
        }

    return command("HGETALL", MARKS, parse=parse)


def write(marks: Mapping[str, Sequence[int]]) -> Operation[None]:
    """Set marks."""
    pairs = [text for name, said in marks.items() for text in (name, " ".join(map(str, said)))]
    return command("HSET", MARKS, *pairs, parse=nothing)


def drop(names: Sequence[str]) -> Operation[None]:
    """Forget marks."""
    return command("HDEL", MARKS, *names, parse=nothing)


class Letters(NamedTuple):
    """Letters that are not told of yet.

    Attributes:
        counted: how many are told of when these are.
        all: whether there are no others.
        raw: their bytes, the oldest first.
        older: those before them, which may be told of, or not: by letters that nobody has counted (of plain
            clients, or of another server) they may have been pushed out of the places that are looked at.
    """

    counted: int
    all: bool
    raw: list[bytes]
    older: list[bytes]


def letters(k: Keys, told: int, limit: int, margin: int = 0) -> Operation[Letters]:
    """Read the oldest letters of a queue that are not told of, when so many were counted before.

    Args:
        k: the queue.
        told: how many.
        limit: so many at most; fewer, if they are large.
        margin: so many older ones, too.
    """
    return run(
        "webhooks/letters",
        (k.dead, k.stats),
        (told, limit, margin),
        lambda raw: Letters(int(raw[0]), raw[1] == 1, raw[2], raw[3]),
    )
