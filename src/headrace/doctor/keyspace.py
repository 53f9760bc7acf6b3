"""Walks through the keys of a Redis: queues that nobody registered, and keys that never expire.

In steps of SCAN, and only so far: on a Redis that holds much else, the rest is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace import operations as op
from headrace.errors import StoreError
from headrace.flows import Flow
from headrace.keys import Keys, is_name, keys_of
from headrace.operations.request import text

MOST_KEYS: Final = 100_000
_A_STEP: Final = 1_000
_MOST_ENDLESS: Final = 1_000  # of a queue: the rest at the next run
_SEEN: Final = 8  # jobs by which a queue is recognised

TYPES: Final = {
    "pending": "list", "processing": "list", "dead": "list", "delayed": "zset", "priority": "zset",
    "leases": "zset", "claims": "hash", "nudge": "list", "stats": "hash", "meta": "hash",
    "cancelled": "zset",
}  # fmt: skip
"""The type of each of a queue's keys, by its name in ``Keys``."""

_MODEL: Final = keys_of("q")
_PLACES: Final = {
    getattr(_MODEL, name)[1:]: name
    for name in ("pending", "processing", "dead", "delayed", "priority")
}
_EXPIRING: Final = (_MODEL.result("")[1:], _MODEL.unique("")[1:])


@dataclass(frozen=True, slots=True)
class Keyspace:
    """What stands in a Redis beside the queues that are registered.

    Attributes:
        looked_at: how many keys were looked at.
        total: how many there are.
        strays: queues that hold jobs, as Headrace or its plain clients would, and are not registered.
        strangers: keys that are called as if they were a queue's, and hold something else.
        endless: keys of results and of unique keys that never expire, by queue.
    """

    looked_at: int
    total: int
    strays: tuple[str, ...]
    strangers: tuple[str, ...]
    endless: dict[str, tuple[str, ...]]


def look(registered: frozenset[str]) -> Flow[Keyspace]:
    """Walk through the keys."""
    total: int = yield op.command("DBSIZE", parse=int)
    looked_at, cursor = 0, ""
    found: dict[str, list[str]] = {}
    endless: dict[str, list[str]] = {}
    while cursor != "0" and looked_at < MOST_KEYS:
        scan = op.command("SCAN", cursor or "0", "COUNT", _A_STEP, parse=lambda raw: raw)
        raw_cursor, raw_names = yield scan
        cursor = text(raw_cursor)
        looked_at += len(raw_names)
        names = [(name, *_parted(name)) for name in map(_readable, raw_names)]
        places = [
            (name, queue)
            for name, queue, rest in names
            if rest in _PLACES and queue not in registered
        ]
        expiring = [(name, queue) for name, queue, rest in names if rest.startswith(_EXPIRING)]
        types = yield [op.command("TYPE", name, parse=text) for name, _ in places]
        for (name, queue), type_ in zip(places, types, strict=True):
            if type_ == TYPES[_PLACES[name.removeprefix(queue)]]:
                found.setdefault(queue, []).append(name)
        ttls = yield [op.command("PTTL", name, parse=int) for name, _ in expiring]
        for (name, queue), ttl_ms in zip(expiring, ttls, strict=True):
            kept = endless.setdefault(queue, [])
            if ttl_ms == -1 and len(kept) < _MOST_ENDLESS:
                kept.append(name)
    strays, strangers = yield from _sorted_out(found)
    never = {queue: tuple(sorted(names)) for queue, names in endless.items() if names}
    return Keyspace(looked_at, max(total, looked_at), strays, strangers, never)


def _readable(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""


def _parted(name: str) -> tuple[str, str]:
    """Part a key into the queue that it would be of and the rest; a rest that is no queue's: "?"."""
    queue, colon, rest = name.partition(":")
    return (queue, colon + rest) if is_name(queue) else ("", "?")


def _sorted_out(found: dict[str, list[str]]) -> Flow[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Tell queues from what others keep under such names: by the first of the jobs in each place."""
    strays, strangers = [], []
    for queue, names in sorted(found.items()):
        reads = [
            (op.peek if TYPES[_PLACES[name.removeprefix(queue)]] == "list" else op.peek_sorted)(
                name, 0, _SEEN - 1
            )
            for name in names
        ]
        jobs = [job for some in (yield reads) for job in some if not isinstance(some, StoreError)]
        if jobs and all(b'"task"' in job or b'"error"' in job for job in jobs):
            strays.append(queue)
        elif names != [queue]:  # any list may be called so
            strangers += sorted(names)
    return tuple(strays), tuple(strangers)


def wrong_types(k: Keys) -> Flow[dict[str, str]]:
    """Return those of a queue's keys that are of another type than they should be, and that type."""
    names = list(TYPES)
    types = yield [op.command("TYPE", getattr(k, name), parse=text) for name in names]
    pairs = zip(names, types, strict=True)
    return {
        getattr(k, name): type_
        for name, type_ in pairs
        if not isinstance(type_, StoreError) and type_ not in ("none", TYPES[name])
    }


def expected(k: Keys, key: str) -> str:
    """Return the type that one of a queue's keys should have."""
    return next(type_ for name, type_ in TYPES.items() if getattr(k, name) == key)
