"""Walks through the keys of a Redis: queues that nobody registered, and keys that never expire.

In steps of SCAN, and only so far: on a Redis that holds much else, the rest is not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from headrace import keys
from headrace import operations as op
from headrace.doctor.places import PLACES, Place, key_of, page, type_of
from headrace.errors import StoreError, StoreRefused
from headrace.flows import Flow
from headrace.keys import Keys, is_name, keys_of
from headrace.lanes import lane_keys
from headrace.moving import moving_of
from headrace.operations import Operation, text
from headrace.partitions.requests import places_of
from headrace.reports.keys import progress_of, stream_of
from headrace.timings.keys import SLOTS, minutes_of, timings_of
from headrace.webhooks.marks import MARKS
from headrace.workflows.keys import unfinished_of

_MOST_KEYS: Final = 100_000  # about a second of scanning
_A_STEP: Final = 1_000
_MOST_ENDLESS: Final = 1_000  # of a queue: the rest at the next run
_SEEN: Final = 8  # jobs by which a queue is recognised

OWN_TYPES: Final = {
    keys.QUEUES: "set", keys.CONSUMERS: "hash", keys.FORGOTTEN: "hash", keys.LEADER: "string",
    keys.WORKFLOWS: "set", keys.PARTITIONS: "hash",
    SLOTS: "hash", MARKS: "hash", keys.SCHEDULES: "hash", keys.SCHEDULE_DUE: "zset", keys.SCHEDULE_STATE: "hash",
}  # fmt: skip
"""The type of each key that is no queue's."""

_MODEL: Final = keys_of("q")
_PLACES: Final = {key_of(_MODEL, place)[1:]: place for place in PLACES}
"""The place that a key holds, by what follows the queue's name."""

_EXPIRING: Final = tuple(
    key[1:]
    for key in (
        *(_MODEL.result(""), _MODEL.history(""), _MODEL.unique("")),
        *(progress_of(_MODEL, ""), stream_of(_MODEL, "")),
    )
)


class WrongType(NamedTuple):
    """A key that is of another type than it should be."""

    key: str
    found: str
    expected: str


@dataclass(frozen=True, slots=True)
class Keyspace:
    """What stands in a Redis.

    Attributes:
        wrong: Headrace's own keys that are of a wrong type: then the registry is not read.
        registered: what stands in the registry.
        refused: why the rest is not known; "" if it is.
        looked_at: how many keys were looked at.
        total: how many there are.
        strays: queues that hold jobs, as Headrace or its plain clients would, and are not registered.
        strangers: keys that are called as if they were a queue's, and hold something else.
        endless: keys of results, reports and unique keys that never expire, by queue.
    """

    wrong: tuple[WrongType, ...] = ()
    registered: tuple[str, ...] = ()
    refused: str = ""
    looked_at: int = 0
    total: int = 0
    strays: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    endless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nameless(self) -> list[str]:
        """What stands in the registry and cannot be a queue's name."""
        return [name for name in self.registered if not is_name(name)]


def types_of(k: Keys) -> dict[str, str]:
    """Return the type that each of a queue's keys should have."""
    places, own = {key_of(k, place): type_of(place) for place in PLACES}, lane_keys(k)
    lanes = (own.lanes, own.slots, own.admitted)
    zsets = (k.leases, k.cancelled, unfinished_of(k), *lanes, *places_of(k.queue))
    sums = timings_of(k), minutes_of(k)
    hashes = (k.claims, k.stats, k.meta, own.limits, own.buckets, *sums)
    others = {k.nudge: "list", moving_of(k): "list"} | dict.fromkeys(zsets, "zset")
    return places | others | dict.fromkeys(hashes, "hash")


def wrong_types(expected: Mapping[str, str]) -> Flow[tuple[WrongType, ...]]:
    """Return those of these keys that are of another type than they should be."""
    types = yield [_type(key) for key in expected]
    return tuple(
        WrongType(key, found, should)
        for (key, should), found in zip(expected.items(), types, strict=True)
        if not isinstance(found, StoreError) and found not in ("none", should)
    )


def look() -> Flow[Keyspace]:
    """Read the registry, and walk through the keys."""
    space = Keyspace(wrong=(yield from wrong_types(OWN_TYPES)))
    try:
        if not space.wrong:
            names: list[bytes] = yield op.command("SMEMBERS", keys.QUEUES, parse=list)
            registered = sorted(name.decode(errors="backslashreplace") for name in names)
            space = replace(space, registered=tuple(registered))
        return (yield from _walk(space))
    except StoreRefused as error:
        return replace(space, refused=str(error))


def _walk(space: Keyspace) -> Flow[Keyspace]:
    total: int = yield op.command("DBSIZE", parse=int)
    looked_at, cursor = 0, ""
    found: defaultdict[str, list[Place]] = defaultdict(list)
    endless: defaultdict[str, list[str]] = defaultdict(list)
    while cursor != "0" and looked_at < _MOST_KEYS:
        scan = op.command("SCAN", cursor or "0", "COUNT", _A_STEP, parse=lambda raw: raw)
        raw_cursor, raw_names = yield scan
        cursor = text(raw_cursor)
        looked_at += len(raw_names)
        parted = [*map(_parted, raw_names)]
        places = [
            (queue, _PLACES[rest])
            for queue, rest in parted
            if rest in _PLACES and queue not in space.registered
        ]
        types = yield [_type(key_of(keys_of(queue), place)) for queue, place in places]
        for (queue, place), type_ in zip(places, types, strict=True):
            if type_ == type_of(place):
                found[queue].append(place)
        expiring = [(queue, rest) for queue, rest in parted if rest.startswith(_EXPIRING)]
        ttls = yield [op.command("PTTL", queue + rest, parse=int) for queue, rest in expiring]
        for (queue, rest), ttl_ms in zip(expiring, ttls, strict=True):
            if ttl_ms == -1 and len(endless[queue]) < _MOST_ENDLESS:
                endless[queue].append(queue + rest)
    strays, strangers = yield from _sorted_out(found)
    return replace(
        space,
        looked_at=looked_at,
        total=max(total, looked_at),
        strays=strays,
        strangers=strangers,
        endless={queue: tuple(sorted(names)) for queue, names in endless.items() if names},
    )


def _type(key: str) -> Operation[str]:
    return op.command("TYPE", key, parse=text)


def _parted(raw: bytes) -> tuple[str, str]:
    """Part a key into the queue that it would be of and the rest; a rest that is no queue's: "?"."""
    queue, colon, rest = raw.decode(errors="replace").partition(":")
    return (queue, colon + rest) if is_name(queue) else ("", "?")


def _sorted_out(found: dict[str, list[Place]]) -> Flow[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Tell queues from what others keep under such names: by the first of the jobs in each place."""
    strays: list[str] = []
    strangers: list[str] = []
    for queue, places in sorted(found.items()):
        k = keys_of(queue)
        reads: list[Any] = yield [page(k, place, 0, _SEEN) for place in places]
        jobs = [one.job for read in reads if not isinstance(read, StoreError) for one in read]
        if jobs and all(b'"task"' in job or b'"error"' in job for job in jobs):
            strays.append(queue)
        elif places != ["pending"]:  # any list may be called so
            strangers += sorted(key_of(k, place) for place in places)
    return tuple(strays), tuple(strangers)
